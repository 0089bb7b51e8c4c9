//! One job from its cursor to its end: buckets in order, both listings side by side, in batches.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::World;
use super::job::{Kind, Progress, Spec};
use super::listing::{Lister, Place};
use super::merge::{Merge, Pair};
use super::pace::Pace;
use super::running::Running;
use super::sieve::Sieve;
use crate::journal::Window;
use crate::journal::entry::ObjectKey;

/// Keys of a job in the journal at one time.
const WINDOW: usize = 256;
/// Pairs looked at together.
const BATCH: usize = 500;
/// How often the cursor is kept, at most.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// How often it is told where a job is that waits.
const PUBLISHED: Duration = Duration::from_millis(500);
/// Pause before a journal that cannot be written is tried again.
const JOURNAL_PAUSE: Duration = Duration::from_secs(2);

/// A job at work.
pub(super) struct Runner<'a> {
    pub(super) world: &'a World,
    pub(super) spec: &'a Spec,
    pub(super) running: &'a Running,
    pub(super) progress: Progress,
    pub(super) window: Window,
    keys: Pace,
    pub(super) bytes: Pace,
    saved_at: Instant,
    begun: (Instant, u64),
    /// Confirmed and parked before this process.
    before: (u64, u64),
    total: Arc<Total>,
    counting: JoinSet<()>,
}

/// Keys of main there are to look at, counted beside the job.
#[derive(Debug, Default)]
struct Total {
    keys: AtomicU64,
    known: std::sync::atomic::AtomicBool,
}

impl<'a> Runner<'a> {
    pub(super) fn new(world: &'a World, running: &'a Running, progress: Progress) -> Self {
        let spec = &running.spec;
        Self {
            world,
            spec,
            running,
            window: Window::new(WINDOW),
            keys: Pace::new(spec.rate),
            bytes: Pace::new(spec.bandwidth),
            saved_at: Instant::now(),
            begun: (Instant::now(), progress.counts.scanned),
            before: (progress.counts.confirmed, progress.counts.parked),
            progress,
            total: Arc::default(),
            counting: JoinSet::new(),
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// Why the job cannot go on.
    pub(super) async fn run(mut self) -> Result<Progress, String> {
        let buckets = self.buckets().await?;
        if self.spec.kind == Kind::Backfill || self.spec.deep {
            self.count(&buckets);
        }
        for bucket in buckets {
            if bucket < self.progress.bucket {
                continue;
            }
            if bucket != self.progress.bucket {
                self.progress.bucket.clone_from(&bucket);
                self.progress.main_after = None;
                self.progress.mirror_after = None;
            }
            self.bucket(&bucket).await?;
            self.progress.buckets += 1;
            // The least name that comes behind this one.
            self.progress.bucket = format!("{bucket}\0");
            self.save().await;
        }
        self.wait_for_entries().await;
        Ok(self.progress)
    }

    /// The buckets to look at, in order.
    async fn buckets(&mut self) -> Result<Vec<String>, String> {
        let World { main, mirror, .. } = self.world;
        if let Some(bucket) = &self.spec.bucket {
            let on_main = exists(main, bucket).await?;
            let there = self.world.mirror_bucket(bucket);
            if !on_main && (self.spec.kind == Kind::Backfill || !exists(mirror, &there).await?) {
                return Err(format!("there is no bucket {bucket} on main"));
            }
            return Ok(vec![bucket.clone()]);
        }
        let mut names = main.buckets().await.map_err(|error| format!("main: {error}"))?;
        names.retain(|name| !self.world.holds_copies(name));
        if self.spec.kind == Kind::Verify {
            match mirror.buckets().await {
                Ok(theirs) => {
                    let theirs = theirs.iter().filter_map(|n| n.strip_prefix(&self.world.prefix));
                    for name in theirs.filter(|name| names.binary_search(&(*name).into()).is_err())
                    {
                        // It may be anybody's: what is in it is not called a difference.
                        self.progress.remark(&format!(
                            "bucket {name} is on the mirror only; name it to compare it"
                        ));
                    }
                }
                Err(error) => self.progress.remark(&format!(
                    "the mirror does not list its buckets ({error}), so that a bucket which is \
                     only there goes unseen"
                )),
            }
        }
        Ok(names)
    }

    /// Counts main's keys beside the job, so that there is something to reckon with. A thousand
    /// keys cost one request.
    fn count(&mut self, buckets: &[String]) {
        let total = self.total.clone();
        let places: Vec<Place> = buckets.iter().map(|bucket| self.main_place(bucket)).collect();
        self.counting.spawn(async move {
            for place in places {
                let mut lister = Lister::new(place, None);
                loop {
                    match lister.peek().await {
                        Ok(Some(_)) => drop(lister.take()),
                        Ok(None) => break,
                        // The job itself will meet and tell it.
                        Err(_) => return,
                    }
                    total.keys.fetch_add(1, Ordering::Relaxed);
                }
            }
            total.known.store(true, Ordering::Relaxed);
        });
    }

    pub(super) fn main_place(&self, bucket: &str) -> Place {
        Place {
            upstream: self.world.main.clone(),
            who: "main",
            bucket: bucket.to_owned(),
            prefix: self.spec.prefix.clone(),
            may_be_missing: true,
            tries_max: None,
        }
    }

    fn mirror_place(&self, bucket: &str) -> Place {
        Place {
            upstream: self.world.mirror.clone(),
            who: "mirror",
            bucket: self.world.mirror_bucket(bucket),
            ..self.main_place(bucket)
        }
    }

    async fn bucket(&mut self, bucket: &str) -> Result<(), String> {
        let verify = self.spec.kind == Kind::Verify;
        let mut sieve = (verify && self.world.store.is_some()).then(Sieve::new);
        let whole = self.progress.main_after.is_none();
        let left = Lister::new(self.main_place(bucket), self.progress.main_after.clone());
        let right = Lister::new(self.mirror_place(bucket), self.progress.mirror_after.clone());
        let mut merge = Merge { left, right };
        loop {
            let mut batch: Vec<Pair> = Vec::with_capacity(BATCH);
            while batch.len() < BATCH
                && let Some(pair) = merge.next().await?
            {
                batch.push(pair);
            }
            if batch.is_empty() {
                break;
            }
            self.keys.take(u64::try_from(batch.len()).unwrap_or(0)).await;
            let (mut main_after, mut mirror_after) = (None, None);
            for pair in &batch {
                if let Some(listed) = &pair.left {
                    self.progress.counts.scanned += 1;
                    self.progress.counts.bytes += listed.size;
                    main_after = Some(listed.key.clone());
                    if let Some(sieve) = &mut sieve {
                        sieve.toggle(&listed.key);
                    }
                }
                if let Some(listed) = &pair.right {
                    mirror_after = Some(listed.key.clone());
                }
            }
            if verify {
                self.verify_batch(bucket, batch).await?;
            } else {
                self.backfill_batch(bucket, batch).await?;
            }
            self.progress.main_after = main_after.or(self.progress.main_after.take());
            self.progress.mirror_after = mirror_after.or(self.progress.mirror_after.take());
            self.publish();
            if self.saved_at.elapsed() >= SAVE_EVERY {
                self.save().await;
            }
        }
        if !merge.in_order() {
            self.progress.remark(&format!(
                "bucket {bucket} is not listed in the order of its keys' bytes by one side: keys \
                 were asked about one by one"
            ));
        }
        if let Some(sieve) = sieve {
            self.extra_rows(bucket, sieve, whole).await?;
        }
        if verify {
            self.look_again(bucket).await?;
        }
        Ok(())
    }

    /// Hands keys with their sizes to the journal, at the job's pace.
    pub(super) async fn enqueue(&mut self, bucket: &str, keys: Vec<(String, u64)>) {
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let group;
            (group, rest) = rest.split_at(together(rest, self.spec.bandwidth));
            self.bytes.take(group.iter().map(|(_, size)| size).sum()).await;
            let objects: Vec<ObjectKey> =
                group.iter().map(|(key, _)| ObjectKey::new(bucket, key)).collect();
            self.progress.counts.queued += u64::try_from(group.len()).unwrap_or(0);
            self.append(objects).await;
            self.publish();
        }
    }

    /// Hands keys to the journal, and tells meanwhile why that takes its time.
    async fn append(&mut self, objects: Vec<ObjectKey>) {
        let (journal, window) = (self.world.journal.clone(), self.window.clone());
        let running = self.running;
        let id = &running.id;
        loop {
            let mut appended = pin!(journal.append_background(&window, objects.clone(), id));
            let appended = loop {
                match tokio::time::timeout(PUBLISHED, &mut appended).await {
                    Ok(appended) => break appended,
                    Err(_) => self.publish(),
                }
            };
            let Err(error) = appended else { return };
            tracing::warn!(job = id, %error, "a job waits for the journal");
            // What is in it already is left out by the next try.
            tokio::time::sleep(JOURNAL_PAUSE).await;
        }
    }

    /// Waits for what was handed to the journal.
    async fn wait_for_entries(&mut self) {
        loop {
            self.publish();
            let settled = self.window.settled();
            if tokio::time::timeout(PUBLISHED, settled).await.is_ok() {
                break;
            }
        }
        let tally = self.window.tally();
        if tally.stuck > 0 {
            let reason = tally.error.as_deref().unwrap_or("no reason known");
            self.progress.remark(&format!(
                "{} keys keep failing and stay in the journal, which goes on trying: {reason}",
                tally.stuck
            ));
        } else if let (Some(reason), 1..) = (&tally.error, tally.parked) {
            self.progress.remark(&format!("{} keys are parked: {reason}", tally.parked));
        }
        self.publish();
    }

    /// Tells where the job is.
    pub(super) fn publish(&mut self) {
        let tally = self.window.tally();
        let (confirmed, parked) = self.before;
        self.progress.counts.confirmed = confirmed + tally.confirmed + tally.covered;
        self.progress.counts.parked = parked + tally.parked;
        let total = self.total.known.load(Ordering::Relaxed);
        let total = total.then(|| self.total.keys.load(Ordering::Relaxed));
        let counts = &self.progress.counts;
        let pace = Paced {
            scanned: counts.scanned.saturating_sub(self.begun.1),
            seconds: self.begun.0.elapsed().as_secs_f64(),
        };
        let eta = total.and_then(|total| pace.eta(total.saturating_sub(counts.scanned)));
        let message = if tally.stuck > 0 {
            let reason = tally.error.as_deref().unwrap_or_default();
            format!("{} keys keep failing: {reason}", tally.stuck)
        } else {
            let bucket = self.progress.bucket.trim_end_matches('\0');
            match total {
                None if self.spec.kind == Kind::Backfill => {
                    let counted = self.total.keys.load(Ordering::Relaxed);
                    format!("bucket {bucket}; counting main's keys, {counted} so far")
                }
                _ => format!("bucket {bucket}; {} keys in the journal", tally.outstanding),
            }
        };
        self.running.publish(&self.progress, total, eta, message, tally.stuck);
    }

    async fn save(&mut self) {
        self.publish();
        self.saved_at = Instant::now();
        self.running.save(self.world, &self.progress).await;
    }
}

/// How many of these keys share a wait: with a bandwidth to keep, not much more than a second's bytes.
fn together(keys: &[(String, u64)], bandwidth: Option<u64>) -> usize {
    const KEYS_MAX: usize = 8;
    let Some(bandwidth) = bandwidth else { return keys.len() };
    let mut bytes = 0_u64;
    let fit = keys.iter().take(KEYS_MAX).take_while(|(_, size)| {
        bytes = bytes.saturating_add(*size);
        bytes <= bandwidth
    });
    fit.count().max(1).min(keys.len())
}

/// How fast a job has been since it was started.
struct Paced {
    scanned: u64,
    seconds: f64,
}

impl Paced {
    /// Seconds for that many more keys; `None` until there is a pace.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate in whole seconds"
    )]
    fn eta(&self, left: u64) -> Option<u64> {
        (self.scanned > 0).then(|| (left as f64 * self.seconds / self.scanned as f64).ceil() as u64)
    }
}

async fn exists(upstream: &crate::upstream::Upstream, bucket: &str) -> Result<bool, String> {
    use crate::upstream::read::Reader;
    let reader = Reader { upstream, who: "the service", bucket, key: None, version: None };
    super::examine::patiently(|| reader.bucket_exists(), |error| !error.is_permanent())
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_share_a_wait_are_a_second_s_worth_or_one() {
        let keys =
            |sizes: &[u64]| sizes.iter().map(|size| (String::new(), *size)).collect::<Vec<_>>();
        assert_eq!(together(&keys(&[5, 5, 5]), None), 3);
        assert_eq!(together(&keys(&[5, 5, 5]), Some(10)), 2);
        assert_eq!(together(&keys(&[50, 5, 5]), Some(10)), 1);
        assert_eq!(together(&keys(&[0; 20]), Some(10)), 8);
        assert_eq!(together(&[], Some(10)), 0);
    }

    #[test]
    fn the_time_to_go_is_reckoned_from_the_pace_so_far() {
        assert_eq!(Paced { scanned: 100, seconds: 10.0 }.eta(250), Some(25));
        assert_eq!(Paced { scanned: 0, seconds: 10.0 }.eta(250), None);
    }
}

//! The mirror's workers: each claims one key, brings the mirror to main's state, settles.
//!
//! # Promises
//! - **P4** Convergence; the argument stands in `replicate`.
//! - **P5** Workers share nothing with requests but the journal.
//! - **P6** At most `MIRROR_CONCURRENCY` keys are under way.
//! - **P8** There is no way to drop a key: it completes, is retried with a capped pause, or is
//!   parked with its reason.
//!
//! # Cancellation
//! A worker may be stopped at any point. The entry it had claimed is still in the journal.

mod acl;
mod apply;
mod brake;
mod breaker;
mod buckets;
mod condemned;
mod deletes;
mod large;
mod layout;
mod lineage;
mod lock;
mod multipart;
mod needed;
mod pace;
mod parts;
mod pause;
mod refusals;
mod replicate;
mod restore;
mod retry;
mod uploads;
mod version_lists;
mod versioning;
mod versions;
mod write;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::config::{DeletePolicy, Fence, Mirroring};
use crate::journal::{AppendError, Journal, Work, now_ms};
use crate::metrics::Metrics;
use crate::s3::trace::TraceParent;
use crate::spans::{Begun, Details, Spans};
use crate::upstream::Upstream;
use crate::upstream::trace::traced;
use breaker::{Breaker, Pass};
use deletes::Deletes;
pub use deletes::{Brake, KnownKeys};
use large::{Entered, LARGE_BYTES, Large};
use pace::Pace;
pub use pause::Paused;
use replicate::{Done, Naming, Replicated, Replicator};
pub use restore::{RestoreError, Restorer};
use retry::{Failure, Heard};
use uploads::Uploads;
use write::Writer;

/// After this time a write whose answer never came from the mirror is looked at again: it may
/// have landed late, over a newer one.
const LATE: Duration = Duration::from_secs(30);

/// How it is to be done.
pub struct Settings {
    /// Mirror bucket = prefix + bucket.
    pub prefix: String,
    /// When a copy is checked against main.
    pub fence: Fence,
    /// What becomes of deletes, and budgets.
    pub mirroring: Mirroring,
    /// Workers that there will be.
    pub workers: usize,
    /// How many keys a bucket has, if anybody knows.
    pub known_keys: Option<KnownKeys>,
    /// Where copies are traced, if they are.
    pub spans: Option<Spans>,
}

/// What the workers need.
pub struct Mirror {
    journal: Journal,
    metrics: Metrics,
    replicator: Replicator,
    deletes: Arc<Deletes>,
    uploads: Arc<Uploads>,
    breaker: Breaker,
    gate: pause::Gate,
    large: Large,
    spans: Option<Spans>,
}

impl Mirror {
    /// Puts the workers' tools together.
    pub fn new(
        journal: Journal,
        metrics: Metrics,
        main: Arc<Upstream>,
        mirror: Arc<Upstream>,
        settings: Settings,
    ) -> Arc<Self> {
        let Settings { prefix, fence, mirroring, workers, known_keys, spans } = settings;
        let pace = Pace::new(mirroring.bytes_per_second, mirroring.requests_per_second);
        let writer = Writer::new(mirror.clone(), pace, workers);
        let default_type = ArcSwapOption::empty();
        let versioning =
            mirroring.versions.then(|| Arc::new(versioning::Versioning::new(journal.clone())));
        let deletes = Deletes::new(journal.clone(), &mirroring, known_keys, versioning.clone());
        let uploads = Arc::new(Uploads::new(Some(journal.clone())));
        let replicator = Replicator {
            main,
            mirror,
            writer,
            naming: Naming::With(prefix),
            fence,
            default_type,
            deletes: Some(deletes.clone()),
            storage_classes: mirroring.storage_classes,
            acl: mirroring.acl,
            object_lock: mirroring.object_lock,
            put_bytes_max: mirroring.put_bytes_max,
            uploads: uploads.clone(),
            versioning,
        };
        let (breaker, gate) = (Breaker::default(), pause::Gate::new());
        let large = Large::new(workers);
        Arc::new(Self {
            journal,
            metrics,
            replicator,
            deletes,
            uploads,
            breaker,
            gate,
            large,
            spans,
        })
    }

    /// One worker; runs until it is dropped.
    pub async fn work(self: Arc<Self>) {
        loop {
            self.gate.pass().await;
            // A pause that comes while there is nothing to claim.
            let work = loop {
                tokio::select! {
                    biased;
                    () = self.gate.shut() => self.gate.pass().await,
                    work = self.journal.claim() => break work,
                }
            };
            let Some((work, pass)) = self.admit(work).await else { continue };
            let large = if expected_bytes(&work) < LARGE_BYTES {
                self.settle(work, pass, false).await
            } else {
                Some((work, pass))
            };
            if let Some((work, pass)) = large {
                self.work_large(work, pass).await;
            }
        }
    }

    /// Leave to try this key now. `None`: the mirror is away, and the key rests, so that those behind
    /// it which can do without the mirror get their turn.
    async fn admit(&self, mut work: Work) -> Option<(Work, Pass<'_>)> {
        loop {
            let until = match self.breaker.pass(Instant::now()) {
                Ok(pass) => return Some((work, pass)),
                Err(_) if self.deletes.spares(&work.entry) => {
                    return Some((work, self.breaker.bypass()));
                }
                Err(until) => until,
            };
            work = self.journal.rest(work, until).await?;
            // Memory is full of such keys.
            self.breaker.rest(until).await;
            self.gate.pass().await;
        }
    }

    /// Copies a large object, and those that have queued up behind it, if it is this worker's turn.
    async fn work_large(&self, work: Work, pass: Pass<'_>) {
        let mut large = match self.large.enter(work) {
            Entered::Now(work) => (work, pass),
            Entered::Queued => return,
            Entered::Full(work, pause) => {
                drop(pass);
                let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                return self.journal.defer(work, pause, "waits behind other large objects").await;
            }
        };
        loop {
            self.settle(large.0, large.1, true).await;
            large = loop {
                let Some(next) = self.large.leave() else { return };
                self.gate.pass().await;
                if let Some(next) = self.admit(next).await {
                    break next;
                }
            };
        }
    }

    /// Is the mirror (or main) out of reach, as far as the workers can tell?
    pub fn unreachable(&self) -> bool {
        self.breaker.is_open()
    }

    /// Will it take a body that is kept for it now, before long?
    pub fn takes_bodies(&self) -> bool {
        !self.gate.is_shut() && !self.breaker.is_open() && self.journal.has_room_for_bodies()
    }

    /// What becomes of deletes.
    pub fn delete_policy(&self) -> DeletePolicy {
        self.deletes.policy()
    }

    /// Buckets whose deletes are held back until they are released.
    pub fn brakes(&self) -> Vec<Brake> {
        self.deletes.brakes()
    }

    /// Lets the held deletes of a bucket go; false when it has no brake on.
    pub async fn release(&self, bucket: &str) -> bool {
        self.deletes.release(bucket).await
    }

    /// Finds the brakes, the pause and the uploads of the previous run; to be called before the
    /// first worker starts.
    pub async fn recover(&self) -> Result<(), sqlx::Error> {
        self.gate.recover(&self.journal).await?;
        self.uploads.recover().await?;
        self.deletes.recover().await
    }

    /// Looks after what was released, and after uploads that nobody is at; runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        tokio::join!(self.deletes.sweep(), self.clear_uploads());
    }

    /// To be called at a stop, when [`Mirror::watch`] and the workers have ended.
    pub async fn keep(&self) {
        self.deletes.keep().await;
    }

    async fn clear_uploads(&self) {
        loop {
            let number = self.uploads.next_due().await;
            self.gate.pass().await;
            // A mirror that is away is left to those who knock.
            while self.breaker.is_open() {
                tokio::time::sleep(uploads::REST).await;
            }
            self.uploads.clear(number, &self.replicator).await;
        }
    }

    /// Has a person stopped mirroring?
    pub fn paused(&self) -> Option<Paused> {
        self.gate.paused()
    }

    /// Stops mirroring: what is under way ends, nothing new is begun. Survives a restart.
    pub async fn pause(&self, reason: Option<String>) -> Result<Paused, AppendError> {
        self.gate.pause(&self.journal, reason).await
    }

    /// Lets mirroring go on. False: it was not stopped.
    pub async fn resume(&self) -> Result<bool, AppendError> {
        self.gate.resume(&self.journal).await
    }

    /// One try. Gives work back that turns out to be a large object, unless those are this worker's.
    async fn settle<'a>(
        &self,
        work: Work,
        pass: Pass<'a>,
        large: bool,
    ) -> Option<(Work, Pass<'a>)> {
        let span = self.begin_span(&work);
        let copy = self.replicator.replicate(&work, large);
        let replicated = match &span {
            // The mirror's own trace of it joins ours.
            Some((_, begun)) => Box::pin(traced(begun.context, copy)).await,
            None => copy.await,
        };
        let (result, late) = match replicated {
            Ok(done) => (Ok(done), false),
            Err(failure) => {
                let (failure, late) = failure.split();
                (Err(failure), late)
            }
        };
        if let Some((spans, begun)) = span {
            end_span(&spans, begun, &work, &result);
        }
        let object = work.entry.object.clone();
        let request_id = work.entry.request_id.clone();
        let (bucket, key) = (&*object.bucket, &*object.key);
        match result.as_ref().map_or_else(Failure::heard, Done::heard) {
            Heard::Answer => {
                if pass.answered() {
                    tracing::info!("the mirror can be reached again");
                    self.journal.hasten().await;
                }
            }
            Heard::Silence => {
                if pass.silent(Instant::now()) {
                    let error = result.as_ref().err().map(tracing::field::display);
                    tracing::error!(error, "the mirror cannot be reached");
                }
            }
            Heard::Nothing if matches!(result, Err(Failure::Large)) => return Some((work, pass)),
            Heard::Nothing => drop(pass),
        }
        match result {
            Ok(Done::Replicated(done)) => {
                self.report(&work, &done);
                self.journal.complete(work, done.facts).await;
            }
            Ok(Done::Spared { done, condemned, due_ms, reason }) => {
                self.report(&work, &done);
                tracing::info!(
                    bucket,
                    key,
                    mirror_status = "held",
                    versions = condemned.len(),
                    reason,
                    request_id = &*request_id,
                    message = "versions were deleted on main, not yet on the mirror",
                );
                let until = (due_ms, reason);
                self.journal.hold_versions(work, until, condemned, done.facts).await;
            }
            Ok(Done::Held { due_ms, reason }) => {
                tracing::info!(
                    bucket,
                    key,
                    mirror_status = "held",
                    reason,
                    request_id = &*request_id,
                    message = "deleted on main, not yet on the mirror",
                );
                self.journal.hold(work, due_ms, reason).await;
            }
            Err(failure) if failure.is_permanent() => {
                let reason = failure.to_string();
                self.metrics.mirror_errors.inc();
                tracing::error!(
                    bucket,
                    key,
                    mirror_status = "parked",
                    error = reason,
                    request_id = &*request_id,
                    message = "this key cannot be mirrored and is parked",
                );
                self.journal.park(work, reason).await;
            }
            Err(failure) => {
                self.metrics.mirror_errors.inc();
                let pause = retry::pause(work.entry.attempts, fastrand::f64());
                tracing::warn!(
                    bucket,
                    key,
                    mirror_status = "retry",
                    error = %failure,
                    attempts = work.entry.attempts + 1,
                    retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    request_id = &*request_id,
                    message = "not mirrored yet",
                );
                if late {
                    let late_ms = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
                    self.journal.recheck(object.clone(), now_ms() + late_ms).await;
                }
                self.journal.retry(work, pause, failure.to_string()).await;
            }
        }
        None
    }

    /// A span of this try, below that of the request.
    fn begin_span(&self, work: &Work) -> Option<(Spans, Begun)> {
        let spans = self.spans.as_ref()?;
        let parent = work.entry.facts.trace.as_deref().and_then(TraceParent::parse);
        let begun = spans.begin(parent);
        begun.context.sampled.then(|| (spans.clone(), begun))
    }

    /// The mirror has main's state.
    fn report(&self, work: &Work, done: &Replicated) {
        let latency_ms = (now_ms() - work.entry.since_ms).max(0);
        // What was set aside was late on purpose.
        if !work.entry.ripe {
            let seconds = Duration::from_millis(latency_ms.unsigned_abs()).as_secs_f64();
            self.metrics.mirror_latency.observe(seconds);
        }
        self.metrics.mirror_bytes.inc_by(done.bytes);
        let kept = done.facts.kept_on_mirror;
        tracing::info!(
            bucket = &*work.entry.object.bucket,
            key = &*work.entry.object.key,
            size = done.facts.size.unwrap_or(0),
            mirror_status = if kept { "kept" } else { "success" },
            latency_ms,
            copied_bytes = done.bytes,
            request_id = &*work.entry.request_id,
            message = if kept { "deleted on main, kept on the mirror" } else { "mirrored" },
        );
    }
}

fn end_span(spans: &Spans, begun: Begun, work: &Work, result: &Result<Done, Failure>) {
    let entry = &work.entry;
    let mut details = Details::work("mirror");
    details.text("aws.s3.bucket", &*entry.object.bucket);
    details.text("aws.s3.key", &*entry.object.key);
    details.text("s3_mirror.request_id", &*entry.request_id);
    details.number("s3_mirror.attempts", u64::from(entry.attempts) + 1);
    let status = match result {
        Ok(Done::Replicated(done)) => {
            details.number("s3_mirror.copied_bytes", done.bytes);
            if done.facts.kept_on_mirror { "kept" } else { "success" }
        }
        Ok(Done::Spared { done, .. }) => {
            details.number("s3_mirror.copied_bytes", done.bytes);
            "held"
        }
        Ok(Done::Held { .. }) => "held",
        // It is tried at once by those whose turn large objects are.
        Err(Failure::Large) => return,
        Err(failure) => {
            details.failed(failure.to_string());
            if failure.is_permanent() { "parked" } else { "retry" }
        }
    };
    details.text("s3_mirror.mirror_status", status);
    spans.end(begun, details);
}

/// Size of the object, as far as it can be known before main is asked.
fn expected_bytes(work: &Work) -> u64 {
    let facts = &work.entry.facts;
    let kept = work.body.as_ref().map(crate::tee::TeedBody::length);
    let listed = || facts.layout.as_ref().map(crate::journal::entry::PartLayout::total);
    kept.or(facts.size).or_else(listed).unwrap_or(0)
}

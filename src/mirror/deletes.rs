//! What becomes on the mirror of keys that main no longer has: `MIRROR_DELETES`, and the brake
//! that stops a mass delete until a person has looked.
//!
//! # Promises
//! - Only deletes are set aside. A key that is written again meanwhile is copied as ever, and its
//!   delete is forgotten.
//! - **P6** Held deletes are on disk only; counting takes 16 bytes per key and bucket up to the
//!   limit.
//! - **P8** Nothing is dropped: what is held is in the journal until it is released or obsolete.
//!
//! # What is counted when
//! A key that main has deleted through this proxy is counted when main has said so, however late the
//! mirror's workers come to it: a slow mirror, or one that is away, neither blinds the brake nor makes
//! a mass delete of what came in small numbers meanwhile. What nobody has told (an unknown outcome, a
//! comparison, a versioned bucket, the previous run) is counted when a worker finds the key gone.
//!
//! # Crash
//! Brakes are a note of the journal, written as soon as one changes and once more at a stop. Beside
//! that every bucket with deletes that wait for a person is braked after a restart, so that a note
//! which came too late lets nothing go. Counting begins anew.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::brake::{Verdict, Window};
use super::shares::{KnownKeys, Share, Shares};
use super::versioning::Versioning;
use crate::config::{DeleteBrake, DeletePolicy, Mirroring};
use crate::journal::entry::{Entry, ObjectKey};
use crate::journal::{FOREVER, Journal, now_ms};

/// Name of the note.
const NOTE: &str = "mirror.delete-brakes";
/// Buckets whose deletes are counted; when there are more, those with the fewest lately are
/// forgotten all together.
const BUCKETS_MAX: usize = 10_000;
/// How often it is looked whether something released still waits.
const SWEEP: Duration = Duration::from_millis(500);
/// Chunks of released entries per look.
const CHUNKS: usize = 50;

/// A bucket whose deletes wait for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// Bucket on main.
    pub bucket: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// Why.
    pub reason: String,
}

/// What is to be done about one key that main no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    Delete,
    /// The mirror keeps it.
    Keep,
    /// Later, at `due_ms`.
    Hold {
        due_ms: i64,
        reason: String,
    },
}

/// Policy and brakes.
pub(super) struct Deletes {
    journal: Journal,
    policy: DeletePolicy,
    pub(super) limits: DeleteBrake,
    pub(super) known_keys: Option<KnownKeys>,
    versioning: Option<Arc<Versioning>>,
    state: Mutex<State>,
    /// A brake went on: its note is to be written.
    braked: Notify,
    /// A question about a share has been answered.
    pub(super) counted: Notify,
    /// Notes are written one after another, each telling the brakes of its turn.
    note: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    windows: HashMap<Arc<str>, Window>,
    pub(super) shares: Shares,
    pub(super) brakes: BTreeMap<String, Brake>,
    /// The note does not tell the present brakes.
    unwritten: bool,
}

impl Deletes {
    pub(super) fn new(
        journal: Journal,
        settings: &Mirroring,
        known_keys: Option<KnownKeys>,
        versioning: Option<Arc<Versioning>>,
    ) -> Arc<Self> {
        let (policy, limits, state) = (settings.deletes, settings.brake, Mutex::default());
        let deletes = Arc::new(Self {
            journal,
            policy,
            limits,
            known_keys,
            versioning,
            state,
            braked: Notify::new(),
            counted: Notify::new(),
            note: tokio::sync::Mutex::default(),
        });
        // The journal must not keep itself alive.
        let told = Arc::downgrade(&deletes);
        deletes.journal.watch_deletes(move |object| {
            if let Some(deletes) = told.upgrade() {
                deletes.note(object);
            }
        });
        deletes
    }

    pub(super) fn policy(&self) -> DeletePolicy {
        self.policy
    }

    /// Buckets whose deletes wait for a person.
    pub(super) fn brakes(&self) -> Vec<Brake> {
        self.lock().brakes.values().cloned().collect()
    }

    /// Is anything of this bucket still to be deleted, or copied, on the mirror?
    pub(super) async fn are_under_way(&self, bucket: &str) -> bool {
        self.journal.awaits_keys(bucket).await
    }

    /// Counts a key that main has just deleted.
    fn note(&self, object: &ObjectKey) {
        if self.policy == DeletePolicy::Ignore || self.has_versions(&object.bucket) {
            return;
        }
        if let Some(deleted) = self.count(object) {
            // The sweep writes the note.
            self.brake(&object.bucket, self.too_many_keys(deleted), now_ms());
        }
    }

    /// Counts a key. How many were deleted, if these are too many. A share is asked about by the next worker
    /// that comes to a key of the bucket, or by the sweep.
    fn count(&self, object: &ObjectKey) -> Option<u64> {
        let mut state = self.lock();
        if state.brakes.contains_key(&*object.bucket) {
            return None;
        }
        match state.count(&self.limits, object, now_ms()) {
            Verdict::Pass => None,
            Verdict::Trip(deleted) => Some(deleted),
            Verdict::Ask { deleted, enough } => {
                state.shares.open(&object.bucket, deleted, enough);
                None
            }
        }
    }

    fn has_versions(&self, bucket: &str) -> bool {
        self.versioning.as_ref().is_some_and(|versioning| versioning.was_seen(bucket))
    }

    /// Is this entry likely to be set aside, or its key kept, as far as it can be told without asking
    /// anybody?
    pub(super) fn spares(&self, entry: &Entry) -> bool {
        let bucket = &entry.object.bucket;
        if !entry.deletes_surely() || entry.object.is_bucket() || self.has_versions(bucket) {
            return false;
        }
        match self.policy {
            DeletePolicy::Ignore => true,
            DeletePolicy::Delay(_) if !entry.ripe => true,
            _ => self.lock().brakes.contains_key(&**bucket),
        }
    }

    /// Decides about the key of an entry, or its bucket, that main no longer has.
    /// `ripe`: it has been set aside, and its time is over.
    pub(super) async fn judge(&self, entry: &Entry, ripe: bool) -> Judgement {
        let (object, now) = (&entry.object, now_ms());
        if self.policy == DeletePolicy::Ignore {
            return Judgement::Keep;
        }
        let noted = entry.deletes_surely()
            && self.journal.is_of_this_run(entry.sequence)
            && !self.has_versions(&object.bucket);
        // Ripe ones were counted when they came.
        let count = !ripe && !noted && !object.is_bucket();
        if count && let Some(deleted) = self.count(object) {
            self.brake(&object.bucket, self.too_many_keys(deleted), now);
            self.write_note().await;
        }
        match self.share(&object.bucket).await {
            Share::Bearable => {}
            Share::TooLarge => return braked(),
            Share::Unknown { due_ms, reason } => return Judgement::Hold { due_ms, reason },
        }
        match self.policy {
            DeletePolicy::Delay(delay) if !ripe => Judgement::Hold {
                due_ms: now.saturating_add(delay_ms(delay)),
                reason: "deleted on main; the mirror follows later".into(),
            },
            _ => Judgement::Delete,
        }
    }

    fn too_many_keys(&self, deleted: u64) -> String {
        let window = self.limits.window.as_secs();
        format!("{deleted} keys deleted within {window} s, more than MIRROR_DELETE_BRAKE_KEYS")
    }

    pub(super) fn brake(&self, bucket: &str, reason: String, since_ms: i64) {
        let brake = Brake { bucket: bucket.to_owned(), since_ms, reason };
        let mut state = self.lock();
        state.windows.remove(bucket);
        state.shares.close(bucket);
        if state.brakes.contains_key(bucket) {
            return;
        }
        tracing::error!(
            bucket,
            reason = brake.reason,
            "deletes of this bucket are held back on the mirror until they are released"
        );
        state.brakes.insert(bucket.to_owned(), brake);
        state.unwritten = true;
        self.braked.notify_one();
    }

    /// Lets a bucket's deletes go; false when it is not braked. On disk when it answers, unless the
    /// disk fails.
    pub(super) async fn release(&self, bucket: &str) -> bool {
        let released = {
            let mut state = self.lock();
            state.windows.remove(bucket);
            state.shares.close(bucket);
            let released = state.brakes.remove(bucket).is_some();
            state.unwritten |= released;
            released
        };
        if released {
            self.write_note().await;
        }
        released
    }

    /// Puts the brakes of the previous run on, and one on every bucket that has deletes waiting
    /// for a person.
    pub(super) async fn recover(&self) -> Result<(), sqlx::Error> {
        let note = self.journal.note(NOTE).await?;
        // One that cannot be read is covered by what is held.
        let brakes = note.and_then(|note| serde_json::from_str::<Vec<Brake>>(&note).ok());
        for Brake { bucket, since_ms, reason } in brakes.unwrap_or_default() {
            self.brake(&bucket, reason, since_ms);
        }
        for bucket in self.journal.buckets_held().await? {
            let (_, oldest_ms) = self.journal.held_in(&bucket).await?;
            let reason = "deletes were held when the previous run ended".to_owned();
            self.brake(&bucket, reason, oldest_ms.unwrap_or_else(now_ms));
        }
        Ok(())
    }

    /// Lets go, in the journal, what is held of buckets that are not braked (any more). Runs until
    /// it is dropped.
    pub(super) async fn sweep(&self) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.braked.notified() => {
                    self.write_note().await;
                    continue;
                }
            }
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(%error, "cannot read the journal; trying again");
            }
        }
    }

    /// The last words of this run, to be called when nobody judges any more: what was being written
    /// when the sweep was dropped is written.
    pub(super) async fn keep(&self) {
        self.lock().unwritten = true;
        self.write_note().await;
    }

    pub(super) async fn write_note(&self) {
        let _turn = self.note.lock().await;
        let brakes: Vec<Brake> = {
            let mut state = self.lock();
            if !std::mem::take(&mut state.unwritten) {
                return;
            }
            state.brakes.values().cloned().collect()
        };
        let note = (!brakes.is_empty()).then(|| serde_json::to_string(&brakes).unwrap_or_default());
        if let Err(error) = self.journal.set_note(NOTE, note.as_deref()).await {
            tracing::debug!(%error, "the note of the delete brakes waits");
            self.lock().unwritten = true;
        }
    }

    async fn sweep_once(&self) -> Result<(), sqlx::Error> {
        self.ask_all().await;
        self.write_note().await;
        for _ in 0..CHUNKS {
            // What cannot be written yet would be said again and again, and kept in memory.
            if self.journal.health().failing() {
                break;
            }
            let held = self.journal.buckets_held().await?;
            let free: Vec<String> = {
                let state = self.lock();
                held.into_iter().filter(|bucket| !state.brakes.contains_key(bucket)).collect()
            };
            if free.is_empty() {
                break;
            }
            let delay = match self.policy {
                DeletePolicy::Delay(delay) => delay_ms(delay),
                DeletePolicy::Apply | DeletePolicy::Ignore => 0,
            };
            for bucket in free {
                self.journal.unhold(&bucket, delay).await;
            }
            self.journal.flush().await;
        }
        let now = now_ms();
        let limits = self.limits;
        self.lock().windows.retain(|_, window| !window.forget(&limits, now));
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, limits: &DeleteBrake, object: &ObjectKey, now: i64) -> Verdict {
        if self.windows.len() >= BUCKETS_MAX && !self.windows.contains_key(&object.bucket) {
            let mut sizes: Vec<usize> = self.windows.values().map(Window::len).collect();
            let middle = sizes.len() / 2;
            let (_, median, _) = sizes.select_nth_unstable(middle);
            let median = *median;
            self.windows.retain(|_, window| window.len() > median);
        }
        let mut hasher = DefaultHasher::new();
        object.key.hash(&mut hasher);
        let window = self.windows.entry(object.bucket.clone()).or_default();
        window.count(limits, hasher.finish(), now)
    }
}

fn braked() -> Judgement {
    let reason = "held by the mass-delete brake of its bucket".to_owned();
    Judgement::Hold { due_ms: FOREVER, reason }
}

fn delay_ms(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

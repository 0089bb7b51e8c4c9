//! The jobs' side of the journal: keys that nobody has just changed, brought into step all the
//! same (backfill, verify).
//!
//! # Promises
//! - A job's key is an entry like any other, of unknown outcome: main is asked, and retries,
//!   parking, rows and logs are those of live entries.
//! - Live entries are claimed first ([`super::lane`]).
//! - **P6** A job has at most the keys of its [`Window`] in the journal and [`STUCK_MAX`] more that keep
//!   failing, and adds none while the lanes are filling up (the mirror or the database is slow or away).
//!
//! # Rows
//! The row of a job's key is written when its fate is known, once, and not before: it may have
//! been right all the time.
//!
//! # Crash
//! Entries stay and are done by the next run, as live ones. What a job had not yet appended it
//! appends again from its cursor.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::entry::{Entry, Facts, NewIntent, ObjectKey, Sequence};
use super::writer::{AppendError, Appended, Command};
use super::{Durable, Journal, Work, lock, now_ms, store};
use crate::s3::operation::Change;

/// Keys appended at a time, so that they share a sync.
const TOGETHER: usize = 64;
/// Tries after which a key counts as one that keeps failing.
const STUCK_AFTER: u32 = 4;
/// Keys that keep failing and hold no place in the window: others must get theirs. What comes beyond that is
/// no matter of single keys, and the job waits.
const STUCK_MAX: usize = 10_000;
/// How often a job looks whether the lanes have room.
const ROOM_POLL: Duration = Duration::from_millis(100);

/// The window of one job: how many of its keys may be pending, and what became of the others.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Window {
    permits: Arc<Semaphore>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    outstanding: AtomicUsize,
    stuck: AtomicUsize,
    confirmed: AtomicU64,
    covered: AtomicU64,
    parked: AtomicU64,
    error: Mutex<Option<String>>,
    changed: Notify,
}

/// What became of a window's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Still pending.
    pub outstanding: usize,
    /// Of those, how many keep failing.
    pub stuck: usize,
    /// Confirmed by the mirror.
    pub confirmed: u64,
    /// Left to a live change of the same key.
    pub covered: u64,
    /// Parked.
    pub parked: u64,
    /// The last reason for a failure.
    pub error: Option<String>,
}

impl Window {
    /// A window of that many keys.
    pub fn new(keys: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(keys)), tally: Arc::default() }
    }

    /// What became of its keys so far.
    pub fn tally(&self) -> Tallied {
        let Tally { outstanding, stuck, confirmed, covered, parked, error, .. } = &*self.tally;
        Tallied {
            outstanding: outstanding.load(Ordering::Relaxed),
            stuck: stuck.load(Ordering::Relaxed),
            confirmed: confirmed.load(Ordering::Relaxed),
            covered: covered.load(Ordering::Relaxed),
            parked: parked.load(Ordering::Relaxed),
            error: lock(error).clone(),
        }
    }

    /// Waits until every key is confirmed, parked or left to a live change, or keeps failing.
    pub async fn settled(&self) {
        loop {
            let changed = self.tally.changed.notified();
            let tally = self.tally();
            if tally.outstanding <= tally.stuck {
                return;
            }
            changed.await;
        }
    }
}

/// How the entry of a job's key ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    Confirmed,
    Covered,
    Parked(&'a str),
}

/// Entries of jobs that are pending, by their sequence.
pub(super) type Tickets = Mutex<HashMap<Sequence, Ticket>>;

/// One pending key of a window; gives its place back when dropped.
pub(super) struct Ticket {
    object: ObjectKey,
    tally: Arc<Tally>,
    stuck: bool,
    /// Its place in the window, until it is stuck.
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tally.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.tally.stuck.fetch_sub(usize::from(self.stuck), Ordering::Relaxed);
        self.tally.changed.notify_waiters();
    }
}

impl Journal {
    /// Bounds how many workers may be busy with keys of jobs at a time.
    pub fn limit_background(&self, claims: usize) {
        lock(&self.shared.mirror).limit_background(claims);
    }

    /// Has these keys brought into step; returns when the last one is in the journal, durably.
    /// Waits for places in the window and for room in the lanes. A key that is in hand anyway is
    /// left to that. `reason` takes the place of the request ID in logs.
    ///
    /// # Errors
    /// The journal cannot be written. Keys before the failure are in it, those behind are not.
    pub async fn append_background(
        &self,
        window: &Window,
        objects: Vec<ObjectKey>,
        reason: &str,
    ) -> Result<(), AppendError> {
        let reason: Arc<str> = reason.into();
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            self.background_room().await;
            let mut together: Vec<(ObjectKey, OwnedSemaphorePermit)> = Vec::new();
            while together.len() < TOGETHER
                && let Some(object) = objects
                    .next_if(|_| together.is_empty() || window.permits.available_permits() > 0)
            {
                if lock(&self.shared.mirror).knows(&object) {
                    window.tally.covered.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let permit = window.permits.clone().acquire_owned().await;
                // The semaphore is never closed.
                let Ok(permit) = permit else { return Err(AppendError::Unavailable) };
                together.push((object, permit));
            }
            let (journal, window, reason) = (self.clone(), window.clone(), reason.clone());
            // A task of its own: whoever waits may be stopped, and what is in the journal by then has to
            // be settled.
            let appended = self
                .shared
                .runtime
                .spawn(async move { journal.append_together(&window, together, &reason).await });
            appended.await.unwrap_or(Err(AppendError::Unavailable))?;
        }
        Ok(())
    }

    async fn append_together(
        &self,
        window: &Window,
        together: Vec<(ObjectKey, OwnedSemaphorePermit)>,
        reason: &Arc<str>,
    ) -> Result<(), AppendError> {
        let count = i64::try_from(together.len()).unwrap_or(0);
        let first = self.shared.next.fetch_add(count, Ordering::Relaxed);
        let accepted_ms = now_ms();
        let rows: Appended = (first..)
            .zip(&together)
            .map(|(sequence, (object, _))| {
                let intent = NewIntent {
                    object: object.clone(),
                    change: Change::Other,
                    request_id: reason.clone(),
                    accepted_ms,
                    facts: None,
                };
                (sequence, Arc::new(intent))
            })
            .collect();
        let (done, durable) = oneshot::channel();
        self.send(Command::Append { rows, done: Some(done) }).await;
        if let Err(error) = Durable(durable).wait().await {
            // Nothing was promised of them, so that nothing may be left of them.
            for sequence in first..first + count {
                self.send(Command::Close { sequence }).await;
            }
            return Err(error);
        }
        for (sequence, (object, permit)) in (first..).zip(together) {
            // A change that is under way has an earlier number and will tell later news.
            let contended = self.in_flight(&object);
            let facts = Arc::new(Facts { contended, ..Facts::default() });
            self.send(Command::Settle { sequence, unknown: true, facts: facts.clone() }).await;
            window.tally.outstanding.fetch_add(1, Ordering::Relaxed);
            let tally = window.tally.clone();
            let ticket =
                Ticket { object: object.clone(), tally, stuck: false, permit: Some(permit) };
            lock(&self.shared.tickets).insert(sequence, ticket);
            let entry = Entry {
                sequence,
                object,
                change: Change::Other,
                unknown: true,
                overlapped: true,
                since_ms: accepted_ms,
                request_id: reason.clone(),
                facts,
                attempts: 0,
                ripe: false,
            };
            let work = Work { entry, body: None };
            let offered = self.offered(|lane| lane.offer_background(work));
            self.work_offered(offered).await;
        }
        Ok(())
    }

    /// Waits while either lane is more than half full.
    async fn background_room(&self) {
        loop {
            let half = super::LANE_CAPACITY / 2;
            let room = lock(&self.shared.mirror).room().min(lock(&self.shared.rows).room());
            if room >= half {
                return;
            }
            tokio::time::sleep(ROOM_POLL).await;
        }
    }

    /// The entry of a job's key has ended; false: it was none.
    pub(super) fn background_ended(&self, sequence: Sequence, end: End<'_>) -> bool {
        let Some(ticket) = lock(&self.shared.tickets).remove(&sequence) else {
            return false;
        };
        let count = match end {
            End::Confirmed => &ticket.tally.confirmed,
            End::Covered => &ticket.tally.covered,
            End::Parked(reason) => {
                *lock(&ticket.tally.error) = Some(reason.to_owned());
                &ticket.tally.parked
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The mirror has confirmed an entry, of a job or not. `relieves`: and older ones of its key with it.
    pub(super) fn background_confirmed(&self, object: &ObjectKey, by: Sequence, relieves: bool) {
        // Mostly there is no job.
        if lock(&self.shared.tickets).is_empty() {
            return;
        }
        self.background_ended(by, End::Confirmed);
        if relieves {
            self.background_covered(object, by);
        }
    }

    /// What was said of this entry has settled older ones of its key on disk too, where a job's key may
    /// have been left that found no room in memory.
    pub(super) fn background_covered(&self, object: &ObjectKey, by: Sequence) {
        let covered: Vec<Sequence> = lock(&self.shared.tickets)
            .iter()
            .filter(|(sequence, ticket)| **sequence < by && ticket.object == *object)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in covered {
            self.background_ended(sequence, End::Covered);
        }
    }

    /// The entry of a job's key has failed once more.
    pub(super) fn background_failed(&self, sequence: Sequence, attempts: u32, error: &str) {
        if let Some(ticket) = lock(&self.shared.tickets).get_mut(&sequence) {
            *lock(&ticket.tally.error) = Some(error.to_owned());
            if attempts >= STUCK_AFTER && !std::mem::replace(&mut ticket.stuck, true) {
                let stuck = ticket.tally.stuck.fetch_add(1, Ordering::Relaxed);
                if stuck < STUCK_MAX {
                    ticket.permit = None;
                }
                ticket.tally.changed.notify_waiters();
            }
        }
    }

    /// Makes [`Journal::is_mirrored`] quick with any backlog, or frees writes of what that costs. To be
    /// called before there are writes: with a large backlog it takes seconds.
    pub async fn index_keys(&self, wanted: bool) {
        let mut reader = self.shared.reader.lock().await;
        if let Err(error) = store::index_keys(&mut reader, wanted).await {
            tracing::warn!(%error, "the journal's index of keys stays as it is");
        }
    }

    /// Has the mirror everything that is known of this key? False also where the journal cannot
    /// tell.
    pub async fn is_mirrored(&self, object: &ObjectKey) -> bool {
        self.flush().await;
        if self.health().failing() {
            return false;
        }
        let mut reader = self.shared.reader.lock().await;
        store::is_mirrored(&mut reader, &object.bucket, &object.key).await.unwrap_or(false)
    }

    /// Is anything of the bucket still on its way to the mirror? True also where the journal
    /// cannot tell.
    pub async fn awaits_keys(&self, bucket: &str) -> bool {
        self.flush().await;
        if self.health().failing() {
            return true;
        }
        let mut reader = self.shared.reader.lock().await;
        store::awaits_keys(&mut reader, bucket).await.unwrap_or(true)
    }

    /// Which of these keys of a bucket have an entry that the mirror has not confirmed, or that
    /// waits for its row: a change of theirs is on its way. All of them where the journal cannot be
    /// written, so that nobody can tell.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn pending_among(
        &self,
        bucket: &str,
        keys: &[&str],
    ) -> Result<HashSet<String>, sqlx::Error> {
        self.flush().await;
        if self.health().failing() {
            return Ok(keys.iter().map(|key| (*key).to_owned()).collect());
        }
        let mut reader = self.shared.reader.lock().await;
        store::pending_among(&mut reader, bucket, keys).await
    }
}

//! The journal: what must not be lost, and the only meeting point of the proxy with its workers.
//!
//! # Promises
//! - **P2** [`Journal::append`] answers through [`Durable`]; once that is `Ok`, the intent
//!   survives whatever `JOURNAL_SYNC` promises (`full`: power loss). The proxy lets no mutating
//!   request take effect before that.
//! - **P3** Every intent ends in exactly one of: closed as without effect, or confirmed by the
//!   mirror and written to the inventory. An [`Intent`] that is dropped unsettled (a panic, a
//!   cancelled task) is settled as unknown.
//! - **P6** Memory holds at most `LANE_CAPACITY` keys per consumer; the rest is on disk.
//!
//! # Life of an entry
//! `append` (intent) → `settle` (closed, changed, unknown) → mirror lane: `claim` → `complete`,
//! `retry` or `park`; inventory lane: `claim_rows` → `rows_written`. When both are done the row
//! leaves the file.
//!
//! # Consistency
//! Each key is claimed by at most one worker. A newer entry of a key supersedes an older one that
//! waits, because workers copy main's *current* state. Commands reach the file in the order they
//! were given.
//!
//! # Crash
//! After a crash every intent found is an entry of unknown outcome: main is asked. Settlements
//! and completions of the last moments may be lost; that repeats idempotent work. Requests that
//! may still take effect at main after the restart are looked at again (`RECHECK_AFTER_MS`).

pub mod entry;
mod lane;
mod store;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::JournalSync;
use crate::s3::operation::Change;
use crate::tee::TeedBody;
use entry::{Entry, Facts, NewIntent, ObjectKey, Outcome, PartLayout, Sequence};
use lane::{Item, Lane, Offered};
pub use store::{Figures, Recovered};
pub use writer::AppendError;
use writer::{Command, Writer};

/// Keys held in memory per consumer; about 4 MiB at ordinary key lengths.
const LANE_CAPACITY: usize = 8192;
/// Rows read from disk at a time.
const REFILL: i64 = 2048;
/// A request of unknown outcome is looked at now and again after these times: main may still be
/// working on it (completing a large upload takes minutes).
const RECHECK_AFTER_MS: [i64; 3] = [5_000, 60_000, 600_000];

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the file and its lock; made if missing.
    pub data_dir: PathBuf,
    /// Durability.
    pub sync: JournalSync,
    /// Is there an inventory to write?
    pub inventory: bool,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error("another s3-mirror process uses {0}; every process needs a DATA_DIR of its own")]
    InUse(PathBuf),
    /// The directory cannot be made or written.
    #[error("cannot use DATA_DIR {path}: {source}")]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refuses the file. Nothing is deleted or repaired by itself: it may hold writes
    /// that are nowhere else.
    #[error("cannot read the journal {path}: {source}")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
}

/// Does the disk take what it is given?
#[derive(Debug, Default)]
pub struct Health {
    failing: AtomicBool,
}

impl Health {
    /// Is the journal unable to write right now?
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn failed(&self, error: &sqlx::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the journal cannot be written; writes are kept in memory");
        }
    }

    fn recovered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!("the journal can be written again; what was kept in memory is on disk");
        }
    }
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

struct Shared {
    next: AtomicI64,
    inventory: bool,
    mirror: Mutex<Lane<Work>>,
    mirror_ready: Notify,
    rows: Mutex<Lane<RowWork>>,
    rows_ready: Notify,
    flights: Mutex<HashMap<ObjectKey, Flight>>,
    health: Arc<Health>,
    reader: tokio::sync::Mutex<SqliteConnection>,
    // Held for its lock until the last handle is gone.
    _lock: File,
}

/// Writes of one key that are under way.
struct Flight {
    count: usize,
    overlapped: Arc<AtomicBool>,
}

/// An entry claimed for mirroring, with its body if it is still at hand.
#[derive(Debug)]
pub struct Work {
    /// The entry.
    pub entry: Entry,
    /// The body that made it, if it was kept.
    pub body: Option<TeedBody>,
}

impl Item for Work {
    fn sequence(&self) -> Sequence {
        self.entry.sequence
    }
    fn object(&self) -> &ObjectKey {
        &self.entry.object
    }
    fn supersede(&mut self, older: &Self) {
        self.entry.supersede(&older.entry);
    }
    fn tells_more(&self, _: Option<&Self>) -> bool {
        // The one that is here may still have its body.
        false
    }
}

/// A row the inventory should write.
#[derive(Debug, Clone)]
pub struct RowWork {
    /// Position of the newest entry it stands for.
    pub sequence: Sequence,
    /// The key.
    pub object: ObjectKey,
    /// How it changed.
    pub change: Change,
    /// What is known of the state; incomplete facts mean that main has to be asked.
    pub facts: Facts,
    /// Must main be asked whatever the facts say?
    pub unknown: bool,
    /// Has the mirror confirmed exactly this state?
    pub mirrored: bool,
}

impl Item for RowWork {
    fn sequence(&self) -> Sequence {
        self.sequence
    }
    fn object(&self) -> &ObjectKey {
        &self.object
    }
    fn supersede(&mut self, _: &Self) {}
    fn tells_more(&self, known: Option<&Self>) -> bool {
        self.mirrored && !known.is_some_and(|known| known.mirrored)
    }
}

/// An intent in the journal; settle it.
#[derive(Debug)]
pub struct Intent {
    sequence: Sequence,
    intent: NewIntent,
    overlapped: Arc<AtomicBool>,
    settled: bool,
    journal: JournalRef,
}

impl Intent {
    /// The key it is about.
    pub fn object(&self) -> &ObjectKey {
        &self.intent.object
    }

    /// Position in the journal.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

/// A [`Journal`] inside an [`Intent`], so that an intent dropped unsettled settles itself.
#[derive(Clone)]
struct JournalRef(Journal);

impl std::fmt::Debug for JournalRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.settled = true;
        let journal = self.journal.0.clone();
        let (entry, facts) = journal.landed(self, true, Facts::default());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { journal.settle_changed(entry, facts, None).await });
        }
        // Without a runtime the process is going down and the intent stays one: main is asked
        // at the next start.
    }
}

/// Resolves when an append is durable.
#[derive(Debug)]
pub struct Durable(oneshot::Receiver<Result<(), AppendError>>);

impl Durable {
    /// Waits until the intents are on disk.
    pub async fn wait(self) -> Result<(), AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Unavailable))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can be left half-changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Journal {
    /// Opens the journal, recovers what the previous run left, and returns the handle and the
    /// writer, which must be spawned and ends when the last handle is gone.
    pub async fn open(
        settings: &Settings,
    ) -> Result<(Self, Recovered, impl Future<Output = ()> + Send + 'static), OpenError> {
        let directory = &settings.data_dir;
        let lock = lock_directory(directory)?;
        let path = directory.join("journal.sqlite");
        let unreadable = |source| OpenError::Unreadable {
            path: path.clone(),
            source,
        };
        let mut db = store::open_writer(&path, settings.sync)
            .await
            .map_err(unreadable)?;
        let now = now_ms();
        let recovered = store::recover(
            &mut db,
            settings.inventory,
            &RECHECK_AFTER_MS.map(|after| now + after),
        )
        .await
        .map_err(unreadable)?;
        let reader = store::open_reader(&path).await.map_err(unreadable)?;
        let (commands, receiver) = mpsc::channel(writer::QUEUE);
        let health = Arc::new(Health::default());
        let shared = Arc::new(Shared {
            // Microseconds of the clock, so that sequences grow over restarts even when the file
            // has been emptied meanwhile; the maximum guards against a clock that went back.
            next: AtomicI64::new((now * 1000).max(recovered.last + 1)),
            inventory: settings.inventory,
            mirror: Mutex::new(Lane::new(LANE_CAPACITY)),
            mirror_ready: Notify::new(),
            rows: Mutex::new(Lane::new(LANE_CAPACITY)),
            rows_ready: Notify::new(),
            flights: Mutex::new(HashMap::new()),
            health: health.clone(),
            reader: tokio::sync::Mutex::new(reader),
            _lock: lock,
        });
        let writer = Writer {
            path,
            sync: settings.sync,
            inventory: settings.inventory,
            health,
            db: Some(db),
            commands: receiver,
        };
        Ok((Self { shared, commands }, recovered, writer.run()))
    }

    /// Does the disk take what it is given?
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    // === The proxy's side ===

    /// Records intents. Returns at once; [`Durable`] tells when they are on disk.
    pub async fn append(&self, intents: Vec<NewIntent>) -> (Vec<Intent>, Durable) {
        let count = i64::try_from(intents.len()).unwrap_or(i64::MAX);
        let first = self.shared.next.fetch_add(count, Ordering::Relaxed);
        let rows: Vec<_> = (first..).zip(intents).collect();
        let handles = rows
            .iter()
            .map(|(sequence, intent)| Intent {
                sequence: *sequence,
                overlapped: self.take_off(&intent.object),
                intent: intent.clone(),
                settled: false,
                journal: JournalRef(self.clone()),
            })
            .collect();
        let (done, durable) = oneshot::channel();
        self.send(Command::Append {
            rows,
            done: Some(done),
        })
        .await;
        (handles, Durable(durable))
    }

    /// Says what a request did. `facts` is what main answered; `body` what was kept of the body.
    pub async fn settle(
        &self,
        mut intent: Intent,
        outcome: Outcome,
        facts: Facts,
        body: Option<TeedBody>,
    ) {
        intent.settled = true;
        let (entry, facts) = self.landed(&intent, outcome == Outcome::Unknown, facts);
        match outcome {
            Outcome::NoEffect => {
                self.send(Command::Close {
                    sequence: entry.sequence,
                })
                .await
            }
            Outcome::Changed | Outcome::Unknown => self.settle_changed(entry, facts, body).await,
        }
    }

    fn landed(&self, intent: &Intent, unknown: bool, mut facts: Facts) -> (Entry, Facts) {
        self.land(&intent.intent.object);
        if facts.layout.is_none() {
            facts.layout.clone_from(&intent.intent.facts.layout);
        }
        let entry = Entry {
            sequence: intent.sequence,
            object: intent.intent.object.clone(),
            change: intent.intent.change,
            unknown,
            overlapped: intent.overlapped.load(Ordering::Relaxed),
            since_ms: intent.intent.accepted_ms,
            request_id: intent.intent.request_id.clone(),
            facts: facts.clone(),
            attempts: 0,
        };
        (entry, facts)
    }

    async fn settle_changed(&self, entry: Entry, facts: Facts, body: Option<TeedBody>) {
        let (sequence, unknown) = (entry.sequence, entry.unknown);
        if unknown {
            for after in RECHECK_AFTER_MS {
                let due_ms = now_ms() + after;
                self.send(Command::Recheck {
                    object: entry.object.clone(),
                    due_ms,
                })
                .await;
            }
        }
        self.send(Command::Settle {
            sequence,
            unknown,
            facts,
        })
        .await;
        self.offer_row(row(&entry, false)).await;
        self.offer_work(Work { entry, body }).await;
    }

    fn take_off(&self, object: &ObjectKey) -> Arc<AtomicBool> {
        let mut flights = lock(&self.shared.flights);
        if let Some(flight) = flights.get_mut(object) {
            flight.count += 1;
            flight.overlapped.store(true, Ordering::Relaxed);
            return flight.overlapped.clone();
        }
        let overlapped = Arc::new(AtomicBool::new(false));
        flights.insert(
            object.clone(),
            Flight {
                count: 1,
                overlapped: overlapped.clone(),
            },
        );
        overlapped
    }

    fn land(&self, object: &ObjectKey) {
        let mut flights = lock(&self.shared.flights);
        if let Some(flight) = flights.get_mut(object) {
            flight.count -= 1;
            if flight.count == 0 {
                flights.remove(object);
            }
        }
    }

    /// Notes the size of an uploaded part, so that the mirror can use the same boundaries.
    pub async fn record_part(&self, upload_id: &str, number: u32, etag: &str, size: u64) {
        let (upload_id, etag) = (upload_id.to_owned(), etag.to_owned());
        self.send(Command::Part {
            upload_id,
            number,
            etag,
            size,
            at_ms: now_ms(),
        })
        .await;
    }

    /// Parts recorded for an upload, as `(number, etag) -> size`.
    pub async fn recorded_parts(&self, upload_id: &str) -> HashMap<(u32, String), u64> {
        self.flush().await;
        let mut reader = self.shared.reader.lock().await;
        let rows = store::parts(&mut reader, upload_id)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read recorded parts; main will be asked");
                Vec::new()
            });
        rows.into_iter()
            .filter_map(|(number, etag, size)| {
                Some((
                    (u32::try_from(number).ok()?, etag),
                    u64::try_from(size).ok()?,
                ))
            })
            .collect()
    }

    /// Forgets the parts of an upload that has ended.
    pub async fn upload_ended(&self, upload_id: &str) {
        self.send(Command::UploadEnded {
            upload_id: upload_id.to_owned(),
        })
        .await;
    }

    /// Waits until everything sent so far is on disk.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.send(Command::Flush { done }).await;
        if let Ok(Err(error)) = flushed.await {
            tracing::debug!(%error, "flush of the journal");
        }
    }

    async fn send(&self, command: Command) {
        // The writer outlives every handle; if it has panicked the intent rows on disk speak.
        if self.commands.send(command).await.is_err() {
            tracing::error!("the journal writer is gone");
        }
    }

    // === The mirror's side ===

    /// Takes the key that has waited longest; waits until there is one. Cancel-safe.
    pub async fn claim(&self) -> Work {
        loop {
            let ready = self.shared.mirror_ready.notified();
            if let Some(work) = self.try_claim() {
                // Pass the baton: a notification wakes one worker only.
                self.shared.mirror_ready.notify_one();
                return work;
            }
            ready.await;
        }
    }

    fn try_claim(&self) -> Option<Work> {
        lock(&self.shared.mirror).claim()
    }

    /// The mirror has confirmed main's state of the key, which `facts` describe.
    pub async fn complete(&self, work: Work, facts: Facts) {
        let entry = work.entry;
        let superseded = lock(&self.shared.mirror).newer_waits(&entry.object);
        let (sequence, object) = (entry.sequence, entry.object.clone());
        self.send(Command::Mirrored {
            sequence,
            object: object.clone(),
            facts: facts.clone(),
        })
        .await;
        if self.shared.inventory {
            if superseded {
                self.send(Command::Written {
                    sequence,
                    level: 2,
                    error: None,
                })
                .await;
            } else {
                let mut done = row(&entry, true);
                done.facts = facts;
                done.unknown = false;
                self.offer_row(done).await;
            }
        }
        self.release(&object);
    }

    /// A transient failure: the key is tried again at `due_ms`.
    pub async fn retry(&self, work: Work, due_ms: i64, error: String) {
        let Entry {
            sequence,
            object,
            attempts,
            ..
        } = work.entry;
        self.send(Command::Retry {
            sequence,
            attempts: attempts + 1,
            due_ms,
            error,
        })
        .await;
        self.release(&object);
    }

    /// A permanent failure: the key stays with its reason until it is written anew or retried.
    pub async fn park(&self, work: Work, error: String) {
        let Entry {
            sequence,
            object,
            attempts,
            ..
        } = work.entry;
        self.send(Command::Park {
            sequence,
            attempts: attempts + 1,
            error,
        })
        .await;
        self.release(&object);
    }

    fn release(&self, object: &ObjectKey) {
        if lock(&self.shared.mirror).release(object) {
            self.shared.mirror_ready.notify_one();
        }
    }

    /// Looks at a key once more at `due_ms`, because something may still take effect late.
    pub async fn recheck(&self, object: ObjectKey, due_ms: i64) {
        self.send(Command::Recheck { object, due_ms }).await;
    }

    /// Makes every waiting retry due: the mirror is back.
    pub async fn hasten(&self) {
        self.send(Command::Hasten).await;
    }

    async fn offer_work(&self, work: Work) {
        let offered = lock(&self.shared.mirror).offer(work);
        match offered {
            Offered::Ready => self.shared.mirror_ready.notify_one(),
            Offered::Supersedes(old) | Offered::SupersededBy(old) => {
                self.superseded(&old.entry).await;
            }
            Offered::Known | Offered::Full => {}
        }
    }

    /// An older entry is covered by the newer one that waits: the newer takes over its age and
    /// facts on disk too, and the older goes.
    async fn superseded(&self, old: &Entry) {
        let newest = lock(&self.shared.mirror)
            .waiting(&old.object)
            .map(|work| work.entry.clone());
        let Some(newest) = newest.filter(|newest| newest.sequence > old.sequence) else {
            return;
        };
        self.send(Command::Merge {
            sequence: newest.sequence,
            since_ms: newest.since_ms,
            unknown: newest.unknown,
            facts: newest.facts,
        })
        .await;
        self.send(Command::Close {
            sequence: old.sequence,
        })
        .await;
    }

    /// Feeds the lanes from disk: what did not fit, what is due again, what must be looked at
    /// once more. Runs until the process ends.
    pub async fn feed(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.feed_once().await {
                tracing::warn!(%error, "cannot read the journal; trying again");
            }
        }
    }

    async fn feed_once(&self) -> Result<(), sqlx::Error> {
        let wants = lock(&self.shared.mirror).wants_refill();
        if let Some(from) = wants {
            lock(&self.shared.mirror).refill_begun();
            let mut reader = self.shared.reader.lock().await;
            let found = store::pending(&mut reader, from, REFILL).await;
            drop(reader);
            let found = found.inspect_err(|_| lock(&self.shared.mirror).refill_continues(from))?;
            self.refilled(
                found.len(),
                found.last().map(|entry| entry.sequence),
                |lane, at| {
                    lock(&lane.mirror).refill_continues(at);
                },
            );
            for entry in found {
                self.offer_work(Work { entry, body: None }).await;
            }
        }
        let wants = lock(&self.shared.rows)
            .wants_refill()
            .filter(|_| self.shared.inventory);
        if let Some(from) = wants {
            lock(&self.shared.rows).refill_begun();
            let mut reader = self.shared.reader.lock().await;
            let found = store::unwritten(&mut reader, from, REFILL).await;
            drop(reader);
            let found = found.inspect_err(|_| lock(&self.shared.rows).refill_continues(from))?;
            self.refilled(
                found.len(),
                found.last().map(|(entry, _)| entry.sequence),
                |lane, at| {
                    lock(&lane.rows).refill_continues(at);
                },
            );
            for (entry, mirrored) in found {
                self.offer_row(row(&entry, mirrored)).await;
            }
        }
        self.feed_due().await
    }

    fn refilled(&self, found: usize, last: Option<Sequence>, resume: impl Fn(&Shared, Sequence)) {
        if i64::try_from(found).is_ok_and(|found| found == REFILL)
            && let Some(last) = last
        {
            resume(&self.shared, last);
        }
    }

    async fn feed_due(&self) -> Result<(), sqlx::Error> {
        let room = i64::try_from(lock(&self.shared.mirror).room())
            .unwrap_or(0)
            .min(REFILL);
        if room == 0 {
            return Ok(());
        }
        let mut reader = self.shared.reader.lock().await;
        let due = store::due(&mut reader, now_ms(), room).await?;
        let rechecks = store::rechecks_due(&mut reader, now_ms(), room).await?;
        drop(reader);
        for entry in due {
            self.offer_work(Work { entry, body: None }).await;
        }
        for (due_ms, object) in rechecks {
            let sequence = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let intent = NewIntent {
                object: object.clone(),
                change: Change::Other,
                request_id: "recheck".into(),
                accepted_ms: now_ms(),
                facts: Facts::default(),
            };
            let entry = Entry {
                sequence,
                object: object.clone(),
                change: Change::Other,
                unknown: true,
                overlapped: true,
                since_ms: intent.accepted_ms,
                request_id: intent.request_id.clone(),
                facts: Facts::default(),
                attempts: 0,
            };
            self.send(Command::Append {
                rows: vec![(sequence, intent)],
                done: None,
            })
            .await;
            self.send(Command::Rechecked { object, due_ms }).await;
            let facts = Facts::default();
            self.send(Command::Settle {
                sequence,
                unknown: true,
                facts,
            })
            .await;
            self.offer_row(row(&entry, false)).await;
            self.offer_work(Work { entry, body: None }).await;
        }
        Ok(())
    }

    // === The inventory's side ===

    /// Takes up to `max` rows to write; waits until there is one. Each is handed in again by
    /// [`Journal::row_written`], [`Journal::row_parked`] or [`Journal::rows_back`].
    pub async fn claim_rows(&self, max: usize) -> Vec<RowWork> {
        loop {
            let ready = self.shared.rows_ready.notified();
            let rows = self.try_claim_rows(max);
            if !rows.is_empty() {
                return rows;
            }
            ready.await;
        }
    }

    /// Takes up to `max` rows that are there now.
    pub fn try_claim_rows(&self, max: usize) -> Vec<RowWork> {
        let mut lane = lock(&self.shared.rows);
        std::iter::from_fn(|| lane.claim()).take(max).collect()
    }

    /// The inventory holds this row.
    pub async fn row_written(&self, row: &RowWork) {
        let level = if row.mirrored { 2 } else { 1 };
        self.send(Command::Written {
            sequence: row.sequence,
            level,
            error: None,
        })
        .await;
        self.release_row(&row.object);
    }

    /// The inventory can never hold this row.
    pub async fn row_parked(&self, row: &RowWork, error: String) {
        self.send(Command::Written {
            sequence: row.sequence,
            level: 3,
            error: Some(error),
        })
        .await;
        self.release_row(&row.object);
    }

    /// The inventory is away: the rows wait.
    pub fn rows_back(&self, rows: Vec<RowWork>) {
        if rows.is_empty() {
            return;
        }
        let mut lane = lock(&self.shared.rows);
        for row in rows {
            lane.put_back(row);
        }
        self.shared.rows_ready.notify_one();
    }

    fn release_row(&self, object: &ObjectKey) {
        if lock(&self.shared.rows).release(object) {
            self.shared.rows_ready.notify_one();
        }
    }

    async fn offer_row(&self, row: RowWork) {
        if !self.shared.inventory {
            return;
        }
        let offered = lock(&self.shared.rows).offer(row);
        match offered {
            Offered::Ready => self.shared.rows_ready.notify_one(),
            Offered::Supersedes(old) | Offered::SupersededBy(old) => {
                // The newer row tells more recent news of the same key.
                let sequence = old.sequence;
                self.send(Command::Written {
                    sequence,
                    level: 2,
                    error: None,
                })
                .await;
            }
            Offered::Known | Offered::Full => {}
        }
    }

    // === For operators ===

    /// What the journal holds, counted now.
    pub async fn figures(&self) -> Result<Figures, sqlx::Error> {
        let mut reader = self.shared.reader.lock().await;
        store::figures(&mut reader).await
    }
}

fn row(entry: &Entry, mirrored: bool) -> RowWork {
    RowWork {
        sequence: entry.sequence,
        object: entry.object.clone(),
        change: entry.change,
        facts: entry.facts.clone(),
        unknown: entry.unknown && !mirrored,
        mirrored,
    }
}

/// Makes the directory and takes its lock, which ends with the process however it ends.
fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Directory {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Builds the part layout of a multipart object from its listed parts, if all sizes are known.
pub fn layout(
    listed: &[crate::s3::xml::ListedPart],
    sizes: &HashMap<(u32, String), u64>,
) -> Option<PartLayout> {
    let known: Option<Vec<u64>> = listed
        .iter()
        .map(|part| sizes.get(&(part.number, part.etag.clone())).copied())
        .collect();
    let etag = crate::s3::state::multipart_etag(listed.iter().map(|part| part.etag.as_str()));
    known
        .filter(|sizes| !sizes.is_empty())
        .map(|sizes| PartLayout::new(sizes, etag))
}

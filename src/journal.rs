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
//! `retry` or `park`; inventory lane: `claim_rows` → `row_written` or `rows_rest`. When both are done the row
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
//! may still take effect at main after the restart are looked at again (`RECHECK_AFTER_MS`), and so are
//! keys over whose newer copy an older one may land that the crash cut off: all that were pending, or,
//! of a backlog too long to be noted at the start, all that are copied until then.

mod ahead;
mod background;
mod batch;
mod claims;
mod doze;
pub mod entry;
pub mod events;
mod feed;
mod health;
mod held;
mod intake;
mod intent;
mod lane;
mod log;
pub mod operator;
mod overtaken;
mod pending;
mod resting;
mod rows;
mod store;
mod tally;
pub mod uploads;
mod waiting;
mod work;
mod writer;
mod young;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::config::JournalSync;
pub use background::Window;
use entry::{ObjectKey, PartLayout, Sequence};
pub use health::Health;
pub use held::FOREVER;
use intent::JournalRef;
pub use intent::{Durable, Intent, Intents};
use lane::Lane;
use log::Log;
pub use store::Recovered;
use tally::Tally;
pub use tally::{Counted, Figures};
use work::row;
pub use work::{RowWork, Trust, Work};
pub use writer::{AppendError, on_its_own_thread};
use writer::{Command, Writer};

/// Keys held in memory per consumer; about 4 MiB at ordinary key lengths.
const LANE_CAPACITY: usize = 8192;
/// Rows read from disk at a time.
const REFILL: i64 = 2048;
/// A request of unknown outcome is looked at now and again after these times: main may still be
/// working on it (completing a large upload takes minutes).
const RECHECK_AFTER_MS: [i64; 3] = [5_000, 60_000, 600_000];

/// Stands for the request in entries that no request made.
const SECOND_LOOK: &str = "recheck";

/// Sizes of parts in bytes by part number and ETag.
pub type PartSizes = HashMap<(u32, String), u64>;

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of its files and their lock; made if missing.
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
    /// `SQLite` refuses the file. Nothing is deleted or repaired by itself: it may hold writes
    /// that are nowhere else.
    #[error("cannot read the journal {path}: {source}")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    urgent: Arc<Notify>,
}

struct Shared {
    next: AtomicI64,
    inventory: bool,
    mirror: Mutex<Lane<Work>>,
    mirror_ready: Notify,
    doze: doze::Doze,
    rows: Mutex<Lane<RowWork>>,
    rows_ready: Notify,
    rows_resting: resting::Resting,
    /// Rows have been parked, in this run or before it.
    rows_parked: AtomicBool,
    /// Until when copies of the previous run may land over those of this one, and when the keys of
    /// the latter are looked at once more for that. None where those of the former are noted.
    landing_late: Option<(Instant, i64)>,
    /// First sequence of this run.
    first: Sequence,
    /// Told of each key that main has surely deleted.
    on_delete: OnceLock<DeleteWatcher>,
    tickets: background::Tickets,
    flights: Mutex<foldhash::HashMap<ObjectKey, Flight>>,
    health: Arc<Health>,
    runtime: tokio::runtime::Handle,
    reader: tokio::sync::Mutex<SqliteConnection>,
    desk: operator::Desk,
    events_desk: operator::Desk,
    events_ready: Notify,
    // Held for its lock until the last handle and the writer are gone.
    _lock: Arc<File>,
}

/// See [`Journal::watch_deletes`].
type DeleteWatcher = Box<dyn Fn(&ObjectKey) + Send + Sync>;

/// Writes of one key that are under way.
struct Flight {
    count: usize,
    overlapped: Arc<AtomicBool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can be left half-changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Journal {
    /// Opens the journal, recovers what the previous run left, and returns the handle and the
    /// writer, which ends when the last handle is gone and wants a thread ([`on_its_own_thread`]).
    pub async fn open(
        settings: &Settings,
    ) -> Result<(Self, Recovered, impl Future<Output = ()> + Send + 'static), OpenError> {
        let directory = &settings.data_dir;
        let lock = Arc::new(lock_directory(directory)?);
        let path = directory.join("journal.sqlite");
        let unreadable = |source| OpenError::Unreadable { path: path.clone(), source };
        let mut db = store::open_writer(&path, settings.sync).await.map_err(unreadable)?;
        let now = now_ms();
        let (mut log, lines) = Log::open(directory, settings.sync)
            .map_err(|error| unreadable(sqlx::Error::Io(error)))?;
        let recheck_ms = RECHECK_AFTER_MS.map(|after| now + after);
        let (recovered, next_line) =
            store::recover(&mut db, &lines, settings.inventory, &recheck_ms)
                .await
                .map_err(unreadable)?;
        if settings.sync == JournalSync::Normal && !lines.is_empty() {
            // The lines are old enough to have reached the disk; what stands for them now must too.
            store::checkpoint(&mut db).await.map_err(unreadable)?;
        }
        log.begin_at(next_line);
        // Counted before there are requests to wait for it.
        let mut tally = Tally::default();
        tally.read(&mut db).await.map_err(unreadable)?;
        let reader = store::open_reader(&path).await.map_err(unreadable)?;
        let (commands, receiver) = mpsc::channel(writer::QUEUE);
        let health = Arc::new(Health::new());
        let urgent = Arc::new(Notify::new());
        // Microseconds of the clock, so that sequences grow over restarts even when the file has
        // been emptied meanwhile; the maximum guards against a clock that went back.
        let first = (now * 1000).max(recovered.last + 1);
        let shared = Arc::new(Shared {
            next: AtomicI64::new(first),
            first,
            on_delete: OnceLock::new(),
            inventory: settings.inventory,
            mirror: Mutex::new(Lane::new(LANE_CAPACITY)),
            mirror_ready: Notify::new(),
            doze: doze::Doze::new(),
            rows: Mutex::new(Lane::new(LANE_CAPACITY)),
            rows_ready: Notify::new(),
            rows_resting: resting::Resting::default(),
            rows_parked: AtomicBool::new(recovered.rows_parked),
            landing_late: recovered.crowded.then(|| {
                let after = Duration::from_millis(store::LATE_COPY_MS.unsigned_abs());
                (Instant::now() + after, now_ms() + store::LATE_COPY_MS)
            }),
            tickets: background::Tickets::default(),
            flights: Mutex::default(),
            health: health.clone(),
            runtime: tokio::runtime::Handle::current(),
            reader: tokio::sync::Mutex::new(reader),
            desk: operator::Desk::new(path.clone()),
            events_desk: operator::Desk::new(path.clone()),
            events_ready: Notify::new(),
            _lock: lock.clone(),
        });
        let writer = Writer {
            path,
            sync: settings.sync,
            inventory: settings.inventory,
            health,
            log,
            log_fails: false,
            db: Some(db),
            failed: None,
            trouble_looked: Instant::now(),
            tally,
            commands: receiver,
            urgent: urgent.clone(),
            _lock: lock,
        };
        Ok((Self { shared, commands, urgent }, recovered, writer.run()))
    }

    /// Does the disk take what it is given?
    pub fn health(&self) -> &Health {
        &self.shared.health
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
        let urgent = command.urgent();
        // There nearly always is room, and then this is all.
        let sent = match self.commands.try_send(command) {
            Err(TrySendError::Full(command)) => self.commands.send(command).await.is_ok(),
            tried => tried.is_ok(),
        };
        if !sent {
            // The writer outlives every handle; if it has panicked the intent rows on disk speak.
            tracing::error!("the journal writer is gone");
        }
        if urgent {
            self.urgent.notify_one();
        }
    }

    /// Runs a settlement to its end, whatever becomes of the request's own thread.
    pub fn spawn(&self, settlement: impl Future<Output = ()> + Send + 'static) {
        self.shared.runtime.spawn(settlement);
    }

    /// Whatever is appended from now on comes behind this.
    pub fn position(&self) -> Sequence {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// What the journal holds now: everything said before is part of it. Cheap with any backlog.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn counted(&self) -> Result<Counted, sqlx::Error> {
        let (done, counted) = oneshot::channel();
        self.send(Command::Count { done }).await;
        if let Ok(Some(counted)) = counted.await {
            return Ok(counted);
        }
        // The file cannot be written, or the writer has ended; it may be readable all the same.
        let mut reader = self.shared.reader.lock().await;
        tally::count(&mut reader).await
    }

    /// [`Journal::counted`] of the entries.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn figures(&self) -> Result<Figures, sqlx::Error> {
        self.counted().await.map(|(figures, _)| figures)
    }
}

/// Makes the directory and takes its lock, which ends with the process however it ends.
fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Directory { path: directory.to_owned(), source };
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
pub fn layout(listed: &[crate::s3::xml::ListedPart], sizes: &PartSizes) -> Option<PartLayout> {
    let known: Option<Vec<u64>> =
        listed.iter().map(|part| sizes.get(&(part.number, part.etag.clone())).copied()).collect();
    let etag = crate::s3::state::multipart_etag(listed.iter().map(|part| part.etag.as_str()));
    known.filter(|sizes| !sizes.is_empty()).map(|sizes| PartLayout::new(sizes, etag))
}

//! The one task that writes the journal: group commit.
//!
//! Whatever waits is written at once, so a hundred intents cost one sync. Intents are written alone, as a
//! line of the log ([`super::log`]), because requests wait for them; everything else may wait a moment
//! ([`LAZY`]) for company and goes into the database ([`super::batch`]), because losing it only repeats
//! idempotent work.
//!
//! The task blocks while it writes the log: it wants a thread of its own.
//!
//! **When the disk fails**: what the log does not take becomes rows of the database at once. While that
//! cannot be written either, every waiting append is answered with an error. What could not
//! be written is kept, in order and up to [`CARRY_MAX`] commands, and written when the disk
//! recovers; beyond that appends are refused outright ([`AppendError::Full`]).

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::Health;
use super::batch::{self, Batch};
use super::entry::{Facts, NewIntent, ObjectKey, Sequence};
use super::events::{Aftermath, Event};
use super::log::Log;
use super::operator::Operation;
use super::pending::Pending;
use super::tally::{Counted, Tally};
use super::uploads::MirrorUpload;
use super::waiting::Waiting;
use super::{held, store};
use crate::config::JournalSync;

/// Commands that wait for the writer; senders wait beyond that.
pub(super) const QUEUE: usize = 8192;
/// Most commands in one transaction.
const BATCH_MAX: usize = 4096;
/// How long commands nobody waits for may wait for company.
const LAZY: Duration = Duration::from_millis(25);
/// Most commands kept in memory while the disk fails, about 50 MiB at the very worst.
const CARRY_MAX: usize = 50_000;
/// How often it is looked whether there is still an entry in trouble.
const TROUBLE_LOOK: Duration = Duration::from_secs(1);
/// Pause between tries while the disk fails and nothing new arrives.
const RETRY: Duration = Duration::from_millis(500);

/// Why an intent could not be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk failed; the intent is kept in memory and written when the disk recovers.
    #[error("the journal cannot be written")]
    Unavailable,
    /// The disk has failed for so long that memory for it is used up; nothing is kept.
    #[error("the journal cannot be written and nothing more can be kept in memory")]
    Full,
}

pub(super) type Done = oneshot::Sender<Result<(), AppendError>>;

/// How an entry is set aside.
#[derive(Debug)]
pub(super) struct Aside {
    /// Older entries of this key are settled with it.
    pub(super) object: Option<ObjectKey>,
    pub(super) attempts: u32,
    pub(super) due_ms: i64,
    pub(super) error: String,
    /// The mirror has the key's state all the same.
    pub(super) row_anew: bool,
}

/// Intents that came together; most requests change one key.
pub(super) type Appended = SmallVec<[(Sequence, Arc<NewIntent>); 1]>;

/// One change to the journal. Small, as it is moved several times on its way: what is rare and large is boxed.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        rows: Appended,
        done: Option<Done>,
    },
    Settle {
        sequence: Sequence,
        unknown: bool,
        facts: Arc<Facts>,
    },
    Close {
        sequence: Sequence,
    },
    Merge {
        sequence: Sequence,
        since_ms: i64,
        unknown: bool,
        facts: Arc<Facts>,
    },
    Retry {
        sequence: Sequence,
        attempts: u32,
        due_ms: i64,
        error: String,
    },
    Park {
        sequence: Sequence,
        attempts: u32,
        error: String,
    },
    Hold {
        sequence: Sequence,
        aside: Box<Aside>,
    },
    Unhold {
        bucket: String,
        delay_ms: i64,
    },
    /// `relieves`: older entries of the key that failed are settled with it.
    Mirrored {
        sequence: Sequence,
        object: ObjectKey,
        facts: Arc<Facts>,
        relieves: bool,
    },
    Written {
        sequence: Sequence,
        level: i64,
        error: Option<String>,
        reasoned: bool,
    },
    RowRelieved {
        sequence: Sequence,
        object: ObjectKey,
    },
    Recheck {
        object: ObjectKey,
        due_ms: i64,
    },
    Rechecked {
        object: ObjectKey,
        due_ms: i64,
    },
    Part {
        upload_id: String,
        number: u32,
        etag: String,
        size: u64,
        at_ms: i64,
    },
    UploadEnded {
        upload_id: String,
    },
    MirrorUpload {
        number: i64,
        upload: Option<Box<MirrorUpload>>,
    },
    Hasten,
    Event(Box<Event>),
    EventAftermath(Box<Aftermath>),
    EventsDelivered {
        ids: Vec<Sequence>,
    },
    Operate {
        operation: Operation,
        done: Option<Done>,
    },
    Flush {
        done: Done,
    },
    Count {
        done: oneshot::Sender<Option<Counted>>,
    },
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) sync: JournalSync,
    pub(super) inventory: bool,
    pub(super) health: Arc<Health>,
    pub(super) log: Log,
    /// Did it not take the last line?
    pub(super) log_fails: bool,
    pub(super) db: Option<SqliteConnection>,
    /// When the database failed, if it did when it was last tried.
    pub(super) failed: Option<Instant>,
    /// When it was last asked whether there is an entry in trouble.
    pub(super) trouble_looked: Instant,
    pub(super) tally: Tally,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Told of commands that somebody waits for.
    pub(super) urgent: Arc<Notify>,
    // Nobody else may open the files before the last write.
    pub(super) _lock: Arc<File>,
}

/// Runs the writer, which blocks while the disk works; yields when it has ended.
///
/// # Errors
/// The system gives no thread.
pub fn on_its_own_thread(
    writer: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        runtime.block_on(writer);
        // Whoever no longer waits has ended too.
        done.send(()).ok();
    })?;
    Ok(ended)
}

impl Writer {
    /// Runs until every sender is gone; what was sent before is written.
    pub(super) async fn run(mut self) {
        let mut pending = Pending { is_troubled: true, ..Pending::default() };
        let mut waiting = Waiting::default();
        let mut arrived = Vec::with_capacity(BATCH_MAX);
        // When what nobody waits for is written at the latest.
        let mut due: Option<Instant> = None;
        loop {
            let open = self.gather(&mut arrived, due).await;
            let is_full = pending.len() >= CARRY_MAX;
            for command in arrived.drain(..) {
                waiting.take(command, is_full, &mut pending);
            }
            let flush = waiting.flushes() || !open;
            let now = Instant::now();
            let is_logged = self.log(&mut pending, now);
            if is_logged {
                // The database is no concern of theirs.
                waiting.answer_appends(Ok(()));
            }
            // Whoever flushes is about to read rows, and what could not be written is written as such.
            let everything = flush || !is_logged || self.failed.is_some();
            let overdue = due.is_some_and(|due| due <= now) || pending.said() >= BATCH_MAX;
            let is_time = everything || overdue;
            if is_time && (flush || !is_logged || !self.rests(now)) {
                self.write(&mut pending, now, everything).await;
            }
            due = (!pending.is_empty()).then(|| due.filter(|_| !is_time).unwrap_or(now + LAZY));
            waiting.answer(self.failed.map_or(Ok(()), |_| Err(AppendError::Unavailable)));
            if waiting.asks() {
                waiting.tell(self.count().await.as_ref());
            }
            if !open {
                break;
            }
        }
    }

    /// Waits for commands somebody waits for, or until others are due. False: the end.
    async fn gather(&mut self, arrived: &mut Vec<Command>, due: Option<Instant>) -> bool {
        let due = match due {
            Some(_) if self.failed.is_some() => Instant::now() + RETRY,
            Some(due) => due,
            None => {
                if self.commands.recv_many(arrived, BATCH_MAX).await == 0 {
                    return false;
                }
                Instant::now() + LAZY
            }
        };
        if !arrived.iter().any(Command::urgent) {
            tokio::select! {
                biased;
                () = self.urgent.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
        while arrived.len() < BATCH_MAX {
            match self.commands.try_recv() {
                Ok(command) => arrived.push(command),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// Makes the appends durable. False: the log does not take them; they are to become rows at once.
    fn log(&mut self, pending: &mut Pending, now: Instant) -> bool {
        if pending.appends.is_empty() {
            return true;
        }
        let line = batch::line(&pending.appends, self.inventory).map_err(std::io::Error::other);
        let (health, log) = (&self.health, &mut self.log);
        let logged = line.and_then(|line| health.watched(|| log.append(&line)));
        let was_failing = std::mem::replace(&mut self.log_fails, logged.is_err());
        match logged {
            Ok(number) => {
                if was_failing {
                    tracing::warn!("the journal's log can be written again");
                }
                tracing::debug!(appends = pending.appends.len(), "logged");
                pending.logged(number, now);
                true
            }
            Err(error) => {
                if !was_failing {
                    tracing::error!(%error, "the journal's log cannot be written; the database is");
                }
                pending.not_logged();
                false
            }
        }
    }

    /// Has the database failed so lately that it is not tried again?
    fn rests(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now < failed + RETRY)
    }

    /// Writes what is due into the database: with `everything` all that there is.
    async fn write(&mut self, pending: &mut Pending, now: Instant, everything: bool) {
        self.health.begin();
        self.write_due(pending, now, everything).await;
        self.health.end();
    }

    async fn write_due(&mut self, pending: &mut Pending, now: Instant, everything: bool) {
        pending.ripen(now, everything, self.inventory);
        if pending.is_due(now, everything) {
            if let Err(error) = self.try_write(pending).await {
                self.reopen();
                self.failed = Some(Instant::now());
                return self.health.failed(&error);
            }
            if let Some(number) = pending.young.gone() {
                self.log.taken(number);
            }
            pending.written();
        }
        self.failed = None;
        self.health.recovered();
        if pending.is_troubled && now - self.trouble_looked >= TROUBLE_LOOK {
            pending.is_troubled = self.is_troubled().await;
            self.trouble_looked = now;
        }
    }

    /// Is there an entry in trouble? To be asked when nothing that was said of any is unwritten.
    async fn is_troubled(&mut self) -> bool {
        let Some(db) = &mut self.db else { return true };
        store::is_troubled(db).await.unwrap_or(true)
    }

    /// The connection may be beyond use: the next try begins with a new one.
    fn reopen(&mut self) {
        self.db = None;
        self.tally = Tally::default();
    }

    /// The figures of what is on disk; none where it is not all there, or the file cannot be read.
    async fn count(&mut self) -> Option<Counted> {
        if self.failed.is_some() {
            return None;
        }
        self.health.begin();
        let counted = self.try_count().await;
        self.health.end();
        counted
            .inspect_err(|error| {
                tracing::warn!(%error, "the journal cannot be counted where it is written");
                self.reopen();
            })
            .ok()
    }

    async fn try_count(&mut self) -> Result<Counted, sqlx::Error> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(store::open_writer(&self.path, self.sync).await?),
        };
        self.tally.read(db).await
    }

    async fn try_write(&mut self, pending: &Pending) -> Result<(), sqlx::Error> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(store::open_writer(&self.path, self.sync).await?),
        };
        let batch = Batch::new(pending, self.inventory)
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        batch.commit(db, &pending.later.operations).await?;
        for (bucket, delay_ms) in &pending.later.unholds {
            held::unhold(db, bucket, *delay_ms).await?;
        }
        tracing::debug!(rows = pending.grown.len(), said = pending.later.len(), "committed");
        Ok(())
    }
}

impl Command {
    pub(super) fn urgent(&self) -> bool {
        matches!(
            self,
            Self::Append { done: Some(_), .. }
                | Self::Operate { .. }
                | Self::Flush { .. }
                | Self::Count { .. }
        )
    }
}

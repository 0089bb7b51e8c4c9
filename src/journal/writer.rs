//! The one task that writes the journal: group commit.
//!
//! Whatever waits is committed as one transaction, so a hundred intents cost one sync. Intents
//! are committed at once, because requests wait for them; everything else may wait a moment for
//! company, because losing it only repeats idempotent work.
//!
//! **When the disk fails** every waiting append is answered with an error at once. What could not
//! be written is kept, in order and up to [`CARRY_MAX`] commands, and written when the disk
//! recovers; beyond that appends are refused outright ([`AppendError::Full`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::Health;
use super::batch::Batch;
use super::entry::{Facts, NewIntent, ObjectKey, Sequence};
use super::operator::Operation;
use super::{held, store};
use crate::config::JournalSync;

/// Commands that wait for the writer; senders wait beyond that.
pub(super) const QUEUE: usize = 8192;
/// Most commands in one transaction.
const BATCH_MAX: usize = 4096;
/// How long commands nobody waits for may wait for company.
const LAZY: Duration = Duration::from_millis(10);
/// Most commands kept in memory while the disk fails, about 50 MiB at the very worst.
const CARRY_MAX: usize = 50_000;
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

/// One change to the journal.
#[derive(Debug)]
pub(super) enum Command {
    Append { rows: Vec<(Sequence, NewIntent)>, done: Option<Done> },
    Settle { sequence: Sequence, unknown: bool, facts: Facts },
    Close { sequence: Sequence },
    Merge { sequence: Sequence, since_ms: i64, unknown: bool, facts: Facts },
    Retry { sequence: Sequence, attempts: u32, due_ms: i64, error: String },
    Park { sequence: Sequence, attempts: u32, error: String },
    Hold { sequence: Sequence, object: ObjectKey, attempts: u32, due_ms: i64, error: String },
    Unhold { bucket: String, delay_ms: i64 },
    Mirrored { sequence: Sequence, object: ObjectKey, facts: Facts },
    Written { sequence: Sequence, level: i64, error: Option<String>, reasoned: bool },
    RowRelieved { sequence: Sequence, object: ObjectKey },
    Recheck { object: ObjectKey, due_ms: i64 },
    Rechecked { object: ObjectKey, due_ms: i64 },
    Part { upload_id: String, number: u32, etag: String, size: u64, at_ms: i64 },
    UploadEnded { upload_id: String },
    Hasten,
    Operate { operation: Operation, done: Option<Done> },
    Flush { done: Done },
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) sync: JournalSync,
    pub(super) inventory: bool,
    pub(super) health: Arc<Health>,
    pub(super) db: Option<SqliteConnection>,
    pub(super) commands: mpsc::Receiver<Command>,
}

impl Writer {
    /// Runs until every sender is gone; what was sent before is written.
    pub(super) async fn run(mut self) {
        let mut carry: Vec<Command> = Vec::new();
        let mut arrived = Vec::with_capacity(BATCH_MAX);
        loop {
            if !self.gather(&mut arrived, !carry.is_empty()).await {
                break;
            }
            let full = carry.len() >= CARRY_MAX;
            let mut waiting: Vec<Done> = Vec::new();
            for mut command in arrived.drain(..) {
                let done = match &mut command {
                    Command::Append { done, .. } | Command::Operate { done, .. } => done.take(),
                    _ => None,
                };
                match (command, done) {
                    (Command::Append { .. } | Command::Operate { .. }, Some(done)) if full => {
                        answer(done, Err(AppendError::Full));
                    }
                    (Command::Flush { done }, _) => waiting.push(done),
                    (command, done) => {
                        carry.push(command);
                        waiting.extend(done);
                    }
                }
            }
            let written = self.write(&carry).await;
            if written {
                carry.clear();
            }
            for done in waiting {
                answer(done, if written { Ok(()) } else { Err(AppendError::Unavailable) });
            }
        }
    }

    /// Waits for commands; with failed ones in hand only for a while. False: the end.
    async fn gather(&mut self, arrived: &mut Vec<Command>, failed: bool) -> bool {
        if failed {
            return match tokio::time::timeout(RETRY, self.commands.recv_many(arrived, BATCH_MAX))
                .await
            {
                // The end has come while the disk fails: one last try is made by the caller.
                Ok(0) => false,
                Ok(_) | Err(_) => true,
            };
        }
        if self.commands.recv_many(arrived, BATCH_MAX).await == 0 {
            return false;
        }
        let deadline = tokio::time::Instant::now() + LAZY;
        while arrived.len() < BATCH_MAX && !arrived.iter().any(Command::urgent) {
            let room = BATCH_MAX - arrived.len();
            match tokio::time::timeout_at(deadline, self.commands.recv_many(arrived, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        true
    }

    async fn write(&mut self, commands: &[Command]) -> bool {
        let result = self.try_write(commands).await;
        match &result {
            Ok(()) => self.health.recovered(),
            Err(error) => {
                self.health.failed(error);
                // The connection may be beyond use; the next try begins with a new one.
                self.db = None;
            }
        }
        result.is_ok()
    }

    async fn try_write(&mut self, commands: &[Command]) -> Result<(), sqlx::Error> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(store::open_writer(&self.path, self.sync).await?),
        };
        let batch = batch(commands, self.inventory);
        batch.commit(db).await?;
        tracing::debug!(commands = commands.len(), "journal committed");
        if commands.iter().any(|command| matches!(command, Command::Hasten)) {
            store::hasten(db).await?;
        }
        for command in commands {
            if let Command::Unhold { bucket, delay_ms } = command {
                held::unhold(db, bucket, *delay_ms).await?;
            }
        }
        Ok(())
    }
}

impl Command {
    fn urgent(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Flush { .. } | Self::Operate { .. })
    }
}

fn answer(done: Done, result: Result<(), AppendError>) {
    // Whoever no longer waits needs no answer.
    if done.send(result).is_err() {
        tracing::trace!("an append was committed after its request had gone");
    }
}

fn batch(commands: &[Command], inventory: bool) -> Batch {
    let mut batch = Batch::default();
    for command in commands {
        match command {
            Command::Append { rows, .. } => {
                for (sequence, intent) in rows {
                    batch.inserts.push(json!([
                        sequence,
                        &*intent.object.bucket,
                        &*intent.object.key,
                        intent.change.code(),
                        intent.accepted_ms,
                        &*intent.request_id,
                        text(&intent.facts),
                        // A bucket has no row of its own.
                        if inventory && !intent.object.is_bucket() { 0 } else { 2 },
                    ]));
                }
            }
            Command::Settle { sequence, unknown, facts } => batch.settled.push(json!([
                sequence,
                if *unknown { 2 } else { 1 },
                facts.size.unwrap_or(0),
                text(facts),
            ])),
            Command::Close { sequence } => batch.closed.push(*sequence),
            Command::Merge { sequence, since_ms, unknown, facts } => batch.merged.push(json!([
                sequence,
                since_ms,
                if *unknown { 2 } else { 1 },
                text(facts),
            ])),
            Command::Retry { sequence, attempts, due_ms, error } => {
                batch.troubled.push(json!([sequence, 2, attempts, due_ms, error]));
            }
            Command::Park { sequence, attempts, error } => {
                // A parked entry is never due: its time says when it was parked.
                batch.troubled.push(json!([sequence, 3, attempts, super::now_ms(), error]));
            }
            Command::Hold { sequence, object, attempts, due_ms, error } => {
                batch.troubled.push(json!([sequence, held::HELD, attempts, due_ms, error]));
                batch.held.push(json!([sequence, &*object.bucket, &*object.key]));
            }
            Command::Mirrored { sequence, object, facts } => {
                batch.mirrored.push(json!([sequence, &*object.bucket, &*object.key, text(facts)]));
            }
            Command::Written { sequence, level, error, reasoned } => {
                batch.written.push(json!([sequence, level, error, reasoned]));
            }
            Command::RowRelieved { sequence, object } => {
                batch.rows_relieved.push(json!([sequence, &*object.bucket, &*object.key]));
            }
            Command::Recheck { object, due_ms } => {
                batch.rechecks.push(json!([due_ms, &*object.bucket, &*object.key]));
            }
            Command::Rechecked { object, due_ms } => {
                batch.rechecked.push(json!([due_ms, &*object.bucket, &*object.key]));
            }
            Command::Part { upload_id, number, etag, size, at_ms } => {
                batch.parts.push(json!([upload_id, number, etag, size, at_ms]));
            }
            Command::UploadEnded { upload_id } => batch.uploads_ended.push(upload_id.clone()),
            Command::Operate { operation, .. } => batch.operations.push(operation.clone()),
            Command::Unhold { .. } | Command::Hasten | Command::Flush { .. } => {}
        }
    }
    batch.condense();
    batch
}

fn text(facts: &Facts) -> String {
    // Facts are plain data and always serialise; empty facts are the honest fallback.
    serde_json::to_string(facts).unwrap_or_else(|_| "{}".to_owned())
}

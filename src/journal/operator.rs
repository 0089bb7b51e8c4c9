//! The operator's side of the journal: what stands still and why, and the say of a person about it.
//!
//! # Promises
//! - **P5** Questions go over a connection of their own, so that a long look at a large backlog
//!   holds up neither requests nor workers.
//! - **P6** Everything is paged: a million parked keys are retried or given up [`PAGE_MAX`] at a
//!   time, and memory holds one page.
//! - **P8** Nothing is dropped but by [`Journal::discard`], which tells each key it gives up.
//!
//! # Notes
//! A small table of names and values beside the entries, for what has to survive a restart without
//! being about a key: a pause, a brake, the cursor of a job.

mod sql;

use std::path::PathBuf;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::{ObjectKey, Sequence};
use super::writer::{AppendError, Command};
use super::{Journal, lock, now_ms, store};
pub(super) use sql::{SCHEMA, apply};

/// Most keys in one answer, and in one command to the writer.
pub const PAGE_MAX: u32 = 1000;
/// Buckets that are told apart in [`Journal::bucket_figures`]; the busiest come first.
pub const BUCKETS_MAX: u32 = 1000;
/// Pages that one call retries or gives up: seconds of work, and whoever waits for the answer may
/// go on from there.
pub(super) const CHUNK_PAGES: usize = 20;
/// Entries of one key that are told, the newest first.
const HISTORY_MAX: i64 = 100;

/// A change an operator makes, as the writer takes it.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// Sets or removes a note.
    Note { name: String, value: Option<String> },
    /// Parked entries are tried again; those that wait for their next try are due.
    Retry { sequences: Vec<Sequence> },
    /// Parked entries are given up.
    Discard { sequences: Vec<Sequence> },
    /// Refused events are due.
    RetryEvents { ids: Vec<Sequence>, now_ms: i64 },
    /// Events are given up.
    DiscardEvents { ids: Vec<Sequence> },
}

/// The connection for questions, made when the first is asked.
pub(super) struct Desk {
    path: PathBuf,
    db: tokio::sync::Mutex<Option<SqliteConnection>>,
}

impl Desk {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, db: tokio::sync::Mutex::new(None) }
    }

    /// Asks; after an error the next question makes a new connection.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut held = self.db.lock().await;
        let mut db = match held.take() {
            Some(db) => db,
            None => store::open_reader(&self.path).await?,
        };
        let answer = question(&mut db).await?;
        *held = Some(db);
        Ok(answer)
    }
}

/// Which parked keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only of this bucket; all without it.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Only this key; needs the bucket.
    #[serde(default)]
    pub key: Option<String>,
}

/// Where a page begins: behind this entry, in the order of bucket, key and sequence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct After {
    /// Bucket of the last entry seen.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its position.
    pub sequence: Sequence,
}

/// One change that a permanent error has stopped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Parked {
    /// Position in the journal.
    pub sequence: Sequence,
    /// Bucket on main.
    pub bucket: String,
    /// Key; empty for the bucket itself.
    pub key: String,
    /// How the key changed: `put`, `copy`, `complete`, `delete`, `tagging`, `other`, `bucket`.
    pub change: &'static str,
    /// Is the copy to the mirror stopped?
    pub mirror: bool,
    /// Is the row of the inventory stopped?
    pub inventory: bool,
    /// Why.
    pub reason: String,
    /// Tries of the mirror so far.
    pub attempts: i64,
    /// When main accepted the change, milliseconds since 1970.
    pub accepted_ms: i64,
    /// When the copy was stopped, milliseconds since 1970; unknown for entries of old versions.
    pub parked_ms: Option<i64>,
    /// Bytes of the object, as far as known.
    pub bytes: i64,
    /// The request that made the change, as the log names it.
    pub request_id: String,
    /// Has the row of the inventory still to be written?
    pub row_waits: bool,
}

impl Parked {
    /// Where a page begins that this one is not in any more.
    pub fn position(&self) -> After {
        After { bucket: self.bucket.clone(), key: self.key.clone(), sequence: self.sequence }
    }
}

/// What retrying or discarding did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Handled {
    /// Entries that were parked and no longer are.
    pub entries: u64,
    /// Bytes of their objects, as far as known.
    pub bytes: i64,
    /// Entries that were left as they are, because their row has yet to be written.
    pub left: u64,
    /// The first of them (at most 100): `bucket/key`.
    pub keys: Vec<String>,
    /// Where to go on: there was more than is done at a time.
    pub next: Option<After>,
}

/// Names of keys in [`Handled`].
const NAMED_MAX: usize = 100;

impl Handled {
    /// One more.
    pub(super) fn add(&mut self, bucket: &str, key: &str) {
        self.entries += 1;
        if self.keys.len() < NAMED_MAX {
            self.keys.push(format!("{bucket}/{key}"));
        }
    }
}

/// The last of a page, if more may be behind it: the page has as many as were asked for.
pub fn last_of_full<T>(page: &[T], limit: u32) -> Option<&T> {
    page.last().filter(|_| usize::try_from(limit).is_ok_and(|limit| page.len() == limit))
}

/// One entry of a key, as `explain` tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// Position in the journal.
    pub sequence: Sequence,
    /// How the key changed.
    pub change: &'static str,
    /// `intent` (the request is under way), `changed`, or `unknown` (main is asked).
    pub outcome: &'static str,
    /// `waiting`, `claimed`, `retrying`, `held` (a delete), `parked`, or `done`.
    pub mirror: &'static str,
    /// `waiting`, `written` (as not yet mirrored), `done`, or `parked`.
    pub inventory: &'static str,
    /// When main's answer was awaited, milliseconds since 1970.
    pub accepted_ms: i64,
    /// The request that made the change, as the log names it.
    pub request_id: String,
    /// Bytes of the object, as far as known.
    pub bytes: i64,
    /// Failed tries of the mirror.
    pub attempts: i64,
    /// Last error.
    pub error: Option<String>,
    /// Next try, milliseconds since 1970, while retrying or held for a time.
    pub next_try_ms: Option<i64>,
    /// When the copy was stopped, milliseconds since 1970, while parked.
    pub parked_ms: Option<i64>,
    /// `ETag` of the state, as far as known.
    pub etag: Option<String>,
}

/// All the journal knows of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// Entries, the newest first, 100 at most.
    pub entries: Vec<Told>,
    /// When the key is looked at once more, milliseconds since 1970.
    pub rechecks_ms: Vec<i64>,
}

/// What the journal holds of one bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct BucketFigures {
    /// Name on main.
    pub bucket: String,
    /// Changes the mirror has not confirmed, parked ones left out.
    pub pending_operations: i64,
    /// Their bytes, as far as known.
    pub pending_bytes: i64,
    /// When the oldest of them was accepted, milliseconds since 1970.
    pub oldest_pending_ms: Option<i64>,
    /// Changes stopped by a permanent error, at the mirror or at the inventory.
    pub parked: i64,
    /// Deletes that are set aside.
    pub held_deletes: i64,
    /// Rows the inventory has not written.
    pub pending_rows: i64,
    /// When the newest change in the journal was accepted, milliseconds since 1970.
    pub last_change_ms: Option<i64>,
}

/// Why a number of keys stand still.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// `retrying` or `parked`.
    pub state: &'static str,
    /// The error, as it was last seen.
    pub reason: String,
    /// How many keys.
    pub keys: i64,
    /// One of them: `bucket/key`.
    pub example: String,
}

impl Journal {
    /// The value of a note.
    pub async fn note(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        self.ask(async |db| sql::note(db, name).await).await
    }

    /// Sets a note, or removes it; on disk when it answers.
    ///
    /// # Errors
    /// The disk failed. The note is kept in memory and written when the disk recovers, unless it
    /// is [`AppendError::Full`].
    pub async fn set_note(&self, name: &str, value: Option<&str>) -> Result<(), AppendError> {
        let value = value.map(str::to_owned);
        self.operate(Operation::Note { name: name.to_owned(), value }).await
    }

    /// Parked entries, in the order of bucket and key; at most `limit`, and [`PAGE_MAX`].
    pub async fn parked(
        &self,
        selection: &Selection,
        after: Option<&After>,
        limit: u32,
    ) -> Result<Vec<Parked>, sqlx::Error> {
        let limit = limit.min(PAGE_MAX);
        self.ask(async |db| sql::parked(db, selection, after, limit).await).await
    }

    /// Tries parked entries again, and at once those of the selection that wait for their next try.
    /// It begins behind `after` and does 20 pages at most; [`Handled::next`] says where to go on.
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub async fn retry_parked(
        &self,
        selection: &Selection,
        after: Option<&After>,
    ) -> Result<Handled, OperatorError> {
        let handled = self.handle(selection, after, false).await?;
        if let Some(bucket) = &selection.bucket {
            let waiting = selection.key.as_ref().map(|key| ObjectKey::new(bucket, key));
            lock(&self.shared.mirror).wake_where(Instant::now(), |object| {
                waiting.as_ref().map_or(*object.bucket == **bucket, |key| key == object)
            });
            self.shared.mirror_ready.notify_one();
        } else {
            self.hasten().await;
        }
        Ok(handled)
    }

    /// Gives parked entries up: the mirror stays as it is for these keys, and so does the
    /// inventory's row, until they are written anew or a comparison finds them. An entry whose row
    /// the inventory has not written yet is left. In pieces, as [`Journal::retry_parked`].
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub async fn discard(
        &self,
        selection: &Selection,
        after: Option<&After>,
    ) -> Result<Handled, OperatorError> {
        self.handle(selection, after, true).await
    }

    async fn handle(
        &self,
        selection: &Selection,
        after: Option<&After>,
        discard: bool,
    ) -> Result<Handled, OperatorError> {
        let mut handled = Handled { next: after.cloned(), ..Handled::default() };
        for _ in 0..CHUNK_PAGES {
            let page = self.parked(selection, handled.next.as_ref(), PAGE_MAX).await?;
            handled.next = last_of_full(&page, PAGE_MAX).map(Parked::position);
            let (left, chosen): (Vec<Parked>, Vec<Parked>) =
                page.into_iter().partition(|entry| discard && entry.row_waits);
            handled.left += u64::try_from(left.len()).unwrap_or(u64::MAX);
            for entry in &chosen {
                if discard {
                    tracing::warn!(
                        bucket = entry.bucket,
                        key = entry.key,
                        change = entry.change,
                        size = entry.bytes,
                        error = entry.reason,
                        request_id = entry.request_id,
                        "given up by an operator: the mirror or the inventory stays without this \
                         change"
                    );
                }
                handled.bytes = handled.bytes.saturating_add(entry.bytes);
                handled.add(&entry.bucket, &entry.key);
            }
            let sequences: Vec<Sequence> = chosen.iter().map(|entry| entry.sequence).collect();
            let rows = chosen.iter().filter(|entry| entry.inventory).map(|entry| entry.sequence);
            let first_row = rows.min().filter(|_| !discard);
            if !sequences.is_empty() {
                self.operate(if discard {
                    Operation::Discard { sequences }
                } else {
                    Operation::Retry { sequences }
                })
                .await?;
            }
            if let Some(first) = first_row {
                // The rows are read from the disk again, from here on.
                lock(&self.shared.rows).refill_continues(first - 1);
            }
            if handled.next.is_none() {
                break;
            }
        }
        Ok(handled)
    }

    /// Everything the journal knows of one key.
    pub async fn explain(&self, object: &ObjectKey) -> Result<Explained, sqlx::Error> {
        let claimed = lock(&self.shared.mirror).claimed(object);
        self.flush().await;
        let mut told = self.ask(async |db| sql::explain(db, object, HISTORY_MAX).await).await?;
        for entry in &mut told.entries {
            if claimed == Some(entry.sequence) && matches!(entry.mirror, "waiting" | "retrying") {
                entry.mirror = "claimed";
                entry.next_try_ms = None;
            }
        }
        Ok(told)
    }

    /// What the journal holds by bucket, counted now; the busiest [`BUCKETS_MAX`] buckets.
    pub async fn bucket_figures(&self) -> Result<Vec<BucketFigures>, sqlx::Error> {
        self.flush().await;
        self.ask(async |db| sql::bucket_figures(db, BUCKETS_MAX).await).await
    }

    /// Why keys wait or are parked: the most frequent reasons.
    pub async fn reasons(&self, limit: u32) -> Result<Vec<Reason>, sqlx::Error> {
        self.ask(async |db| sql::reasons(db, limit).await).await
    }

    pub(super) async fn operate(&self, operation: Operation) -> Result<(), AppendError> {
        let (done, durable) = oneshot::channel();
        self.send(Command::Operate { operation, done: Some(done) }).await;
        durable.await.unwrap_or(Err(AppendError::Unavailable))
    }

    /// Asks over the operator's own connection.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.shared.desk.ask(question).await
    }
}

/// Why an operator's change was not made.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The journal cannot be read.
    #[error("the journal cannot be read: {0}")]
    Read(#[from] sqlx::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Write(#[from] AppendError),
}

/// Age of a moment in seconds; 0 for one that lies ahead.
pub fn age_seconds(moment_ms: i64) -> f64 {
    let age_ms = now_ms().saturating_sub(moment_ms).max(0);
    std::time::Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests;

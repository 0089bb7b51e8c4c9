//! Multipart uploads that copies have begun on the mirror: noted, so that none that a crash cuts off
//! stays there for ever, unseen and paid for.
//!
//! # Promises
//! - [`Journal::note_upload`] answers when the note is on disk (as far as `JOURNAL_SYNC` promises), so
//!   that an upload which is begun afterwards is found by the next run, by its ID or without it.
//! - The ID is written when the mirror has told it, and the note removed when the upload is over;
//!   neither is waited for. Losing the one costs a question, losing the other an abort that finds
//!   nothing.
//!
//! # Crash
//! What [`Journal::noted_uploads`] tells at the start belongs to nobody any more.

use sqlx::sqlite::SqliteConnection;

use super::Journal;
use super::writer::Command;

/// Brought up with the journal's own tables.
pub(super) const SCHEMA: &[&str] = &["CREATE TABLE IF NOT EXISTS mirror_upload (
        number INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL,
        upload_id TEXT, -- none: the mirror had not told it
        begun_ms INTEGER NOT NULL
    )"];

/// `(number, bucket, key, upload ID, begun)`.
pub(super) const NOTE: &str =
    "INSERT OR REPLACE INTO mirror_upload (number, bucket, key, upload_id, begun_ms)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)";
pub(super) const OVER: &str =
    "DELETE FROM mirror_upload WHERE number IN (SELECT value FROM json_each(?))";

/// A multipart upload on the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUpload {
    /// Bucket on the mirror.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Its ID; none while the mirror has not told it.
    pub id: Option<String>,
    /// When it was asked for, milliseconds since 1970.
    pub begun_ms: i64,
}

impl Journal {
    /// Notes an upload that is about to be begun. On disk when it answers; while the disk fails it is
    /// kept in memory like everything else, because a copy matters more than what it may leave behind.
    pub async fn note_upload(&self, number: i64, upload: MirrorUpload) {
        self.tell_upload(number, upload).await;
        self.flush().await;
    }

    /// Writes a note anew, which is not waited for.
    pub async fn tell_upload(&self, number: i64, upload: MirrorUpload) {
        self.send(Command::MirrorUpload { number, upload: Some(Box::new(upload)) }).await;
    }

    /// Removes the note of an upload that is over, which is not waited for.
    pub async fn forget_upload(&self, number: i64) {
        self.send(Command::MirrorUpload { number, upload: None }).await;
    }

    /// The first `limit` notes, the oldest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn noted_uploads(
        &self,
        limit: usize,
    ) -> Result<Vec<(i64, MirrorUpload)>, sqlx::Error> {
        let mut reader = self.shared.reader.lock().await;
        noted(&mut reader, i64::try_from(limit).unwrap_or(i64::MAX)).await
    }
}

async fn noted(
    db: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<(i64, MirrorUpload)>, sqlx::Error> {
    let rows: Vec<(i64, String, String, Option<String>, i64)> = sqlx::query_as(
        "SELECT number, bucket, key, upload_id, begun_ms FROM mirror_upload
         ORDER BY number LIMIT ?1",
    )
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(number, bucket, key, id, begun_ms)| {
            (number, MirrorUpload { bucket, key, id, begun_ms })
        })
        .collect())
}

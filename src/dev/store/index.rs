//! The index: which buckets, objects, uploads and parts there are. `SQLite` in WAL mode.
//!
//! Readers are a small pool and see the last committed state. All changes go through one
//! [`writer`], which commits whatever is waiting as one transaction; an answer leaves only after
//! its commit. Killing the process loses no committed change; with `fsync` neither does a power
//! cut (otherwise the newest may be lost, and body files with them: see [`super::files`]).
//!
//! Rows are numbered from the same sequence as body files and a number is never used twice. So the
//! parts of an upload become the parts of an object by the object taking the upload's number.

pub(super) mod buckets;
pub(super) mod listing;
pub(super) mod objects;
pub(super) mod uploads;
pub(super) mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, SqlitePool};

use super::fault::{Answer, internal};
use super::files::BodyFiles;
use writer::{Change, Writer};

/// Connections that read. Two cores cannot use more, and a reader never waits for the writer.
const READERS: u32 = 4;

/// How long a connection waits for another one (a checkpoint, say) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Larger than `SQLite`'s default, because rows carry small bodies.
const PAGE_BYTES: u32 = 8192;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS starts (number INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS buckets (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, created_ms INTEGER NOT NULL,
    location TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY, bucket_id INTEGER NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, storage_class TEXT NOT NULL,
    part_count INTEGER NOT NULL, file INTEGER, tags TEXT NOT NULL, detail TEXT NOT NULL,
    inline BLOB,
    UNIQUE (bucket_id, key)
);
CREATE TABLE IF NOT EXISTS uploads (
    id INTEGER PRIMARY KEY, bucket_id INTEGER NOT NULL, key BLOB NOT NULL,
    upload_id TEXT NOT NULL, initiated_ms INTEGER NOT NULL, storage_class TEXT NOT NULL,
    tags TEXT NOT NULL, detail TEXT NOT NULL,
    UNIQUE (bucket_id, key, upload_id)
);
CREATE TABLE IF NOT EXISTS parts (
    owner INTEGER NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    file INTEGER NOT NULL, modified_ms INTEGER NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) WITHOUT ROWID;
";

/// The index of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Index {
    readers: SqlitePool,
    writer: Writer,
}

impl Index {
    /// Opens or creates the index below `data_dir` and the body files beside it, and removes the
    /// files no row names.
    pub(super) async fn open(data_dir: &Path, fsync: bool) -> Result<(Self, BodyFiles), OpenError> {
        let synchronous = if fsync { SqliteSynchronous::Full } else { SqliteSynchronous::Normal };
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("index.sqlite3"))
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY_TIMEOUT)
            // On a read-only root there is no directory for what a statement puts aside.
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        // A local file needs no liveness checks, and its connections do not age.
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&readers).await?;
        let start: i64 = sqlx::query_scalar(
            "INSERT INTO starts (number, at_ms)
             SELECT COALESCE(MAX(number), 0) + 1, ? FROM starts RETURNING number",
        )
        .bind(now_ms())
        .fetch_one(&readers)
        .await?;
        sqlx::query("DELETE FROM starts WHERE number < ?").bind(start).execute(&readers).await?;
        let files = BodyFiles::open(data_dir, fsync, start)?;
        let named =
            "SELECT file FROM objects WHERE file IS NOT NULL UNION ALL SELECT file FROM parts";
        let named: HashSet<i64> =
            sqlx::query_scalar(named).fetch_all(&readers).await?.into_iter().collect();
        let removed = {
            let files = files.clone();
            let swept = tokio::task::spawn_blocking(move || files.sweep(&named)).await;
            swept.map_err(std::io::Error::other)??
        };
        if removed > 0 {
            tracing::info!(removed, "removed body files that an earlier process left behind");
        }
        let writer = Writer::start(options, files.clone()).await?;
        Ok((Self { readers, writer }, files))
    }

    /// Applies a change in the writer's next transaction and returns after its commit. Once
    /// submitted a change runs to its end, even if this future is dropped.
    pub(super) async fn submit<C: Change>(&self, change: C) -> Answer<C::Outcome> {
        self.writer.submit(change).await
    }
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Files(#[from] std::io::Error),
}

/// The store's clock, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A size as `SQLite` holds it. Bodies are bounded far below `i64::MAX`.
fn to_sql(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn size_of(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

/// Reads a JSON column. A row this store wrote always parses; anything else is a damaged index.
fn json<T: serde::de::DeserializeOwned>(
    row: &sqlx::sqlite::SqliteRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

fn unreadable(error: sqlx::Error) -> s3s::S3Error {
    internal("reading the index", error)
}

//! The only SQL of the journal: one `SQLite` file, WAL, one writer.
//!
//! `entry.mirror` is 0 pending, 1 confirmed, 2 waiting for its next try, 3 parked, 4 set aside.
//! `entry.inventory` is 0 not written, 1 written as not yet mirrored, 2 nothing left to write,
//! 3 parked. A row leaves when the mirror has confirmed it and nothing is left to write.
//!
//! All SQL of the journal is here, in `batch`, which writes, in `ahead`, `held`, `events`, `uploads` and `operator::sql`.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Row as _};

use super::batch::{INSERT, LINES_TAKEN};
use super::entry::{Entry, ObjectKey, Sequence};
use super::held::HELD;
use super::log::Line;
use super::{events, uploads};
use crate::config::JournalSync;
use crate::s3::operation::Change;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS entry (
        sequence    INTEGER PRIMARY KEY,
        bucket      TEXT    NOT NULL,
        key         TEXT    NOT NULL,
        change      INTEGER NOT NULL,
        state       INTEGER NOT NULL DEFAULT 0, -- 0 intent, 1 changed, 2 outcome unknown
        accepted_ms INTEGER NOT NULL,
        request_id  TEXT    NOT NULL,
        bytes       INTEGER NOT NULL DEFAULT 0,
        facts       TEXT    NOT NULL DEFAULT '{}',
        mirror      INTEGER NOT NULL DEFAULT 0,
        attempts    INTEGER NOT NULL DEFAULT 0,
        due_ms      INTEGER NOT NULL DEFAULT 0,
        error       TEXT,
        inventory   INTEGER NOT NULL DEFAULT 0
    )",
    // Up to which line of the log nothing has to be taken from it any more.
    "CREATE TABLE IF NOT EXISTS taken (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS entry_due ON entry(due_ms) WHERE mirror = 2",
    "CREATE INDEX IF NOT EXISTS entry_row_parked ON entry(bucket, key, sequence)
        WHERE inventory = 3",
    "CREATE INDEX IF NOT EXISTS entry_trouble ON entry(bucket, key, sequence) WHERE mirror >= 2",
    super::held::INDEX,
    super::tally::INDEX,
    // Keys whose request may still take effect although its answer never came.
    "CREATE TABLE IF NOT EXISTS recheck (
        due_ms INTEGER NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL,
        PRIMARY KEY (due_ms, bucket, key)
    ) WITHOUT ROWID",
    // Sizes of uploaded parts, until their upload completes or is aborted.
    "CREATE TABLE IF NOT EXISTS part (
        upload_id TEXT NOT NULL, number INTEGER NOT NULL, etag TEXT NOT NULL,
        size INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (upload_id, number)
    ) WITHOUT ROWID",
];

/// Only one process writes the file; whoever else holds it (a person with a shell) is not waited
/// for long, because requests wait too.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// Format of the file; a newer one is refused rather than misread. 2 had the log as a table of its own, 3
/// has it in files ([`super::log`]).
const VERSION: i64 = 3;

/// How long sizes of parts of an unfinished upload are kept: 30 days.
const PARTS_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// When keys whose copy a restart cut off are looked at once more: by then it has landed.
pub(super) const LATE_COPY_MS: i64 = 30_000;
/// So many are noted one by one at a start, which takes less than a second.
const LATE_COPIES_MAX: i64 = 50_000;

fn options(path: &Path, sync: JournalSync) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match sync {
            JournalSync::Full => SqliteSynchronous::Full,
            JournalSync::Normal => SqliteSynchronous::Normal,
            JournalSync::Off => SqliteSynchronous::Off,
        })
        .pragma("journal_size_limit", "67108864")
        // The tally, and whatever a statement puts aside: there need be no directory for it.
        .pragma("temp_store", "memory")
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// Opens the writer's connection and brings the schema up.
pub(super) async fn open_writer(
    path: &Path,
    sync: JournalSync,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut db = options(path, sync).connect().await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut db).await?;
    if version > VERSION {
        return Err(sqlx::Error::Configuration(
            format!("written by a newer version (format {version}, this is {VERSION})").into(),
        ));
    }
    for statement in
        SCHEMA.iter().chain(super::operator::SCHEMA).chain(events::SCHEMA).chain(uploads::SCHEMA)
    {
        sqlx::query(*statement).execute(&mut db).await?;
    }
    sqlx::query("PRAGMA user_version = 3").execute(&mut db).await?;
    Ok(db)
}

/// Is there an entry that failed, is parked or set aside?
pub(super) async fn is_troubled(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM entry INDEXED BY entry_trouble WHERE mirror >= 2)";
    sqlx::query_scalar(sql).fetch_one(db).await
}

/// Opens a connection for reading beside the writer.
pub(super) async fn open_reader(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path, JournalSync::Off).create_if_missing(false).connect().await
}

/// What a restart found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Intents of the previous run without an outcome; main will be asked.
    pub unsettled: u64,
    /// Highest sequence ever given.
    pub last: Sequence,
    /// Are there rows the inventory could not store?
    pub rows_parked: bool,
    /// Are there too many entries for each to be noted as one whose copy may land late? Then those are
    /// noted that are copied before it has landed ([`super::Journal::complete`]).
    pub crowded: bool,
}

/// Makes rows of what the previous run had in lines of its log only, and turns every intent of it into an
/// entry of unknown outcome, due for one more check at each of `recheck_ms`, because its request may still
/// be under way at main. Yields the number of the next line too.
pub(super) async fn recover(
    db: &mut SqliteConnection,
    lines: &[Line],
    inventory: bool,
    recheck_ms: &[i64],
) -> Result<(Recovered, i64), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
    let next_line = take_lines(db, lines).await?;
    for due in recheck_ms {
        sqlx::query(
            "INSERT OR IGNORE INTO recheck SELECT ?1, bucket, key FROM entry WHERE state = 0",
        )
        .bind(due)
        .execute(&mut *db)
        .await?;
    }
    let crowded = note_late_copies(db).await?;
    sqlx::query(events::RECOVER).execute(&mut *db).await?;
    let unsettled = sqlx::query("UPDATE entry SET state = 2 WHERE state = 0")
        .execute(&mut *db)
        .await?
        .rows_affected();
    if !inventory {
        sqlx::query("UPDATE entry SET inventory = 2 WHERE inventory < 2").execute(&mut *db).await?;
        sqlx::query("DELETE FROM entry WHERE mirror = 1").execute(&mut *db).await?;
    }
    // Uploads that were neither completed nor aborted through this proxy.
    sqlx::query("DELETE FROM part WHERE at_ms < ?1")
        .bind(super::now_ms() - PARTS_KEPT_MS)
        .execute(&mut *db)
        .await?;
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(sequence) FROM entry").fetch_one(&mut *db).await?;
    let last_event: Option<i64> = sqlx::query_scalar(events::LAST).fetch_one(&mut *db).await?;
    let last = last.max(last_event);
    let rows_parked: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM entry WHERE inventory = 3)")
            .fetch_one(&mut *db)
            .await?;
    sqlx::query("COMMIT").execute(&mut *db).await?;
    Ok((Recovered { unsettled, last: last.unwrap_or(0), rows_parked, crowded }, next_line))
}

/// Makes rows of those lines that have not been taken; yields the number of the next.
async fn take_lines(db: &mut SqliteConnection, lines: &[Line]) -> Result<i64, sqlx::Error> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT number FROM taken").fetch_optional(&mut *db).await?;
    let mut before = taken;
    for (number, line) in lines.iter().filter(|(number, _)| taken.is_none_or(|it| *number > it)) {
        if let Some(after) = before.filter(|before| number - before > 1) {
            tracing::error!(after, before = number, "lines of the journal's log are missing");
        }
        before = Some(*number);
        sqlx::query(INSERT).bind(line).execute(&mut *db).await?;
    }
    let last = lines.last().map(|(number, _)| *number).max(taken).unwrap_or(0);
    sqlx::query(LINES_TAKEN).bind(last).execute(&mut *db).await?;
    take_table(db).await?;
    Ok(last + 1)
}

/// Likewise of the table that was the log in format 2.
async fn take_table(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'log')";
    if !sqlx::query_scalar(sql).fetch_one(&mut *db).await? {
        return Ok(());
    }
    let lines: Vec<String> =
        sqlx::query_scalar("SELECT intents FROM log").fetch_all(&mut *db).await?;
    for line in lines {
        sqlx::query(INSERT).bind(line).execute(&mut *db).await?;
    }
    sqlx::query("DROP TABLE log").execute(&mut *db).await?;
    Ok(())
}

/// Brings everything that was committed to the disk itself, whatever `synchronous` says.
pub(super) async fn checkpoint(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(db).await.map(drop)
}

/// A copy of any of these entries may have been under way to the mirror, or a row to the inventory, or
/// a delete whose time had come, and may land late, over something newer. True: there are too many.
async fn note_late_copies(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    const IN_QUESTION: &str = "state > 0 AND (mirror IN (0, 2) OR inventory < 2
        OR (mirror = 4 AND due_ms <= ?1))";
    let now_ms = super::now_ms();
    let sql =
        format!("SELECT count(*) FROM (SELECT 1 FROM entry WHERE {IN_QUESTION} LIMIT ?2 + 1)");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(now_ms)
        .bind(LATE_COPIES_MAX)
        .fetch_one(&mut *db)
        .await?;
    if count > LATE_COPIES_MAX {
        return Ok(true);
    }
    let sql = format!(
        "INSERT OR IGNORE INTO recheck SELECT ?2, bucket, key FROM entry WHERE {IN_QUESTION}"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(now_ms)
        .bind(now_ms + LATE_COPY_MS)
        .execute(db)
        .await?;
    Ok(false)
}

pub(super) const COLUMNS: &str = "sequence, bucket, key, change, state, accepted_ms, request_id, facts, \
                       attempts, mirror";

pub(super) fn entry(row: &SqliteRow) -> Result<(Entry, bool), sqlx::Error> {
    let facts: String = row.try_get("facts")?;
    let attempts: i64 = row.try_get("attempts")?;
    let mirror: i64 = row.try_get("mirror")?;
    let entry = Entry {
        sequence: row.try_get("sequence")?,
        object: ObjectKey::new(row.try_get("bucket")?, row.try_get("key")?),
        change: Change::from_code(row.try_get("change")?),
        unknown: row.try_get::<i64, _>("state")? != 1,
        // Not kept on disk: an entry that was on disk is always checked against main.
        overlapped: true,
        since_ms: row.try_get("accepted_ms")?,
        request_id: row.try_get::<String, _>("request_id")?.into(),
        facts: Arc::new(serde_json::from_str(&facts).unwrap_or_default()),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        ripe: mirror == HELD,
    };
    // What is set aside for versions that are deleted later is mirrored.
    let versions = entry.facts.versions.as_deref();
    let spared = versions.is_some_and(|versions| !versions.condemned.is_empty());
    let mirrored = mirror == 1 || (mirror == HELD && spared);
    Ok((entry, mirrored))
}

/// Entries after `from` that the mirror has not confirmed and that never failed, in order.
pub(super) async fn pending(
    db: &mut SqliteConnection,
    from: Sequence,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM entry WHERE sequence > ?1 AND state > 0 AND mirror = 0 \
         ORDER BY sequence LIMIT ?2"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(from).bind(limit).fetch_all(db).await?;
    rows.iter().map(|row| entry(row).map(|(entry, _)| entry)).collect()
}

/// Entries whose next try is due.
pub(super) async fn due(
    db: &mut SqliteConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM entry WHERE mirror = 2 AND due_ms <= ?1 ORDER BY due_ms LIMIT ?2"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_ms).bind(limit).fetch_all(db).await?;
    rows.iter().map(|row| entry(row).map(|(entry, _)| entry)).collect()
}

/// Entries after `from` whose row the inventory has not written, with whether the mirror has
/// confirmed them, or why it has not.
pub(super) async fn unwritten(
    db: &mut SqliteConnection,
    from: Sequence,
    limit: i64,
    but_of: &[Box<str>],
) -> Result<Vec<(Entry, bool, Option<String>)>, sqlx::Error> {
    let but_of_any =
        if but_of.is_empty() { "" } else { "AND bucket NOT IN (SELECT value FROM json_each(?3))" };
    let sql = format!(
        "SELECT {COLUMNS}, error FROM entry WHERE sequence > ?1 AND state > 0 \
         AND (inventory = 0 OR (inventory = 1 AND mirror = 1)) {but_of_any} \
         ORDER BY sequence LIMIT ?2"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(from).bind(limit);
    let query = if but_of.is_empty() {
        query
    } else {
        query.bind(serde_json::to_string(but_of).unwrap_or_default())
    };
    let rows = query.fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            entry(row).and_then(|(entry, mirrored)| Ok((entry, mirrored, row.try_get("error")?)))
        })
        .collect()
}

/// Keys to look at once more: `(due_ms, key)`.
pub(super) async fn rechecks_due(
    db: &mut SqliteConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<(i64, ObjectKey)>, sqlx::Error> {
    let rows = sqlx::query("SELECT due_ms, bucket, key FROM recheck WHERE due_ms <= ?1 LIMIT ?2")
        .bind(now_ms)
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, ObjectKey::new(row.try_get(1)?, row.try_get(2)?))))
        .collect()
}

/// Which of these keys have an entry that is not parked. One pass over the entries, however many
/// keys are asked about.
pub(super) async fn pending_among(
    db: &mut SqliteConnection,
    bucket: &str,
    keys: &[&str],
) -> Result<std::collections::HashSet<String>, sqlx::Error> {
    let keys = serde_json::to_string(keys).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let found: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT key FROM entry WHERE bucket = ?1 AND mirror <> 3 AND inventory <> 3
         AND key IN (SELECT value FROM json_each(?2))",
    )
    .bind(bucket)
    .bind(keys)
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().collect())
}

/// Does the mirror still await changes of keys of the bucket, parked ones left out?
pub(super) async fn awaits_keys(
    db: &mut SqliteConnection,
    bucket: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM entry WHERE bucket = ?1 AND key <> '' AND mirror IN (0, 2, 4))",
    )
    .bind(bucket)
    .fetch_one(db)
    .await
}

/// Makes the index that [`is_mirrored`] wants, or takes it away: every write pays for it, so that only
/// those have it who ask.
pub(super) async fn index_keys(db: &mut SqliteConnection, wanted: bool) -> Result<(), sqlx::Error> {
    let sql = if wanted {
        "CREATE INDEX IF NOT EXISTS entry_key ON entry(bucket, key)"
    } else {
        "DROP INDEX IF EXISTS entry_key"
    };
    // A connection for reading syncs nothing, having nothing else to write.
    sqlx::query("PRAGMA synchronous = FULL").execute(&mut *db).await?;
    let made = sqlx::query(sql).execute(&mut *db).await;
    sqlx::query("PRAGMA synchronous = OFF").execute(db).await?;
    made.map(drop)
}

/// Is there no entry of the key that the mirror has not confirmed?
pub(super) async fn is_mirrored(
    db: &mut SqliteConnection,
    bucket: &str,
    key: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM entry WHERE bucket = ?1 AND key = ?2 AND mirror <> 1)",
    )
    .bind(bucket)
    .bind(key)
    .fetch_one(db)
    .await
}

/// Recorded parts of an upload: `(number, etag, size)`.
pub(super) async fn parts(
    db: &mut SqliteConnection,
    upload_id: &str,
) -> Result<Vec<(i64, String, i64)>, sqlx::Error> {
    sqlx::query_as("SELECT number, etag, size FROM part WHERE upload_id = ?1")
        .bind(upload_id)
        .fetch_all(db)
        .await
}

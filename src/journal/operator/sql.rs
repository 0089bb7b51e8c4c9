//! The operator's SQL.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::entry::{Facts, ObjectKey, Sequence};
use super::super::events;
use super::{After, BucketFigures, Explained, Operation, Parked, Reason, Selection, Told};
use crate::s3::operation::Change;

/// Brought up with the journal's own tables.
pub(in super::super) const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    // Empty but for trouble, so that it costs ordinary writes nothing.
    "CREATE INDEX IF NOT EXISTS entry_parked ON entry(bucket, key, sequence)
        WHERE mirror = 3 OR inventory = 3",
];

const RETRY: &str = "UPDATE entry SET
    mirror = CASE mirror WHEN 3 THEN 2 ELSE mirror END,
    due_ms = CASE mirror WHEN 3 THEN 0 ELSE due_ms END,
    inventory = CASE inventory WHEN 3 THEN 0 ELSE inventory END
    WHERE (mirror = 3 OR inventory = 3) AND sequence IN (SELECT value FROM json_each(?1))";
// What is left to do of an entry stays: a copy whose row was given up is still made.
const DISCARD_ROWS: &str = "UPDATE entry SET inventory = 2
    WHERE inventory = 3 AND mirror <> 3 AND sequence IN (SELECT value FROM json_each(?1))";
const DISCARD: &str = "DELETE FROM entry
    WHERE ((mirror = 3 AND inventory <> 0) OR (mirror = 1 AND inventory = 2))
      AND sequence IN (SELECT value FROM json_each(?1))";

/// Applies operations inside the writer's transaction.
pub(in super::super) async fn apply(
    db: &mut SqliteConnection,
    operations: &[Operation],
) -> Result<(), sqlx::Error> {
    for operation in operations {
        match operation {
            Operation::Note { name, value: Some(value) } => {
                sqlx::query("INSERT OR REPLACE INTO note (name, value) VALUES (?1, ?2)")
                    .bind(name)
                    .bind(value)
                    .execute(&mut *db)
                    .await?;
            }
            Operation::Note { name, value: None } => {
                sqlx::query("DELETE FROM note WHERE name = ?1")
                    .bind(name)
                    .execute(&mut *db)
                    .await?;
            }
            Operation::Retry { sequences } => run(db, RETRY, sequences).await?,
            Operation::Discard { sequences } => {
                run(db, DISCARD_ROWS, sequences).await?;
                run(db, DISCARD, sequences).await?;
            }
            Operation::RetryEvents { ids, now_ms } => {
                let json = json(ids)?;
                sqlx::query(events::RETRY).bind(json).bind(now_ms).execute(&mut *db).await?;
            }
            Operation::DiscardEvents { ids } => run(db, events::DISCARD, ids).await?,
        }
    }
    Ok(())
}

async fn run(
    db: &mut SqliteConnection,
    sql: &'static str,
    sequences: &[Sequence],
) -> Result<(), sqlx::Error> {
    sqlx::query(sql).bind(json(sequences)?).execute(db).await.map(drop)
}

fn json(sequences: &[Sequence]) -> Result<String, sqlx::Error> {
    serde_json::to_string(sequences).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) async fn note(
    db: &mut SqliteConnection,
    name: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT value FROM note WHERE name = ?1").bind(name).fetch_optional(db).await
}

pub(super) async fn parked(
    db: &mut SqliteConnection,
    selection: &Selection,
    after: Option<&After>,
    limit: u32,
) -> Result<Vec<Parked>, sqlx::Error> {
    let mut sql = "SELECT sequence, bucket, key, change, mirror, inventory, error, attempts, \
                   accepted_ms, due_ms, bytes, request_id FROM entry \
                   WHERE (mirror = 3 OR inventory = 3)"
        .to_owned();
    if selection.bucket.is_some() {
        sql.push_str(" AND bucket = ?1");
    }
    if selection.key.is_some() {
        sql.push_str(" AND key = ?2");
    }
    if after.is_some() {
        sql.push_str(" AND (bucket, key, sequence) > (?3, ?4, ?5)");
    }
    sql.push_str(" ORDER BY bucket, key, sequence LIMIT ?6");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&selection.bucket)
        .bind(&selection.key)
        .bind(after.map(|after| &after.bucket))
        .bind(after.map(|after| &after.key))
        .bind(after.map(|after| after.sequence))
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter().map(parked_entry).collect()
}

fn parked_entry(row: &SqliteRow) -> Result<Parked, sqlx::Error> {
    let (mirror, inventory): (i64, i64) = (row.try_get("mirror")?, row.try_get("inventory")?);
    let due_ms: i64 = row.try_get("due_ms")?;
    let reason: Option<String> = row.try_get("error")?;
    Ok(Parked {
        sequence: row.try_get("sequence")?,
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        change: change_name(row.try_get("change")?),
        mirror: mirror == 3,
        inventory: inventory == 3,
        reason: reason.unwrap_or_else(|| "not recorded".to_owned()),
        attempts: row.try_get("attempts")?,
        accepted_ms: row.try_get("accepted_ms")?,
        parked_ms: Some(due_ms).filter(|due| mirror == 3 && *due > 0),
        bytes: row.try_get("bytes")?,
        request_id: row.try_get("request_id")?,
        row_waits: inventory == 0,
    })
}

/// There is no index over all keys, which every write would pay for with a page of its own: this
/// reads the whole table, a quarter of a second for a million waiting entries, on a connection that
/// nobody else waits for.
pub(super) async fn explain(
    db: &mut SqliteConnection,
    object: &ObjectKey,
    limit: i64,
) -> Result<Explained, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT sequence, change, state, mirror, inventory, accepted_ms, request_id, bytes,
                attempts, error, due_ms, facts
         FROM entry WHERE bucket = ?1 AND key = ?2 ORDER BY sequence DESC LIMIT ?3",
    )
    .bind(&*object.bucket)
    .bind(&*object.key)
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let entries: Result<Vec<Told>, sqlx::Error> = rows.iter().map(told).collect();
    let rechecks_ms = sqlx::query_scalar(
        "SELECT due_ms FROM recheck WHERE bucket = ?1 AND key = ?2 ORDER BY due_ms LIMIT ?3",
    )
    .bind(&*object.bucket)
    .bind(&*object.key)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(Explained { entries: entries?, rechecks_ms })
}

fn told(row: &SqliteRow) -> Result<Told, sqlx::Error> {
    let state: i64 = row.try_get("state")?;
    let (mirror, inventory): (i64, i64) = (row.try_get("mirror")?, row.try_get("inventory")?);
    let due_ms: i64 = row.try_get("due_ms")?;
    let facts: String = row.try_get("facts")?;
    let facts: Facts = serde_json::from_str(&facts).unwrap_or_default();
    Ok(Told {
        sequence: row.try_get("sequence")?,
        change: change_name(row.try_get("change")?),
        outcome: match state {
            0 => "intent",
            1 => "changed",
            _ => "unknown",
        },
        mirror: match mirror {
            0 => "waiting",
            1 => "done",
            2 => "retrying",
            3 => "parked",
            _ => "held",
        },
        inventory: match inventory {
            0 => "waiting",
            1 => "written",
            2 => "done",
            _ => "parked",
        },
        accepted_ms: row.try_get("accepted_ms")?,
        request_id: row.try_get("request_id")?,
        bytes: row.try_get("bytes")?,
        attempts: row.try_get("attempts")?,
        error: row.try_get("error")?,
        next_try_ms: Some(due_ms)
            .filter(|due| mirror == 2 || (mirror == 4 && *due < super::super::held::FOREVER)),
        parked_ms: Some(due_ms).filter(|due| mirror == 3 && *due > 0),
        etag: facts.etag,
    })
}

pub(super) async fn bucket_figures(
    db: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<BucketFigures>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT bucket,
                count(*) FILTER (WHERE state > 0 AND mirror IN (0, 2)),
                coalesce(sum(bytes) FILTER (WHERE state > 0 AND mirror IN (0, 2)), 0),
                min(accepted_ms) FILTER (WHERE state > 0 AND mirror IN (0, 2)),
                count(*) FILTER (WHERE mirror = 3 OR inventory = 3),
                count(*) FILTER (WHERE state > 0
                    AND (inventory = 0 OR (inventory = 1 AND mirror = 1))),
                max(accepted_ms),
                count(*) FILTER (WHERE mirror = 4)
         FROM entry GROUP BY bucket ORDER BY 2 DESC, bucket LIMIT ?1",
    )
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(BucketFigures {
                bucket: row.try_get(0)?,
                pending_operations: row.try_get(1)?,
                pending_bytes: row.try_get(2)?,
                oldest_pending_ms: row.try_get(3)?,
                parked: row.try_get(4)?,
                pending_rows: row.try_get(5)?,
                last_change_ms: row.try_get(6)?,
                held_deletes: row.try_get(7)?,
            })
        })
        .collect()
}

pub(super) async fn reasons(
    db: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<Reason>, sqlx::Error> {
    let mut reasons = Vec::new();
    for (state, condition) in
        [("parked", "(mirror = 3 OR inventory = 3)"), ("retrying", "mirror = 2")]
    {
        let sql = format!(
            "SELECT coalesce(error, 'not recorded'), count(*), min(bucket || '/' || key)
             FROM entry WHERE {condition} GROUP BY 1 ORDER BY 2 DESC LIMIT ?1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(limit).fetch_all(&mut *db).await?;
        for row in rows {
            reasons.push(Reason {
                state,
                reason: row.try_get(0)?,
                keys: row.try_get(1)?,
                example: row.try_get(2)?,
            });
        }
    }
    Ok(reasons)
}

fn change_name(code: i64) -> &'static str {
    match Change::from_code(code) {
        Change::Put => "put",
        Change::Copy => "copy",
        Change::Complete => "complete",
        Change::Delete => "delete",
        Change::Tagging => "tagging",
        Change::Other => "other",
        Change::Bucket => "bucket",
    }
}

//! Writing the journal: changes in batches, as JSON arrays, so that each kind of change is one
//! statement however many there are.

use sqlx::sqlite::SqliteConnection;

use super::entry::Sequence;

/// A batch of changes, by kind; each field is applied by one statement.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// `[sequence, bucket, key, change, accepted_ms, request_id, facts, inventory]`
    pub(super) inserts: Vec<serde_json::Value>,
    /// `[sequence, state, bytes, facts, overlapped]`
    pub(super) settled: Vec<serde_json::Value>,
    /// `[sequence, accepted_ms, state, facts]`
    pub(super) merged: Vec<serde_json::Value>,
    /// `[sequence, mirror, attempts, due_ms, error]`
    pub(super) troubled: Vec<serde_json::Value>,
    /// `[sequence, bucket, key]`
    pub(super) held: Vec<serde_json::Value>,
    /// `[sequence, bucket, key, facts]`
    pub(super) mirrored: Vec<serde_json::Value>,
    /// `[sequence, inventory, error, does the row hold the reason]`
    pub(super) written: Vec<serde_json::Value>,
    /// `[sequence, bucket, key]`
    pub(super) rows_relieved: Vec<serde_json::Value>,
    /// `sequence`
    pub(super) closed: Vec<Sequence>,
    /// `[due_ms, bucket, key]`
    pub(super) rechecks: Vec<serde_json::Value>,
    /// `[due_ms, bucket, key]`
    pub(super) rechecked: Vec<serde_json::Value>,
    /// `[upload_id, number, etag, size, at_ms]`
    pub(super) parts: Vec<serde_json::Value>,
    /// `upload_id`
    pub(super) uploads_ended: Vec<String>,
    /// What operators asked for; it comes last.
    pub(super) operations: Vec<super::operator::Operation>,
}

const INSERT: &str = "INSERT OR REPLACE INTO entry
    (sequence, bucket, key, change, accepted_ms, request_id, facts, inventory)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM json_each(?1)";
const SETTLE: &str = "UPDATE entry SET state = value->>1, bytes = value->>2, facts = value->>3
    FROM json_each(?1) WHERE sequence = CAST(value->>0 AS INTEGER)";
const MERGE: &str = "UPDATE entry SET accepted_ms = value->>1, state = value->>2, facts = value->>3
    FROM json_each(?1) WHERE sequence = CAST(value->>0 AS INTEGER)";
const TROUBLE: &str = "UPDATE entry SET mirror = value->>1, attempts = value->>2,
    due_ms = value->>3, error = value->>4,
    -- The row of a key that the mirror has parked is written once more, with the reason.
    inventory = CASE WHEN value->>1 = 3 AND inventory = 1 THEN 0 ELSE inventory END
    FROM json_each(?1) WHERE sequence = CAST(value->>0 AS INTEGER)";
const MIRRORED: &str = "UPDATE entry SET mirror = 1, error = NULL, facts = value->>3
    FROM json_each(?1) WHERE sequence = CAST(value->>0 AS INTEGER)";
// A parked, retrying or held older entry of a key that has now been mirrored, or whose absence is
// what is now held, is settled with the newer one.
const RELIEVED: &str = "DELETE FROM entry WHERE sequence IN (
    SELECT e.sequence FROM json_each(?1) j CROSS JOIN entry e
    WHERE e.mirror >= 2 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const WRITTEN: &str =
    // Of a parked key only the row with the reason counts.
    "UPDATE entry SET error = coalesce(value->>2, error), inventory = CASE
        WHEN mirror = 3 AND value->>1 = 1 AND NOT value->>3 THEN inventory
        ELSE max(inventory, value->>1) END
    FROM json_each(?1) WHERE sequence = CAST(value->>0 AS INTEGER)";
// A parked row of a key whose newer row has been settled says nothing any more.
const ROW_RELIEVED: &str = "UPDATE entry SET inventory = 2 WHERE sequence IN (
    SELECT e.sequence FROM json_each(?1) j CROSS JOIN entry e
    WHERE e.inventory = 3 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const ROW_RELIEVED_LEAVES: &str = "DELETE FROM entry WHERE sequence IN (
    SELECT e.sequence FROM json_each(?1) j CROSS JOIN entry e
    WHERE e.inventory = 3 AND e.mirror = 1 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const CLOSE: &str = "DELETE FROM entry WHERE sequence IN (SELECT value FROM json_each(?1))";
const LEAVE: &str = "DELETE FROM entry WHERE mirror = 1 AND inventory = 2
    AND sequence IN (SELECT value->>0 FROM json_each(?1))";
const RECHECK: &str = "INSERT OR IGNORE INTO recheck (due_ms, bucket, key)
    SELECT value->>0, value->>1, value->>2 FROM json_each(?1)";
const RECHECKED: &str = "DELETE FROM recheck WHERE (due_ms, bucket, key) IN
    (SELECT value->>0, value->>1, value->>2 FROM json_each(?1))";
const PART: &str = "INSERT OR REPLACE INTO part (upload_id, number, etag, size, at_ms)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?1)";
const UPLOAD_ENDED: &str = "DELETE FROM part WHERE upload_id IN (SELECT value FROM json_each(?1))";

impl Batch {
    /// Applies everything in one transaction. On an error nothing of it is applied.
    pub(super) async fn commit(&self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
        match self.apply(db).await {
            Ok(()) => {
                let committed = sqlx::query("COMMIT").execute(&mut *db).await;
                if committed.is_err() {
                    rollback(db).await;
                }
                committed.map(drop)
            }
            Err(error) => {
                rollback(db).await;
                Err(error)
            }
        }
    }

    /// Leaves one command per entry and kind, because `UPDATE .. FROM` applies any one of several.
    /// The last one counts, and of the inventory's levels the highest.
    pub(super) fn condense(&mut self) {
        self.written.sort_by_key(|row| row.get(1).and_then(serde_json::Value::as_i64));
        for rows in [
            &mut self.settled,
            &mut self.merged,
            &mut self.troubled,
            &mut self.mirrored,
            &mut self.written,
        ] {
            let mut seen = std::collections::HashSet::with_capacity(rows.len());
            rows.reverse();
            rows.retain(|row| seen.insert(row.get(0).and_then(serde_json::Value::as_i64)));
        }
    }

    async fn apply(&self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        run(db, INSERT, &self.inserts).await?;
        run(db, SETTLE, &self.settled).await?;
        run(db, MERGE, &self.merged).await?;
        run(db, TROUBLE, &self.troubled).await?;
        run(db, MIRRORED, &self.mirrored).await?;
        run(db, RELIEVED, &self.mirrored).await?;
        run(db, RELIEVED, &self.held).await?;
        run(db, WRITTEN, &self.written).await?;
        run(db, ROW_RELIEVED_LEAVES, &self.rows_relieved).await?;
        run(db, ROW_RELIEVED, &self.rows_relieved).await?;
        run(db, CLOSE, &self.closed).await?;
        run(db, LEAVE, &self.mirrored).await?;
        run(db, LEAVE, &self.written).await?;
        run(db, RECHECK, &self.rechecks).await?;
        run(db, RECHECKED, &self.rechecked).await?;
        run(db, PART, &self.parts).await?;
        run(db, UPLOAD_ENDED, &self.uploads_ended).await?;
        super::operator::apply(db, &self.operations).await
    }
}

async fn rollback(db: &mut SqliteConnection) {
    // Fails when SQLite has rolled back by itself, which is what is wanted.
    if let Err(error) = sqlx::query("ROLLBACK").execute(db).await {
        tracing::debug!(%error, "rollback of a journal batch");
    }
}

async fn run<T: serde::Serialize>(
    db: &mut SqliteConnection,
    sql: &'static str,
    rows: &[T],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(sql).bind(json).execute(db).await.map(drop)
}

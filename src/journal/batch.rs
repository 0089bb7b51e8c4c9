//! Writing the journal: one call of the database per transaction.
//!
//! Every kind of change is one statement over a JSON array, however many there are, and all
//! statements of a transaction go to `SQLite`'s thread as one text: each hand-over between
//! threads costs more than a statement. Facts stand in rows as JSON objects, of which `->>` makes
//! text again.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::Error as _;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::entry::{Facts, NewIntent, Sequence};
use super::operator::{self, Operation};
use super::pending::{Later, Pending, Trouble, Written};
use super::uploads::MirrorUpload;
use super::{events, uploads};

// Rows of intents. Who has a row already, from a line of the log or a transaction that was repeated, has it
// in a state that is no older.
pub(super) const INSERT: &str = "INSERT OR IGNORE INTO entry
    (sequence, bucket, key, change, accepted_ms, request_id, facts, inventory)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM json_each(?)";
pub(super) const LINES_TAKEN: &str = "INSERT OR REPLACE INTO taken (one, number) VALUES (1, ?)";
const SETTLE: &str = "UPDATE entry SET state = value->>1, bytes = value->>2, facts = value->>3
    FROM json_each(?) WHERE sequence = CAST(value->>0 AS INTEGER)";
const MERGE: &str = "UPDATE entry SET accepted_ms = value->>1, state = value->>2, facts = value->>3
    FROM json_each(?) WHERE sequence = CAST(value->>0 AS INTEGER)";
const TROUBLE: &str = "UPDATE entry SET mirror = value->>1, attempts = value->>2,
    due_ms = value->>3, error = value->>4,
    -- The row of a key that the mirror has parked is written once more, with the reason, and that of
    -- one whose state it has but for versions that are deleted later, as mirrored.
    inventory = CASE WHEN (value->>1 = 3 OR value->>5) AND inventory = 1 THEN 0
        ELSE inventory END
    FROM json_each(?) WHERE sequence = CAST(value->>0 AS INTEGER)";
const MIRRORED: &str = "UPDATE entry SET mirror = 1, error = NULL, facts = value->>1
    FROM json_each(?) WHERE sequence = CAST(value->>0 AS INTEGER)";
// A parked, retrying or held older entry of a key that has now been mirrored, or whose absence is
// what is now held, is settled with the newer one.
const RELIEVED: &str = "DELETE FROM entry WHERE sequence IN (
    SELECT e.sequence FROM json_each(?) j CROSS JOIN entry e
    WHERE e.mirror >= 2 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const WRITTEN: &str =
    // Of a parked key only the row with the reason counts.
    "UPDATE entry SET error = coalesce(value->>2, error), inventory = CASE
        WHEN mirror = 3 AND value->>1 = 1 AND NOT value->>3 THEN inventory
        ELSE max(inventory, value->>1) END
    FROM json_each(?) WHERE sequence = CAST(value->>0 AS INTEGER)";
// A parked row of a key whose newer row has been settled says nothing any more.
const ROW_RELIEVED: &str = "UPDATE entry SET inventory = 2 WHERE sequence IN (
    SELECT e.sequence FROM json_each(?) j CROSS JOIN entry e
    WHERE e.inventory = 3 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const ROW_RELIEVED_LEAVES: &str = "DELETE FROM entry WHERE sequence IN (
    SELECT e.sequence FROM json_each(?) j CROSS JOIN entry e
    WHERE e.inventory = 3 AND e.mirror = 1 AND e.bucket = j.value->>1 AND e.key = j.value->>2
      AND e.sequence < CAST(j.value->>0 AS INTEGER))";
const LEAVE: &str = "DELETE FROM entry WHERE mirror = 1 AND inventory = 2
    AND sequence IN (SELECT value FROM json_each(?))";
const CLOSE: &str = "DELETE FROM entry WHERE sequence IN (SELECT value FROM json_each(?))";
const RECHECK: &str = "INSERT OR IGNORE INTO recheck (due_ms, bucket, key)
    SELECT value->>0, value->>1, value->>2 FROM json_each(?)";
const RECHECKED: &str = "DELETE FROM recheck WHERE (due_ms, bucket, key) IN
    (SELECT value->>0, value->>1, value->>2 FROM json_each(?))";
const PART: &str = "INSERT OR REPLACE INTO part (upload_id, number, etag, size, at_ms)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)";
const UPLOAD_ENDED: &str = "DELETE FROM part WHERE upload_id IN (SELECT value FROM json_each(?))";
const HASTEN: &str = "UPDATE entry SET due_ms = 0 WHERE mirror = 2";

/// One transaction: its statements and what each is given.
#[derive(Debug)]
pub(super) struct Batch {
    sql: String,
    arguments: Vec<String>,
}

/// A JSON array, written row by row.
#[derive(Clone)]
struct Rows(Vec<u8>);

impl Rows {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn push(&mut self, row: impl Serialize) -> Result<(), serde_json::Error> {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut self.0, &row)
    }

    /// The whole array; none without rows.
    fn text(self) -> Result<Option<String>, serde_json::Error> {
        let Self(mut json) = self;
        if json.is_empty() {
            return Ok(None);
        }
        json.push(b']');
        String::from_utf8(json).map(Some).map_err(serde_json::Error::custom)
    }
}

/// Intents as a line of the log, which [`INSERT`] makes rows of.
pub(super) fn line(
    appends: &[(Sequence, Arc<NewIntent>)],
    inventory: bool,
) -> Result<String, serde_json::Error> {
    Ok(intents(appends, inventory)?.text()?.unwrap_or_default())
}

/// Intents as [`INSERT`] takes them.
fn intents(
    intents: &[(Sequence, Arc<NewIntent>)],
    inventory: bool,
) -> Result<Rows, serde_json::Error> {
    let mut rows = Rows::new();
    let nothing = Facts::default();
    for (sequence, intent) in intents {
        let NewIntent { object, change, request_id, accepted_ms, facts } = &**intent;
        // A bucket has no row of its own.
        let level = if inventory && !object.is_bucket() { 0 } else { 2 };
        let (bucket, key) = (&*object.bucket, &*object.key);
        let (code, facts) = (change.code(), facts.as_deref().unwrap_or(&nothing));
        rows.push((sequence, bucket, key, code, accepted_ms, &**request_id, facts, level))?;
    }
    Ok(rows)
}

impl Batch {
    /// The transaction that writes all that there is.
    pub(super) fn new(pending: &Pending, inventory: bool) -> Result<Self, serde_json::Error> {
        let mut batch = Self { sql: "BEGIN IMMEDIATE;".to_owned(), arguments: Vec::new() };
        let later = &pending.later;
        batch.add(INSERT, intents(&pending.grown, inventory)?)?;
        batch.add_fates(later, inventory)?;
        batch.add_rest(later)?;
        batch.add_events(later)?;
        if let Some(number) = pending.young.gone() {
            batch.sql.push_str(LINES_TAKEN);
            batch.sql.push(';');
            batch.arguments.push(number.to_string());
        }
        Ok(batch)
    }

    fn add(&mut self, sql: &str, rows: Rows) -> Result<(), serde_json::Error> {
        if let Some(json) = rows.text()? {
            self.sql.push_str(sql);
            self.sql.push(';');
            self.arguments.push(json);
        }
        Ok(())
    }

    fn add_fates(&mut self, later: &Later, inventory: bool) -> Result<(), serde_json::Error> {
        let state = |unknown: &bool| if *unknown { 2 } else { 1 };
        let [mut settled, mut merged, mut troubled, mut mirrored, mut relieved] =
            std::array::from_fn(|_| Rows::new());
        let [mut written, mut rows_relieved, mut leaving, mut closed] =
            std::array::from_fn(|_| Rows::new());
        for (sequence, fate) in &later.fates {
            if fate.over(inventory) {
                closed.push(sequence)?;
                continue;
            }
            if let Some((_, facts)) = &fate.mirrored {
                mirrored.push((sequence, &**facts))?;
            }
            if let Some((unknown, facts)) = &fate.settled {
                settled.push((sequence, state(unknown), facts.size.unwrap_or(0), &**facts))?;
            }
            if let Some((since_ms, unknown, facts)) = &fate.merged {
                merged.push((sequence, since_ms, state(unknown), &**facts))?;
            }
            if let Some(trouble) = &fate.trouble {
                let Trouble { level, attempts, due_ms, error, row_anew } = trouble;
                troubled.push((sequence, level, attempts, due_ms, error, row_anew))?;
            }
            if let Some(Written { level, error, reasoned }) = &fate.written {
                written.push((sequence, level, error, reasoned))?;
            }
            if fate.mirrored.is_some() || fate.written.is_some() {
                leaving.push(sequence)?;
            }
        }
        for (sequence, object) in &later.relieved {
            relieved.push((sequence, &*object.bucket, &*object.key))?;
        }
        for (sequence, object) in &later.rows_relieved {
            rows_relieved.push((sequence, &*object.bucket, &*object.key))?;
        }
        self.add(SETTLE, settled)?;
        self.add(MERGE, merged)?;
        self.add(TROUBLE, troubled)?;
        self.add(MIRRORED, mirrored)?;
        self.add(RELIEVED, relieved)?;
        self.add(WRITTEN, written)?;
        // The same rows twice: the first leave, the second stay for the mirror.
        self.add(ROW_RELIEVED_LEAVES, rows_relieved.clone())?;
        self.add(ROW_RELIEVED, rows_relieved)?;
        self.add(CLOSE, closed)?;
        self.add(LEAVE, leaving)?;
        Ok(())
    }

    fn add_rest(&mut self, later: &Later) -> Result<(), serde_json::Error> {
        let [mut rechecks, mut rechecked, mut parts, mut ended] =
            std::array::from_fn(|_| Rows::new());
        for (due_ms, object) in &later.rechecks {
            rechecks.push((due_ms, &*object.bucket, &*object.key))?;
        }
        for (due_ms, object) in &later.rechecked {
            rechecked.push((due_ms, &*object.bucket, &*object.key))?;
        }
        for part in &later.parts {
            parts.push((&part.upload_id, part.number, &part.etag, part.size, part.at_ms))?;
        }
        for upload_id in &later.uploads_ended {
            ended.push(upload_id)?;
        }
        self.add(RECHECK, rechecks)?;
        self.add(RECHECKED, rechecked)?;
        self.add(PART, parts)?;
        self.add(UPLOAD_ENDED, ended)?;
        let [mut noted, mut over] = std::array::from_fn(|_| Rows::new());
        for (number, upload) in &later.mirror_uploads {
            match upload.as_deref() {
                Some(MirrorUpload { bucket, key, id, begun_ms }) => {
                    noted.push((number, bucket, key, id, begun_ms))?;
                }
                None => over.push(number)?,
            }
        }
        self.add(uploads::NOTE, noted)?;
        self.add(uploads::OVER, over)?;
        if later.hasten {
            self.sql.push_str(HASTEN);
            self.sql.push(';');
        }
        Ok(())
    }

    fn add_events(&mut self, later: &Later) -> Result<(), serde_json::Error> {
        let [mut made, mut left, mut delivered] = std::array::from_fn(|_| Rows::new());
        for event in &later.events {
            let (bucket, key) = (&*event.object.bucket, &*event.object.key);
            let (id, accepted_ms, request_id) = (event.id, event.accepted_ms, &event.request_id);
            let (unknown, facts, attempts) = (event.unknown, &event.facts, event.attempts);
            made.push((id, bucket, key, accepted_ms, request_id, unknown, facts, attempts))?;
        }
        for event in &later.events_left {
            let events::Aftermath { id, state, attempts, due_ms, error, facts } = event;
            left.push((id, state, attempts, due_ms, error, facts))?;
        }
        for id in &later.events_delivered {
            delivered.push(id)?;
        }
        self.add(events::INSERT, made)?;
        self.add(events::AFTERMATH, left)?;
        self.add(events::DELIVERED, delivered)?;
        Ok(())
    }

    /// Applies everything, and then what operators asked for. On an error nothing of it is applied.
    pub(super) async fn commit(
        self,
        db: &mut SqliteConnection,
        operations: &[Operation],
    ) -> Result<(), sqlx::Error> {
        let result = self.apply(db, operations).await;
        if result.is_err() {
            rollback(db).await;
        }
        result
    }

    async fn apply(
        mut self,
        db: &mut SqliteConnection,
        operations: &[Operation],
    ) -> Result<(), sqlx::Error> {
        if operations.is_empty() {
            self.sql.push_str("COMMIT");
        }
        let mut query = sqlx::query(AssertSqlSafe(self.sql));
        for argument in self.arguments {
            query = query.bind(argument);
        }
        query.execute(&mut *db).await?;
        if !operations.is_empty() {
            operator::apply(db, operations).await?;
            sqlx::query("COMMIT").execute(db).await?;
        }
        Ok(())
    }
}

async fn rollback(db: &mut SqliteConnection) {
    // Fails when SQLite has rolled back by itself, which is what is wanted.
    if let Err(error) = sqlx::query("ROLLBACK").execute(db).await {
        tracing::debug!(%error, "rollback of a journal batch");
    }
}

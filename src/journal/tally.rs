//! Figures that cost nothing to ask for: the file counts itself while it is written.
//!
//! # Promises
//! - **P7** Every figure is that of the file at one moment, exactly, and none is kept by adding up
//!   what somebody says has happened: triggers see each row as it was and as it is, in the very
//!   transaction that changes it, whichever statement does. A transaction that fails takes its
//!   counts back.
//! - **P5** Asking is a look at [`CLASSES`] numbers and at the two ends of an index, whatever the
//!   backlog. All rows are counted once when the file is opened, after an error, and when somebody
//!   else (a person with a shell) has written the file.
//!
//! # How
//! The triggers and their table are temporary, which is the writer's connection and memory: nothing
//! of them is in the file. A row belongs to the class of its `state`, `mirror` and `inventory`
//! (or, of an event, of its `state`); what the classes mean is told here and nowhere else.
//!
//! # Crash
//! Nothing is left of it, and the next start counts.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::events::EventFigures;

/// Finds the oldest waiting entry. Intents are not in it, so that an entry which is settled,
/// mirrored and written at once never is.
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS entry_waiting ON entry(accepted_ms)
    WHERE state > 0 AND mirror IN (0, 2)";

/// Classes of entries (3 states, 5 of `mirror`, 4 of `inventory`) and, behind them, of events.
const CLASSES: i64 = FIRST_EVENT + 3;
const FIRST_EVENT: i64 = 60;

const TABLE: &str = "CREATE TEMP TABLE IF NOT EXISTS tally
    (class INTEGER PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL)";

const TRIGGERS: &[&str] = &[
    // A row that another replaces goes too.
    "PRAGMA recursive_triggers = ON",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_comes AFTER INSERT ON main.entry BEGIN
        UPDATE tally SET entries = entries + 1, bytes = bytes + NEW.bytes
            WHERE class = NEW.state * 20 + NEW.mirror * 4 + NEW.inventory;
     END",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_goes AFTER DELETE ON main.entry BEGIN
        UPDATE tally SET entries = entries - 1, bytes = bytes - OLD.bytes
            WHERE class = OLD.state * 20 + OLD.mirror * 4 + OLD.inventory;
     END",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_moves
        AFTER UPDATE OF state, mirror, inventory, bytes ON main.entry BEGIN
        UPDATE tally SET entries = entries - 1, bytes = bytes - OLD.bytes
            WHERE class = OLD.state * 20 + OLD.mirror * 4 + OLD.inventory;
        UPDATE tally SET entries = entries + 1, bytes = bytes + NEW.bytes
            WHERE class = NEW.state * 20 + NEW.mirror * 4 + NEW.inventory;
     END",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_event_comes AFTER INSERT ON main.event BEGIN
        UPDATE tally SET entries = entries + 1 WHERE class = 60 + NEW.state;
     END",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_event_goes AFTER DELETE ON main.event BEGIN
        UPDATE tally SET entries = entries - 1 WHERE class = 60 + OLD.state;
     END",
    "CREATE TEMP TRIGGER IF NOT EXISTS tally_event_moves AFTER UPDATE OF state ON main.event BEGIN
        UPDATE tally SET entries = entries - 1 WHERE class = 60 + OLD.state;
        UPDATE tally SET entries = entries + 1 WHERE class = 60 + NEW.state;
     END",
];

/// Everything, counted row by row: grouping would sort all of them, in memory.
const COUNT: &[&str] = &[
    "INSERT INTO tally SELECT state * 20 + mirror * 4 + inventory, 1, bytes FROM main.entry
     WHERE true
     ON CONFLICT DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes",
    "INSERT INTO tally SELECT 60 + state, 1, 0 FROM main.event WHERE true
     ON CONFLICT DO UPDATE SET entries = entries + 1",
];

const READ: &str = "SELECT class, entries, bytes FROM tally WHERE entries <> 0";

/// What no count tells.
const ENDS: &str = "SELECT
    (SELECT min(accepted_ms) FROM entry WHERE state > 0 AND mirror IN (0, 2)),
    (SELECT accepted_ms FROM event WHERE state = 0 ORDER BY id LIMIT 1),
    (SELECT error FROM event WHERE state = 1 LIMIT 1)";

/// Figures that operators watch, all read from the journal itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    /// Entries main accepted and the mirror has not confirmed, parked ones left out.
    pub pending_operations: i64,
    /// Their bytes, as far as known.
    pub pending_bytes: i64,
    /// When the oldest of them was accepted, milliseconds since 1970.
    pub oldest_pending_ms: Option<i64>,
    /// Entries stopped by a permanent error.
    pub parked: i64,
    /// Deletes set aside: delayed, or held by the mass-delete brake.
    pub held_deletes: i64,
    /// Rows the inventory has not written.
    pub pending_rows: i64,
    /// Rows the inventory can never store.
    pub parked_rows: i64,
    /// Intents whose request is under way, and entries whose outcome main has not yet been
    /// asked about.
    pub unsettled_intents: i64,
}

/// Figures of the entries, and of the events.
pub type Counted = (Figures, EventFigures);

/// The count that is kept beside the writer's connection; a new connection begins with a new one.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// `data_version` when all rows were counted: it changes when somebody else writes the file.
    counted: Option<i64>,
}

impl Tally {
    /// The figures now. Counts every row if need be.
    ///
    /// # Errors
    /// The file cannot be read. The next question counts anew.
    pub(super) async fn read(&mut self, db: &mut SqliteConnection) -> Result<Counted, sqlx::Error> {
        let known = self.counted.take();
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *db).await?;
        if known != Some(version) {
            begin(db).await?;
        }
        let classes = sqlx::query(READ).fetch_all(&mut *db).await?;
        let counted = figures(&classes, &sqlx::query(ENDS).fetch_one(db).await?)?;
        self.counted = Some(version);
        Ok(counted)
    }
}

/// Sets the triggers up and counts every row.
async fn begin(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(TABLE).execute(&mut *db).await?;
    for statement in TRIGGERS {
        sqlx::query(*statement).execute(&mut *db).await?;
    }
    count_rows(db).await
}

/// Fills the table.
async fn count_rows(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let zero = format!(
        "WITH RECURSIVE c(class) AS
            (SELECT 0 UNION ALL SELECT class + 1 FROM c WHERE class + 1 < {CLASSES})
         INSERT OR REPLACE INTO tally SELECT class, 0, 0 FROM c"
    );
    sqlx::query(sqlx::AssertSqlSafe(zero)).execute(&mut *db).await?;
    for statement in COUNT {
        sqlx::query(*statement).execute(&mut *db).await?;
    }
    Ok(())
}

/// Counts every row over a connection that only reads: for when the writer cannot answer.
pub(super) async fn count(db: &mut SqliteConnection) -> Result<Counted, sqlx::Error> {
    sqlx::query(TABLE).execute(&mut *db).await?;
    count_rows(db).await?;
    let classes = sqlx::query(READ).fetch_all(&mut *db).await?;
    figures(&classes, &sqlx::query(ENDS).fetch_one(db).await?)
}

/// What the classes mean.
fn figures(classes: &[SqliteRow], ends: &SqliteRow) -> Result<Counted, sqlx::Error> {
    let mut figures = Figures { oldest_pending_ms: ends.try_get(0)?, ..Figures::default() };
    let mut events = EventFigures {
        oldest_pending_ms: ends.try_get(1)?,
        error: ends.try_get(2)?,
        ..EventFigures::default()
    };
    for row in classes {
        let (class, entries, bytes): (i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if class >= FIRST_EVENT {
            match class - FIRST_EVENT {
                0 => events.pending += entries,
                1 => events.refused += entries,
                // Delivered, and looked at once more.
                _ => {}
            }
            continue;
        }
        let (state, mirror, inventory) = (class / 20, class / 4 % 5, class % 4);
        let settled = state > 0;
        if settled && matches!(mirror, 0 | 2) {
            figures.pending_operations += entries;
            figures.pending_bytes += bytes;
        }
        if mirror == 3 {
            figures.parked += entries;
        }
        if mirror == 4 {
            figures.held_deletes += entries;
        }
        if settled && (inventory == 0 || (inventory == 1 && mirror == 1)) {
            figures.pending_rows += entries;
        }
        if inventory == 3 {
            figures.parked_rows += entries;
        }
        if state == 0 || (state == 2 && mirror == 0) {
            figures.unsettled_intents += entries;
        }
    }
    Ok((figures, events))
}

#[cfg(test)]
mod tests;

//! The statements that write rows into one table, and the form in which they take them.

use std::fmt::Write as _;

use time::{OffsetDateTime, UtcOffset};

use super::super::row::{Row, RowState, TOMBSTONE_TYPE};
use super::super::schema::SQLITE_NOW;
use super::super::table::quoted;
use super::import;

/// The statements for one table; all take the rows as one JSON array.
pub(super) struct Statements {
    pub(super) present: String,
    pub(super) absent: String,
    pub(super) import: import::Statements,
}

impl Statements {
    pub(super) fn for_table(table: &str) -> Self {
        let name = quoted(table);
        // What the row says already, where that is what is given; see `Row::unsure`. The transaction
        // holds the write lock, so that nothing changes in between.
        let kept = |column: &str, same: &str| {
            format!("(SELECT t.{column} FROM {name} t WHERE t.path = g.value ->> 0 AND {same})")
        };
        let same = "NOT t.deleted AND t.size = g.value ->> 1 AND t.content_type = g.value ->> 2
             AND t.last_modified = g.value ->> 3 AND t.etag IS g.value ->> 4
             AND t.version_id IS g.value ->> 5";
        let values = |same: &str| {
            let (flag, time) = (kept("is_backed_up", same), kept("mirrored_at", same));
            let error = kept("last_error", same);
            format!(
                "coalesce(g.value ->> 6, {flag}, FALSE),
                 CASE WHEN g.value ->> 6 THEN {SQLITE_NOW}
                      WHEN g.value ->> 6 IS NULL THEN {time} END,
                 CASE WHEN g.value ->> 6 IS NULL THEN {error} ELSE g.value ->> 7 END"
            )
        };
        let present = format!(
            "INSERT INTO {name} (path, size, content_type, last_modified, etag, version_id, deleted,
                 is_backed_up, mirrored_at, last_error, created_at, updated_at)
             SELECT g.value ->> 0, g.value ->> 1, g.value ->> 2, g.value ->> 3, g.value ->> 4,
                 g.value ->> 5, FALSE, {}, {SQLITE_NOW}, {SQLITE_NOW}
             FROM json_each(?1) AS g WHERE TRUE
             ON CONFLICT (path) DO UPDATE SET
                 size = excluded.size, content_type = excluded.content_type,
                 last_modified = excluded.last_modified, etag = excluded.etag,
                 version_id = excluded.version_id, deleted = FALSE,
                 is_backed_up = excluded.is_backed_up, mirrored_at = excluded.mirrored_at,
                 last_error = excluded.last_error, updated_at = excluded.updated_at",
            values(same)
        );
        let absent = format!(
            "INSERT INTO {name} (path, size, content_type, last_modified, deleted, is_backed_up,
                 mirrored_at, last_error, created_at, updated_at)
             SELECT g.value ->> 0, 0, '{TOMBSTONE_TYPE}', {SQLITE_NOW}, TRUE, {}, {SQLITE_NOW},
                 {SQLITE_NOW}
             FROM json_each(?1) AS g WHERE TRUE
             ON CONFLICT (path) DO UPDATE SET deleted = TRUE,
                 is_backed_up = excluded.is_backed_up, mirrored_at = excluded.mirrored_at,
                 last_error = excluded.last_error, updated_at = excluded.updated_at",
            values("t.deleted")
        );
        Self { present, absent, import: import::Statements::for_table(&name) }
    }
}

/// A row as the statements expect it. Sizes beyond `i64` were turned away before.
pub(super) fn json(row: &Row) -> serde_json::Value {
    let error = row.last_error_text();
    let mirrored = if row.unsure { None } else { Some(row.mirrored) };
    match &row.state {
        RowState::Present { size, content_type, last_modified, etag, version_id } => {
            let time = timestamp(*last_modified);
            serde_json::json!([
                row.key,
                size,
                content_type,
                time,
                etag,
                version_id,
                mirrored,
                error
            ])
        }
        RowState::Absent => {
            serde_json::json!([row.key, null, null, null, null, null, mirrored, error])
        }
    }
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC: the text sorts as the time does.
pub(super) fn timestamp(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if time.microsecond() != 0 {
        // Writing to a String cannot fail.
        write!(text, ".{:06}", time.microsecond()).unwrap_or_default();
    }
    text
}

//! The two statements of an import into `SQLite`; see [`super::super::import`].

use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use time::OffsetDateTime;

use super::super::import::AsOf;
use super::super::row::Row;
use super::super::schema::SQLITE_NOW;
use super::statements::{json, timestamp};

/// For one table; the transaction holds the write lock, so that nothing changes in between.
pub(super) struct Statements {
    update: String,
    add: String,
}

impl Statements {
    /// `name` is quoted.
    pub(super) fn for_table(name: &str) -> Self {
        let same = "coalesce(NOT t.deleted AND t.size = g.size AND coalesce(t.etag = g.etag, TRUE),
                        FALSE)";
        let better = "((t.etag IS NULL AND g.etag IS NOT NULL)
                        OR (t.content_type = '' AND g.content_type <> '')
                        OR (g.mirrored AND t.is_backed_up IS NOT TRUE))";
        let given = "(SELECT value ->> 0 AS path, value ->> 1 AS size, value ->> 2 AS content_type,
                          value ->> 3 AS last_modified, value ->> 4 AS etag,
                          value ->> 5 AS version_id, value ->> 6 AS mirrored
                      FROM json_each(?1)) AS g";
        let update = format!(
            "UPDATE {name} AS t SET
                 size = g.size,
                 content_type = CASE WHEN g.content_type <> '' THEN g.content_type
                                     WHEN {same} THEN t.content_type ELSE '' END,
                 last_modified = g.last_modified,
                 etag = coalesce(g.etag, CASE WHEN {same} THEN t.etag END),
                 version_id = coalesce(g.version_id, CASE WHEN {same} THEN t.version_id END),
                 deleted = FALSE,
                 is_backed_up = coalesce(g.mirrored, FALSE)
                                OR ({same} AND coalesce(t.is_backed_up, FALSE)),
                 mirrored_at = CASE WHEN {same} AND t.is_backed_up THEN t.mirrored_at
                                    WHEN g.mirrored THEN {SQLITE_NOW} END,
                 last_error = CASE WHEN {same} AND g.mirrored IS NOT TRUE THEN t.last_error END,
                 updated_at = {SQLITE_NOW}
             FROM {given}
             WHERE t.path = g.path AND coalesce(t.updated_at, '') < ?2
                 AND (NOT ?3 OR g.last_modified > t.last_modified
                      -- A list may tell of what had been deleted by then.
                      OR (g.last_modified = t.last_modified AND t.deleted IS NOT TRUE))
                 AND (NOT {same} OR {better})"
        );
        let add = format!(
            "INSERT INTO {name} (path, size, content_type, last_modified, etag, version_id,
                 deleted, is_backed_up, mirrored_at, created_at, updated_at)
             SELECT g.path, g.size, g.content_type, g.last_modified, g.etag, g.version_id, FALSE,
                    coalesce(g.mirrored, FALSE), CASE WHEN g.mirrored THEN {SQLITE_NOW} END,
                    {SQLITE_NOW}, {SQLITE_NOW}
             FROM {given} WHERE TRUE
             ON CONFLICT (path) DO NOTHING"
        );
        Self { update, add }
    }

    /// Yields how many rows were added and updated.
    pub(super) async fn run(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        rows: &[&Row],
        as_of: AsOf,
    ) -> Result<(u64, u64), sqlx::Error> {
        let values: Vec<serde_json::Value> = rows.iter().map(|row| json(row)).collect();
        let values = serde_json::Value::Array(values).to_string();
        let updated = sqlx::query(AssertSqlSafe(self.update.as_str()))
            .bind(&values)
            .bind(milliseconds(as_of.moment))
            .bind(as_of.only_if_newer)
            .execute(&mut **transaction)
            .await?;
        let added = sqlx::query(AssertSqlSafe(self.add.as_str()))
            .bind(&values)
            .execute(&mut **transaction)
            .await?;
        Ok((added.rows_affected(), updated.rows_affected()))
    }
}

/// As `updated_at` is written, to the millisecond: what is compared as text has one length.
fn milliseconds(moment: OffsetDateTime) -> String {
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    format!("{}.{:03}", timestamp(whole), moment.millisecond())
}

//! The one statement of an import into `PostgreSQL`; see [`super::super::import`].

use time::PrimitiveDateTime;

use super::super::import::AsOf;
use super::super::store::StoreError;
use super::super::table::quoted;
use super::{Postgres, batch};

/// The statement for one table. Answers how many rows were added and updated.
///
/// It takes its turn at the table like every statement of a proxy; and looks at rows under their
/// locks, as a person may hold them.
pub(super) fn statement(schema: &str, table: &str) -> String {
    let name = format!("{}.{}", quoted(schema), quoted(table));
    let turn = batch::turn(&name);
    let same = "coalesce(NOT t.deleted AND t.size = g.size
                    AND coalesce(t.etag = g.etag, TRUE), FALSE)";
    let better = "((t.etag IS NULL AND g.etag IS NOT NULL)
                    OR (t.content_type = '' AND g.content_type <> '')
                    OR (g.mirrored AND t.is_backed_up IS NOT TRUE))";
    format!(
        "WITH {turn}, given AS MATERIALIZED (
             SELECT g.* FROM turn, unnest($1::text[], $2::bigint[], $3::text[], $4::timestamp[],
                                          $5::text[], $6::text[], $7::boolean[])
                 AS g (path, size, content_type, last_modified, etag, version_id, mirrored)
         ), locked AS MATERIALIZED (
             SELECT g.* FROM given g JOIN {name} AS t ON t.path = g.path
             WHERE coalesce(t.updated_at, 'epoch') < $8::timestamp
                 AND (NOT $9::boolean OR g.last_modified > t.last_modified
                      -- A list may tell of what had been deleted by then.
                      OR (g.last_modified = t.last_modified AND t.deleted IS NOT TRUE))
                 AND (NOT {same} OR {better})
             ORDER BY t.path FOR UPDATE OF t
         ), updated AS (
             UPDATE {name} AS t SET
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
                                    WHEN g.mirrored THEN now() AT TIME ZONE 'UTC' END,
                 last_error = CASE WHEN {same} AND g.mirrored IS NOT TRUE THEN t.last_error END,
                 updated_at = now() AT TIME ZONE 'UTC'
             FROM locked g WHERE t.path = g.path
             RETURNING 1
         ), added AS (
             INSERT INTO {name} (path, size, content_type, last_modified, etag, version_id,
                 deleted, is_backed_up, mirrored_at, created_at, updated_at)
             SELECT g.path, g.size, g.content_type, g.last_modified, g.etag, g.version_id,
                    FALSE, coalesce(g.mirrored, FALSE),
                    CASE WHEN g.mirrored THEN now() AT TIME ZONE 'UTC' END,
                    now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
             FROM given g WHERE NOT EXISTS (SELECT 1 FROM {name} t WHERE t.path = g.path)
             ORDER BY g.path
             ON CONFLICT (path) DO NOTHING
             RETURNING 1
         )
         SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM updated)"
    )
}

/// The moment as the columns hold it.
pub(super) fn moment(as_of: &AsOf) -> PrimitiveDateTime {
    batch::utc(as_of.moment)
}

impl Postgres {
    /// See [`super::super::store::Store::clock`].
    pub(in super::super) async fn clock(&self) -> Result<PrimitiveDateTime, StoreError> {
        let rows = self.read("SELECT now() AT TIME ZONE 'UTC'", &[]).await?;
        let row = rows.first();
        row.map(|row| row.get(0)).ok_or_else(|| StoreError::Rejected("it has no clock".into()))
    }
}

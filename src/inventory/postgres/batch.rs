//! Rows as nine arrays and the writer, and the one statement that takes them.
//!
//! The statement first updates the rows that exist and then inserts the rest. A plain
//! `INSERT .. ON CONFLICT` would draw a number from the `id` sequence for every row it updates, and
//! `id` is a SERIAL: after 2^31 upserts every insert would fail. Here numbers are drawn for new
//! keys only, and for the rare key that another session inserted in the same instant.
//!
//! One statement at a time writes a table, whoever sends it: it holds a lock of its own making, by
//! the table's name, from before it touches the first row. Locking rows in one order was not enough
//! (a row that was inserted since the statement began is met by the insertion, behind rows that
//! come later in the order), and a deadlock costs everybody who waits a second.
//!
//! It answers the paths of rows that are *contested* ([`super::super::fence`]): `writer` is taken
//! from the row version that is replaced, under its lock, so that of two proxies that write one row
//! the second is always told, however close together they come.

use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use tokio_postgres::types::ToSql;

use super::super::row::{Row, RowState, TOMBSTONE_TYPE};
use super::super::table::{literal, quoted};

/// Longest payload that is told, in bytes; `PostgreSQL` takes 7999.
const PAYLOAD_BYTES_MAX: usize = 7900;

/// Where the statement tells the rows it wrote, in its own transaction: a listener hears of them
/// when they can be read, and never of rows that were rolled back.
pub(super) struct Feed<'a> {
    pub(super) channel: &'a str,
    pub(super) bucket: &'a str,
}

/// The statement for one table.
pub(super) fn statement(schema: &str, table: &str, feed: Option<&Feed<'_>>) -> String {
    let name = format!("{}.{}", quoted(schema), quoted(table));
    let (returned, end) = ending(table, feed);
    let turn = turn(&name);
    let writer = "CASE WHEN $10::bigint IS NULL THEN -abs(t.writer)
                      WHEN coalesce(t.writer, $10) = $10 THEN $10 ELSE -$10 END";
    // The row says what is given. NULL, of a column that a person emptied, counts as no.
    let same = "coalesce(CASE WHEN g.present
                    THEN NOT t.deleted AND t.size = g.size AND t.content_type = g.content_type
                        AND t.last_modified = g.last_modified
                        AND t.etag IS NOT DISTINCT FROM g.etag
                        AND t.version_id IS NOT DISTINCT FROM g.version_id
                    ELSE t.deleted END, FALSE)";
    format!(
        "WITH {turn}, given AS MATERIALIZED (
             SELECT g.* FROM turn, unnest($1::text[], $2::boolean[], $3::bigint[], $4::text[],
                                          $5::timestamp[], $6::text[], $7::text[], $8::boolean[],
                                          $9::text[])
                 AS g (path, present, size, content_type, last_modified, etag, version_id,
                       mirrored, last_error)
         ), updated AS (
             UPDATE {name} AS t SET
                 size = CASE WHEN g.present THEN g.size ELSE t.size END,
                 content_type = CASE WHEN g.present THEN g.content_type ELSE t.content_type END,
                 last_modified = CASE WHEN g.present THEN g.last_modified ELSE t.last_modified END,
                 etag = CASE WHEN g.present THEN g.etag ELSE t.etag END,
                 version_id = CASE WHEN g.present THEN g.version_id ELSE t.version_id END,
                 deleted = NOT g.present,
                 is_backed_up = coalesce(g.mirrored, t.is_backed_up AND {same}),
                 mirrored_at = CASE WHEN g.mirrored THEN now() AT TIME ZONE 'UTC'
                                    WHEN g.mirrored IS NULL AND {same} THEN t.mirrored_at END,
                 last_error = CASE WHEN g.mirrored IS NULL AND {same} THEN t.last_error
                              ELSE g.last_error END,
                 updated_at = now() AT TIME ZONE 'UTC',
                 writer = {writer}
             FROM given g WHERE t.path = g.path
             RETURNING {returned}
         ), inserted AS (
         INSERT INTO {name} AS t
             (path, size, content_type, last_modified, etag, version_id, deleted, is_backed_up,
              mirrored_at, last_error, created_at, updated_at, writer)
         SELECT g.path, coalesce(g.size, 0), coalesce(g.content_type, '{TOMBSTONE_TYPE}'),
                coalesce(g.last_modified, now() AT TIME ZONE 'UTC'), g.etag, g.version_id,
                NOT g.present, coalesce(g.mirrored, FALSE), CASE WHEN g.mirrored THEN now() AT TIME ZONE 'UTC' END,
                g.last_error, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', $10::bigint
         FROM given g
         WHERE NOT EXISTS (SELECT 1 FROM updated u WHERE u.path = g.path)
         ORDER BY g.path
         ON CONFLICT (path) DO UPDATE SET
             size = CASE WHEN excluded.deleted THEN t.size ELSE excluded.size END,
             content_type = CASE WHEN excluded.deleted THEN t.content_type
                            ELSE excluded.content_type END,
             last_modified = CASE WHEN excluded.deleted THEN t.last_modified
                             ELSE excluded.last_modified END,
             etag = CASE WHEN excluded.deleted THEN t.etag ELSE excluded.etag END,
             version_id = CASE WHEN excluded.deleted THEN t.version_id
                          ELSE excluded.version_id END,
             deleted = excluded.deleted,
             is_backed_up = excluded.is_backed_up, mirrored_at = excluded.mirrored_at,
             last_error = excluded.last_error, updated_at = excluded.updated_at,
             writer = {writer}
         RETURNING {returned}
         )
         {end}"
    )
}

/// Class of the locks by which statements take turns: "s3mi" in ASCII, the same in every version.
const TURN: i32 = 0x7333_6d69;

/// Waits for this statement's turn at a table. Whatever reads rows through it waits with it.
pub(super) fn turn(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let key = digest.first_chunk().copied().map_or(0, i32::from_be_bytes);
    format!("turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({TURN}, {key}))")
}

/// What the parts of the statement return, and how it ends: with the paths of contested rows.
fn ending(table: &str, feed: Option<&Feed<'_>>) -> (&'static str, String) {
    let Some(Feed { channel, bucket }) = feed else {
        let end = "SELECT path FROM updated WHERE writer < 0
                   UNION ALL SELECT path FROM inserted WHERE writer < 0";
        return ("t.path, t.writer", end.to_owned());
    };
    let (channel, bucket, table) = (literal(channel), literal(bucket), literal(table));
    let payload = |path: &str, etag: &str| {
        format!(
            "json_build_object('bucket', {bucket}, 'table', {table}, 'id', id, 'path', {path},
                 'deleted', deleted, 'size', size, 'etag', {etag},
                 'is_backed_up', is_backed_up)::text"
        )
    };
    let (whole, short) = (payload("path", "etag"), payload("NULL", "NULL"));
    // MATERIALIZED: a function whose result nobody reads would not be called, nor for rows that
    // the last condition leaves out.
    let end = format!(
        ", changed AS (SELECT * FROM updated UNION ALL SELECT * FROM inserted
         ), told AS MATERIALIZED (
             SELECT path, writer, pg_notify({channel},
                 CASE WHEN octet_length({whole}) <= {PAYLOAD_BYTES_MAX} THEN {whole}
                      ELSE {short} END)
             FROM changed
         )
         SELECT path FROM told WHERE writer < 0"
    );
    ("t.path, t.writer, t.id, t.size, t.deleted, t.etag, t.is_backed_up", end)
}

/// The statement's parameters, column by column.
#[derive(Default)]
pub(super) struct Batch<'a> {
    path: Vec<&'a str>,
    present: Vec<bool>,
    size: Vec<Option<i64>>,
    content_type: Vec<Option<&'a str>>,
    last_modified: Vec<Option<PrimitiveDateTime>>,
    etag: Vec<Option<&'a str>>,
    version_id: Vec<Option<&'a str>>,
    /// `None`: as it is, if the row says this state already.
    mirrored: Vec<Option<bool>>,
    last_error: Vec<Option<String>>,
    writer: Option<i64>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(rows: &[&'a Row], writer: Option<i64>) -> Self {
        let mut batch = Self { writer, ..Self::default() };
        for row in rows {
            batch.push(row);
        }
        batch
    }

    fn push(&mut self, row: &'a Row) {
        self.path.push(&row.key);
        self.mirrored.push(if row.unsure { None } else { Some(row.mirrored) });
        self.last_error.push(row.last_error_text());
        match &row.state {
            RowState::Present { size, content_type, last_modified, etag, version_id } => {
                self.present.push(true);
                // `Row::unstorable` has turned larger sizes away.
                self.size.push(Some(i64::try_from(*size).unwrap_or(i64::MAX)));
                self.content_type.push(Some(content_type));
                self.last_modified.push(Some(utc(*last_modified)));
                self.etag.push(etag.as_deref());
                self.version_id.push(version_id.as_deref());
            }
            RowState::Absent => {
                self.present.push(false);
                self.size.push(None);
                self.content_type.push(None);
                self.last_modified.push(None);
                self.etag.push(None);
                self.version_id.push(None);
            }
        }
    }

    /// In the order of the placeholders of an import's statement.
    pub(super) fn import_parameters<'b>(
        &'b self,
        moment: &'b PrimitiveDateTime,
        only_if_newer: &'b bool,
    ) -> [&'b (dyn ToSql + Sync); 9] {
        [
            &self.path,
            &self.size,
            &self.content_type,
            &self.last_modified,
            &self.etag,
            &self.version_id,
            &self.mirrored,
            moment,
            only_if_newer,
        ]
    }

    /// In the order of the statement's placeholders.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 10] {
        [
            &self.path,
            &self.present,
            &self.size,
            &self.content_type,
            &self.last_modified,
            &self.etag,
            &self.version_id,
            &self.mirrored,
            &self.last_error,
            &self.writer,
        ]
    }
}

/// TIMESTAMP columns hold UTC without saying so.
pub(super) fn utc(time: OffsetDateTime) -> PrimitiveDateTime {
    let time = time.to_offset(UtcOffset::UTC);
    PrimitiveDateTime::new(time.date(), time.time())
}

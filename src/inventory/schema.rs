//! The tables' shape: DDL for both databases, as text.
//!
//! # The contract
//! The first nine columns of a bucket's table and its three index names are public; they never
//! change. Later columns are nullable and only ever added, so two versions of the proxy can write
//! one table. `SQLite` has the same columns in its own types: booleans are 0 and 1, timestamps UTC
//! text `YYYY-MM-DD HH:MM:SS[.ffffff]`, which sorts as time does.
//!
//! # Shared objects
//! The registry (bucket -> table), a version row per applied migration, and two views over all
//! tables: `s3_mirror_pending` (what the mirror does not have yet) and `s3_mirror_bucket_summary`
//! (one line per bucket). In `PostgreSQL` the views read through functions that look the tables up
//! as they run: a view naming the tables would stop a person from dropping one.

use super::table::{Index, REGISTRY, index_name, literal, quoted};

/// Version of the shared objects; rises with every change to [`postgres_shared`].
pub const VERSION: i32 = 1;

/// The migrations table; its highest row is the newest version that ever ran here.
pub const MIGRATIONS: &str = "s3_mirror_migrations";

/// A column of a bucket's table.
pub struct Column {
    /// Name, the same in both databases.
    pub name: &'static str,
    /// Type and constraints in a new table of `PostgreSQL`.
    pub postgres: &'static str,
    /// Type and constraints in a new table of `SQLite`.
    pub sqlite: &'static str,
    /// Type and constraints where a table in `PostgreSQL` lacks the column: existing rows need a
    /// value. `None` for the columns without which a table is not an inventory table.
    pub added: Option<&'static str>,
}

/// Now, in `SQLite`, as the text the timestamp columns hold.
pub const SQLITE_NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now')";

/// The time so many seconds ago (`$1`), as `updated_at` holds it in `PostgreSQL`.
pub(super) const SHORTLY_BEFORE_POSTGRES: &str =
    "(now() AT TIME ZONE 'UTC') - make_interval(secs => $1)";
/// The time so many seconds ago (`?1`), as `updated_at` holds it in `SQLite`.
pub(super) const SHORTLY_BEFORE_SQLITE: &str =
    "strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || ?1 || ' seconds')";

/// The key in a new table of `PostgreSQL`; see [`postgres_table`].
const PATH_POSTGRES: &str = "TEXT COLLATE \"C\" NOT NULL";

/// Every column, in order. The first nine are the contract.
pub const COLUMNS: [Column; 14] = [
    Column {
        name: "id",
        postgres: "SERIAL PRIMARY KEY",
        sqlite: "INTEGER PRIMARY KEY AUTOINCREMENT",
        added: None,
    },
    Column { name: "path", postgres: "TEXT NOT NULL", sqlite: "TEXT UNIQUE NOT NULL", added: None },
    Column {
        name: "size",
        postgres: "BIGINT NOT NULL",
        sqlite: "BIGINT NOT NULL",
        added: Some("BIGINT NOT NULL DEFAULT 0"),
    },
    Column {
        name: "content_type",
        postgres: "TEXT NOT NULL",
        sqlite: "TEXT NOT NULL",
        added: Some("TEXT NOT NULL DEFAULT ''"),
    },
    Column {
        name: "is_backed_up",
        postgres: "BOOLEAN DEFAULT FALSE",
        sqlite: "BOOLEAN DEFAULT FALSE",
        added: Some("BOOLEAN DEFAULT FALSE"),
    },
    Column {
        name: "last_modified",
        postgres: "TIMESTAMP NOT NULL",
        sqlite: "TIMESTAMP NOT NULL",
        added: Some("TIMESTAMP NOT NULL DEFAULT 'epoch'"),
    },
    Column {
        name: "deleted",
        postgres: "BOOLEAN DEFAULT FALSE",
        sqlite: "BOOLEAN DEFAULT FALSE",
        added: Some("BOOLEAN DEFAULT FALSE"),
    },
    Column {
        name: "created_at",
        postgres: "TIMESTAMP DEFAULT NOW()",
        sqlite: "TIMESTAMP DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))",
        added: Some("TIMESTAMP DEFAULT NOW()"),
    },
    Column {
        name: "updated_at",
        postgres: "TIMESTAMP DEFAULT NOW()",
        sqlite: "TIMESTAMP DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))",
        added: Some("TIMESTAMP DEFAULT NOW()"),
    },
    Column { name: "etag", postgres: "TEXT", sqlite: "TEXT", added: Some("TEXT") },
    Column { name: "version_id", postgres: "TEXT", sqlite: "TEXT", added: Some("TEXT") },
    Column {
        name: "mirrored_at",
        postgres: "TIMESTAMP",
        sqlite: "TIMESTAMP",
        added: Some("TIMESTAMP"),
    },
    Column { name: "last_error", postgres: "TEXT", sqlite: "TEXT", added: Some("TEXT") },
    // Which proxy wrote the row last; negative once a second one has (`super::fence`).
    Column { name: "writer", postgres: "BIGINT", sqlite: "BIGINT", added: Some("BIGINT") },
];

/// The nine columns a table must have to be taken over as an inventory table.
pub fn contract_columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().take(9).map(|column| column.name)
}

/// DDL of a new bucket table in `PostgreSQL`. `table` and `schema` are bare names.
///
/// The unique constraint *is* the path index, under the documented name: a second index on the same
/// column would only cost writes. It is in the order of bytes whatever the database's collation, as
/// S3 lists keys: so that all keys with a prefix are one range of it, also for `LIKE 'prefix%'`. The other two are partial, over the few rows that queries look
/// for, so that the usual row pays for neither.
pub fn postgres_table(schema: &str, table: &str) -> String {
    let path = quoted(&index_name(table, Index::Path));
    let columns =
        columns(|column| if column.name == "path" { PATH_POSTGRES } else { column.postgres });
    let name = format!("{}.{}", quoted(schema), quoted(table));
    format!(
        "CREATE TABLE {name} ({columns}, CONSTRAINT {path} UNIQUE (path));
         CREATE INDEX {backup} ON {name} (is_backed_up) WHERE NOT is_backed_up;
         CREATE INDEX {deleted} ON {name} (deleted) WHERE deleted;",
        backup = quoted(&index_name(table, Index::Backup)),
        deleted = quoted(&index_name(table, Index::Deleted)),
    )
}

/// DDL that adds the columns `missing` to a `PostgreSQL` table; `None` if one of them cannot be
/// added.
pub fn postgres_added_columns(schema: &str, table: &str, missing: &[&Column]) -> Option<String> {
    let clauses: Option<Vec<String>> = missing
        .iter()
        .map(|column| {
            let added = column.added?;
            Some(format!("ADD COLUMN IF NOT EXISTS {} {added}", column.name))
        })
        .collect();
    Some(format!("ALTER TABLE {}.{} {};", quoted(schema), quoted(table), clauses?.join(", ")))
}

/// DDL of the shared objects in `PostgreSQL`; running it again changes nothing.
pub fn postgres_shared(schema: &str) -> String {
    let s = quoted(schema);
    let schema_text = literal(schema);
    format!(
        "CREATE TABLE IF NOT EXISTS {s}.{MIGRATIONS} (
             version INTEGER PRIMARY KEY,
             applied_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'));
         CREATE TABLE IF NOT EXISTS {s}.{REGISTRY} (
             bucket TEXT PRIMARY KEY,
             table_name TEXT UNIQUE NOT NULL,
             created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'));

         CREATE OR REPLACE FUNCTION {s}.s3_mirror_pending_rows()
         RETURNS TABLE (bucket TEXT, table_name TEXT, path TEXT, size BIGINT, content_type TEXT,
                        deleted BOOLEAN, last_modified TIMESTAMP, updated_at TIMESTAMP,
                        last_error TEXT)
         LANGUAGE plpgsql STABLE AS $body$
         DECLARE entry RECORD;
         BEGIN
             FOR entry IN SELECT r.bucket, r.table_name FROM {s}.{REGISTRY} r ORDER BY r.bucket LOOP
                 IF to_regclass(format('%I.%I', {schema_text}, entry.table_name)) IS NOT NULL THEN
                     RETURN QUERY EXECUTE format(
                         'SELECT $1, $2, t.path, t.size, t.content_type, t.deleted,
                                 t.last_modified, t.updated_at, t.last_error
                          FROM %I.%I t WHERE NOT t.is_backed_up', {schema_text}, entry.table_name)
                         USING entry.bucket, entry.table_name;
                 END IF;
             END LOOP;
         END $body$;
         CREATE OR REPLACE VIEW {s}.s3_mirror_pending AS
             SELECT * FROM {s}.s3_mirror_pending_rows();

         CREATE OR REPLACE FUNCTION {s}.s3_mirror_bucket_summary_rows()
         RETURNS TABLE (bucket TEXT, table_name TEXT, objects BIGINT, total_bytes BIGINT,
                        pending_backup BIGINT, deleted_files BIGINT, updated_at TIMESTAMP)
         LANGUAGE plpgsql STABLE AS $body$
         DECLARE entry RECORD;
         BEGIN
             FOR entry IN SELECT r.bucket, r.table_name FROM {s}.{REGISTRY} r ORDER BY r.bucket LOOP
                 IF to_regclass(format('%I.%I', {schema_text}, entry.table_name)) IS NOT NULL THEN
                     RETURN QUERY EXECUTE format(
                         'SELECT $1, $2, count(*) FILTER (WHERE NOT t.deleted),
                                 coalesce(sum(t.size) FILTER (WHERE NOT t.deleted), 0)::bigint,
                                 count(*) FILTER (WHERE NOT t.is_backed_up),
                                 count(*) FILTER (WHERE t.deleted), max(t.updated_at)
                          FROM %I.%I t', {schema_text}, entry.table_name)
                         USING entry.bucket, entry.table_name;
                 END IF;
             END LOOP;
         END $body$;
         CREATE OR REPLACE VIEW {s}.s3_mirror_bucket_summary AS
             SELECT * FROM {s}.s3_mirror_bucket_summary_rows();

         INSERT INTO {s}.{MIGRATIONS} (version) VALUES ({VERSION}) ON CONFLICT DO NOTHING;"
    )
}

/// DDL of a new bucket table in `SQLite`, one statement each.
pub fn sqlite_table(table: &str) -> Vec<String> {
    let name = quoted(table);
    vec![
        format!("CREATE TABLE {name} ({})", columns(|column| column.sqlite)),
        format!(
            "CREATE INDEX {} ON {name} (is_backed_up) WHERE NOT is_backed_up",
            quoted(&index_name(table, Index::Backup))
        ),
        format!(
            "CREATE INDEX {} ON {name} (deleted) WHERE deleted",
            quoted(&index_name(table, Index::Deleted))
        ),
    ]
}

/// DDL of the shared objects in `SQLite` that do not depend on the tables; running it again changes
/// nothing. `pg_tables` makes the documented "list all bucket tables" query work here too.
pub fn sqlite_shared() -> Vec<String> {
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {MIGRATIONS} (version INTEGER PRIMARY KEY,
                 applied_at TIMESTAMP NOT NULL DEFAULT ({SQLITE_NOW}))"
        ),
        // Table names are case-insensitive in SQLite.
        format!(
            "CREATE TABLE IF NOT EXISTS {REGISTRY} (bucket TEXT PRIMARY KEY,
                 table_name TEXT UNIQUE NOT NULL COLLATE NOCASE,
                 created_at TIMESTAMP NOT NULL DEFAULT ({SQLITE_NOW}))"
        ),
        "CREATE VIEW IF NOT EXISTS pg_tables AS
             SELECT 'public' AS schemaname, name AS tablename FROM sqlite_master
             WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            .to_owned(),
        format!("INSERT OR IGNORE INTO {MIGRATIONS} (version) VALUES ({VERSION})"),
    ]
}

/// DDL that makes the two views of `SQLite` anew over these (bucket, table) pairs.
///
/// `SQLite` compiles at most 500 terms into one compound SELECT; longer lists are nested.
pub fn sqlite_views(tables: &[(String, String)]) -> Vec<String> {
    let pending = |bucket: &str, table: &str| {
        format!(
            "SELECT {}, {}, path, size, content_type, deleted, last_modified, updated_at,
                    last_error FROM {} WHERE NOT is_backed_up",
            literal(bucket),
            literal(table),
            quoted(table)
        )
    };
    let summary = |bucket: &str, table: &str| {
        format!(
            "SELECT {}, {}, count(*) FILTER (WHERE NOT deleted),
                    coalesce(sum(size) FILTER (WHERE NOT deleted), 0),
                    count(*) FILTER (WHERE NOT is_backed_up), count(*) FILTER (WHERE deleted),
                    max(updated_at) FROM {}",
            literal(bucket),
            literal(table),
            quoted(table)
        )
    };
    let mut statements = Vec::new();
    let mut view = |name: &str, columns: &str, term: &dyn Fn(&str, &str) -> String| {
        let terms: Vec<String> = tables.iter().map(|(bucket, table)| term(bucket, table)).collect();
        statements.push(format!("DROP VIEW IF EXISTS {name}"));
        if !terms.is_empty() {
            let select = nested_union(&terms);
            statements.push(format!("CREATE VIEW {name} ({columns}) AS {select}"));
        }
    };
    view(
        "s3_mirror_pending",
        "bucket, table_name, path, size, content_type, deleted, last_modified, updated_at, \
         last_error",
        &pending,
    );
    view(
        "s3_mirror_bucket_summary",
        "bucket, table_name, objects, total_bytes, pending_backup, deleted_files, updated_at",
        &summary,
    );
    statements
}

/// `UNION ALL` over any number of terms, none of its compounds longer than `SQLite` allows.
fn nested_union(terms: &[String]) -> String {
    const TERMS_MAX: usize = 400;
    let parts: Vec<String> = terms
        .chunks(TERMS_MAX)
        .map(|chunk| format!("SELECT * FROM ({})", chunk.join(" UNION ALL ")))
        .collect();
    parts.join(" UNION ALL ")
}

fn columns(definition: impl Fn(&Column) -> &'static str) -> String {
    let list: Vec<String> =
        COLUMNS.iter().map(|column| format!("{} {}", column.name, definition(column))).collect();
    list.join(", ")
}

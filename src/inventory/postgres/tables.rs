//! Which table a bucket has: looked up, made, taken over or repaired, under one lock.
//!
//! # Invariants
//! - One bucket, one table; one table, one bucket. The registry says so, and a comment on each
//!   table repeats it, so that a lost registry is rebuilt without mixing up `my-data` and
//!   `my.data`.
//! - All of it happens in one transaction under an advisory lock of the database: two proxies that
//!   meet a new bucket at once end up with one table. A crash leaves all or nothing.
//! - A table made by an earlier deployment is taken over as it is, its redundant index included;
//!   missing columns are added. The table's strong lock is asked for only if something is missing,
//!   and never waited for longer than [`DDL_LOCK_TIMEOUT`]: behind a waiting `ALTER TABLE`
//!   everybody else waits too.

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};

use super::super::schema::{
    COLUMNS, Column, MIGRATIONS, VERSION, contract_columns, postgres_added_columns,
    postgres_shared, postgres_table,
};
use super::super::table::{Candidate, Index, REGISTRY, candidates, index_name, literal, quoted};

/// Longest wait for the strong lock that adding a column needs.
const DDL_LOCK_TIMEOUT: &str = "2s";

/// Key of the advisory lock, "s3mirror" in ASCII: the same in every process and version.
const ADVISORY_LOCK: i64 = 0x7333_6d69_7272_6f72;

/// What a table's comment begins with; the bucket's name follows.
const COMMENT: &str = "s3-mirror inventory of bucket ";

/// How looking up a table failed.
pub(super) enum TableFault {
    /// The database said so.
    Database(Error),
    /// No table can be had; for people.
    Refused(String),
}

impl From<Error> for TableFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Takes the lock that all changes of shared objects and tables are made under, until the
/// transaction ends.
async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    let sql = format!(
        "SET LOCAL lock_timeout = '{DDL_LOCK_TIMEOUT}';
         SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
    );
    transaction.batch_execute(&sql).await
}

/// Makes the registry and the views, unless this version or a newer one has.
pub(super) async fn ensure_shared(
    transaction: &Transaction<'_>,
    schema: &str,
) -> Result<(), Error> {
    lock(transaction).await?;
    let exists = transaction
        .query_typed_one(
            "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL
                AND to_regclass($3) IS NOT NULL AND to_regclass($4) IS NOT NULL",
            &[
                (&in_schema(schema, MIGRATIONS), Type::TEXT),
                (&in_schema(schema, REGISTRY), Type::TEXT),
                (&in_schema(schema, "s3_mirror_pending"), Type::TEXT),
                (&in_schema(schema, "s3_mirror_bucket_summary"), Type::TEXT),
            ],
        )
        .await?
        .get::<_, bool>(0);
    if exists {
        let newest = format!("SELECT max(version) FROM {}", in_schema(schema, MIGRATIONS));
        let newest: Option<i32> = transaction.query_typed_one(&newest, &[]).await?.get(0);
        if newest >= Some(VERSION) {
            return Ok(());
        }
    }
    if schema != "public" {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
        transaction.batch_execute(&create).await?;
    }
    transaction.batch_execute(&postgres_shared(schema)).await
}

/// The bucket's table, existing and complete when this returns and the transaction commits.
pub(super) async fn ensure_table(
    transaction: &Transaction<'_>,
    schema: &str,
    bucket: &str,
) -> Result<String, TableFault> {
    lock(transaction).await?;
    let registry = in_schema(schema, REGISTRY);
    let known = transaction
        .query_typed(
            &format!("SELECT table_name FROM {registry} WHERE bucket = $1"),
            &[(&bucket, Type::TEXT)],
        )
        .await?;
    if let Some(row) = known.first() {
        let table: String = row.get(0);
        match relation(transaction, schema, &table).await? {
            None => create(transaction, schema, bucket, &table).await?,
            Some(found) => complete(transaction, schema, &table, &found).await?,
        }
        return Ok(table);
    }
    for Candidate { name, only_if_exists } in candidates(bucket) {
        let owner = transaction
            .query_typed(
                &format!("SELECT 1 FROM {registry} WHERE table_name = $1"),
                &[(&name, Type::TEXT)],
            )
            .await?;
        if !owner.is_empty() {
            continue;
        }
        match relation(transaction, schema, &name).await? {
            None if only_if_exists => continue,
            None => create(transaction, schema, bucket, &name).await?,
            Some(found) if found.is_inventory_of(bucket) => {
                complete(transaction, schema, &name, &found).await?;
                comment(transaction, schema, bucket, &name, &found).await?;
            }
            // Somebody else's: a sequence (`bucket_x_id_seq` beside the table `bucket_x`), an
            // index, a table of another shape or of another bucket.
            Some(_) => continue,
        }
        transaction
            .execute_typed(
                &format!("INSERT INTO {registry} (bucket, table_name) VALUES ($1, $2)"),
                &[(&bucket, Type::TEXT), (&name, Type::TEXT)],
            )
            .await?;
        return Ok(name);
    }
    Err(TableFault::Refused("every name for the bucket's table is taken".into()))
}

/// What stands under a name.
struct Relation {
    /// `pg_class.relkind`: a plain or a partitioned table is `r` or `p`.
    kind: i8,
    columns: Vec<String>,
    comment: Option<String>,
    /// Whether `ON CONFLICT (path)` finds an index.
    path_is_unique: bool,
}

impl Relation {
    fn is_table(&self) -> bool {
        [b'r', b'p'].iter().any(|kind| i8::try_from(*kind) == Ok(self.kind))
    }

    fn is_inventory_of(&self, bucket: &str) -> bool {
        let other_bucket = self
            .comment
            .as_ref()
            .and_then(|comment| comment.strip_prefix(COMMENT))
            .is_some_and(|owner| owner != bucket);
        self.is_table()
            && !other_bucket
            && contract_columns().all(|name| self.columns.iter().any(|column| column == name))
    }
}

async fn relation(
    transaction: &Transaction<'_>,
    schema: &str,
    name: &str,
) -> Result<Option<Relation>, Error> {
    let rows = transaction
        .query_typed(
            "SELECT c.relkind,
                    ARRAY(SELECT a.attname::text FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                    obj_description(c.oid, 'pg_class'),
                    EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a
                                ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                            WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
                              AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                              AND i.indnkeyatts = 1 AND a.attname = 'path')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2",
            &[(&schema, Type::TEXT), (&name, Type::TEXT)],
        )
        .await?;
    Ok(rows.first().map(|row| Relation {
        kind: row.get(0),
        columns: row.get(1),
        comment: row.get(2),
        path_is_unique: row.get(3),
    }))
}

async fn create(
    transaction: &Transaction<'_>,
    schema: &str,
    bucket: &str,
    table: &str,
) -> Result<(), Error> {
    let comment = comment_sql(schema, bucket, table);
    let sql = format!("{} {comment}", postgres_table(schema, table));
    transaction.batch_execute(&sql).await?;
    tracing::info!(bucket, table, "an inventory table was created");
    Ok(())
}

/// Adds what an earlier version or a person left out.
async fn complete(
    transaction: &Transaction<'_>,
    schema: &str,
    table: &str,
    found: &Relation,
) -> Result<(), TableFault> {
    if !found.is_table() {
        return Err(TableFault::Refused(format!("{table} is not a table any more")));
    }
    let missing: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| found.columns.iter().all(|name| name != column.name))
        .collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|column| column.name).collect();
        let Some(sql) = postgres_added_columns(schema, table, &missing) else {
            let names = names.join(", ");
            return Err(TableFault::Refused(format!("the table {table} has lost {names}")));
        };
        transaction.batch_execute(&sql).await?;
        tracing::info!(table, columns = %names.join(", "), "columns were added");
    }
    if !found.path_is_unique {
        let sql = format!(
            "DROP INDEX IF EXISTS {schema}.{index};
             CREATE UNIQUE INDEX {index} ON {schema}.{table} (path)",
            schema = quoted(schema),
            index = quoted(&index_name(table, Index::Path)),
            table = quoted(table),
        );
        transaction.batch_execute(&sql).await?;
        tracing::warn!(table, "the unique index on path was made anew");
    }
    raise_sequence(transaction, schema, table).await?;
    Ok(())
}

/// Lets the numbers of new rows begin behind those that are there: a table that was copied with its rows,
/// by logical replication for one, comes without the position of its sequence.
async fn raise_sequence(
    transaction: &Transaction<'_>,
    schema: &str,
    table: &str,
) -> Result<(), Error> {
    let name = in_schema(schema, table);
    let sequence = "SELECT s FROM pg_get_serial_sequence($1, 'id') AS s
                    WHERE has_sequence_privilege(s, 'SELECT') AND has_sequence_privilege(s, 'UPDATE')";
    let found = transaction.query_typed(sequence, &[(&name, Type::TEXT)]).await?;
    let Some(sequence) = found.first().map(|row| row.get::<_, String>(0)) else {
        // None, or not ours to move.
        return Ok(());
    };
    let raised = transaction
        .query_typed(
            &format!(
                "SELECT setval($1::text::regclass, t.id)
                 FROM (SELECT max(id)::bigint AS id FROM {name}) t, {sequence} s
                 WHERE t.id > s.last_value"
            ),
            &[(&sequence, Type::TEXT)],
        )
        .await?;
    if !raised.is_empty() {
        tracing::warn!(table, "the numbers of new rows go on behind those that are there");
    }
    Ok(())
}

/// Notes the bucket on a table that is taken over; a person's own comment stays.
async fn comment(
    transaction: &Transaction<'_>,
    schema: &str,
    bucket: &str,
    table: &str,
    found: &Relation,
) -> Result<(), Error> {
    tracing::info!(bucket, table, "an existing inventory table was taken over");
    if found.comment.is_some() {
        return Ok(());
    }
    transaction.batch_execute(&comment_sql(schema, bucket, table)).await
}

fn comment_sql(schema: &str, bucket: &str, table: &str) -> String {
    let text = literal(&format!("{COMMENT}{bucket}"));
    format!("COMMENT ON TABLE {}.{} IS {text}", quoted(schema), quoted(table))
}

pub(super) fn in_schema(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

//! Reading the inventory in `PostgreSQL`.
//!
//! # Order
//! Keys come in the order of the index on `path`, which is that of the database's collation. Where
//! that is the order of bytes, a prefix is a range of the index; elsewhere no range holds all keys
//! with a prefix, and rows are looked through until the page is full.

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::browse::{FOUND, Found, Totals, Wanted, behind};
use super::super::store::StoreError;
use super::super::table::{REGISTRY, quoted};
use super::{Postgres, discard, reason};

/// Times as text that says that it is UTC.
const TIME: &str = "YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"";
/// Most buckets whose rows are counted.
const BUCKETS_MAX: i64 = 1000;

impl Postgres {
    pub(in super::super) async fn page(
        &self,
        wanted: &Wanted,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        self.ask(async |client| {
            let Some((table, byte_order)) = self.table(client, &wanted.bucket).await? else {
                return Ok(Vec::new());
            };
            let limit = i64::from(limit);
            let end = behind(&wanted.prefix);
            let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
                vec![(&limit, Type::INT8), (&wanted.prefix, Type::TEXT)];
            let mut sql = format!("SELECT {} FROM {table} WHERE ", columns());
            match &end {
                Some(end) if byte_order => {
                    values.push((end, Type::TEXT));
                    sql.push_str("path >= $2 AND path < $3");
                }
                _ => sql.push_str("starts_with(path, $2)"),
            }
            if let Some(after) = &wanted.after {
                values.push((after, Type::TEXT));
                sql.push_str(if values.len() == 4 { " AND path > $4" } else { " AND path > $3" });
            }
            if !wanted.deleted {
                sql.push_str(" AND NOT coalesce(deleted, FALSE)");
            }
            if wanted.pending {
                sql.push_str(" AND NOT is_backed_up");
            }
            sql.push_str(" ORDER BY path LIMIT $1");
            let rows = client.query_typed(&sql, &values).await?;
            rows.iter().map(found).collect()
        })
        .await
    }

    pub(in super::super) async fn row(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Found>, StoreError> {
        self.ask(async |client| {
            let Some((table, _)) = self.table(client, bucket).await? else { return Ok(None) };
            let sql = format!("SELECT {} FROM {table} WHERE path = $1", columns());
            let rows = client.query_typed(&sql, &[(&key, Type::TEXT)]).await?;
            rows.first().map(found).transpose()
        })
        .await
    }

    pub(in super::super) async fn totals(&self) -> Result<Vec<Totals>, StoreError> {
        self.ask(async |client| {
            let registry = self.named(REGISTRY);
            let exists: bool = client
                .query_typed("SELECT to_regclass($1) IS NOT NULL", &[(&registry, Type::TEXT)])
                .await?
                .first()
                .is_some_and(|row| row.get(0));
            if !exists {
                return Ok(Vec::new());
            }
            let sql = format!(
                "SELECT bucket, table_name FROM {registry}
                 WHERE to_regclass(format('%I.%I', $1::text, table_name)) IS NOT NULL
                 ORDER BY bucket LIMIT $2"
            );
            let tables = client
                .query_typed(&sql, &[(&self.schema, Type::TEXT), (&BUCKETS_MAX, Type::INT8)])
                .await?;
            let mut totals = Vec::with_capacity(tables.len());
            for row in tables {
                let (bucket, table): (String, String) = (row.get(0), row.get(1));
                let sql = format!(
                    "SELECT count(*) FILTER (WHERE NOT deleted),
                            coalesce(sum(size) FILTER (WHERE NOT deleted), 0)::bigint,
                            count(*) FILTER (WHERE NOT is_backed_up),
                            to_char(max(updated_at), '{TIME}') FROM {}",
                    self.named(&table)
                );
                for row in client.query_typed(&sql, &[]).await? {
                    totals.push(Totals {
                        bucket: bucket.clone(),
                        objects: row.try_get(0)?,
                        bytes: row.try_get(1)?,
                        not_mirrored: row.try_get(2)?,
                        updated_at: row.try_get(3)?,
                    });
                }
            }
            Ok(totals)
        })
        .await
    }

    fn named(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(name))
    }

    /// The bucket's table, if it has one, and whether its keys are in the order of bytes.
    async fn table(
        &self,
        client: &Client,
        bucket: &str,
    ) -> Result<Option<(String, bool)>, tokio_postgres::Error> {
        let registry = self.named(REGISTRY);
        // Asked of the collation itself: its name may be that of libc while ICU does the sorting.
        let exists = "SELECT to_regclass($1) IS NOT NULL, NOT ('a'::text < 'B'::text)";
        let rows = client.query_typed(exists, &[(&registry, Type::TEXT)]).await?;
        let Some((true, byte_order)) = rows.first().map(|row| (row.get(0), row.get(1))) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT table_name FROM {registry} WHERE bucket = $1
                 AND to_regclass(format('%I.%I', $2::text, table_name)) IS NOT NULL"
        );
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&bucket, Type::TEXT), (&self.schema, Type::TEXT)];
        let rows = client.query_typed(&sql, &values).await?;
        Ok(rows.first().map(|row| (self.named(row.get(0)), byte_order)))
    }

    /// Asks over one connection, within the deadline.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let client = self.checkout().await?;
        match timeout(self.deadline, question(&client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let text = reason(&error);
                if client.is_closed() {
                    discard(client);
                }
                Err(StoreError::Unavailable(text))
            }
            Err(_) => {
                discard(client);
                Err(StoreError::Unavailable("no answer in time".into()))
            }
        }
    }
}

/// The columns of [`Found`], times as text.
fn columns() -> String {
    let columns = FOUND.iter().map(|name| match *name {
        "last_modified" | "created_at" | "updated_at" | "mirrored_at" => {
            format!("to_char({name}, '{TIME}') AS {name}")
        }
        name => name.to_owned(),
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn found(row: &Row) -> Result<Found, tokio_postgres::Error> {
    let flag = |name| row.try_get::<_, Option<bool>>(name).map(|flag| flag.unwrap_or(false));
    Ok(Found {
        key: row.try_get("path")?,
        size: row.try_get("size")?,
        content_type: row.try_get("content_type")?,
        last_modified: row.try_get::<_, Option<String>>("last_modified")?.unwrap_or_default(),
        is_backed_up: flag("is_backed_up")?,
        deleted: flag("deleted")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        etag: row.try_get("etag")?,
        version_id: row.try_get("version_id")?,
        mirrored_at: row.try_get("mirrored_at")?,
        last_error: row.try_get("last_error")?,
    })
}

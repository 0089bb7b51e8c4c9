//! Reading the inventory in `PostgreSQL`.
//!
//! # Order
//! Keys come in the order of the index on `path`. In tables that this version made that is the order
//! of bytes, and a prefix is a range of the index. Older tables have the collation of their
//! database; where that is another order no range holds all keys with a prefix, and keys are looked
//! through.

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::browse::search::{Dialect, Search, Statement};
use super::super::browse::walk::{self, Ask};
use super::super::browse::{Found, Page, Totals, Wanted};
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
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.ask(async |client| {
            let Some((table, byte_order)) = self.table(client, &wanted.bucket).await? else {
                return Ok(Page { rows: Vec::new(), next: None, looked_at: 0 });
            };
            let dialect = Dialect::Postgres { byte_order };
            let search = Search { dialect, table: &table, wanted };
            walk::page(&mut Asked(client), search, limit).await
        })
        .await
    }

    pub(in super::super) async fn row(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Found>, StoreError> {
        self.ask(async |client| {
            let Some((table, byte_order)) = self.table(client, bucket).await? else {
                return Ok(None);
            };
            let (dialect, wanted) = (Dialect::Postgres { byte_order }, Wanted::default());
            let search = Search { dialect, table: &table, wanted: &wanted };
            Ok(Asked(client).rows(search.row(key)).await?.pop())
        })
        .await
    }

    pub(in super::super) async fn names(&self) -> Result<Vec<String>, StoreError> {
        let tables = self.ask(async |client| self.tables(client).await).await?;
        Ok(tables.into_iter().map(|(bucket, _)| bucket).collect())
    }

    pub(in super::super) async fn totals(&self) -> Result<Vec<Totals>, StoreError> {
        self.ask(async |client| {
            let tables = self.tables(client).await?;
            let mut totals = Vec::with_capacity(tables.len());
            for (bucket, table) in tables {
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

    /// The buckets that have a table, and its name.
    async fn tables(
        &self,
        client: &Client,
    ) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
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
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.schema, Type::TEXT), (&BUCKETS_MAX, Type::INT8)];
        let rows = client.query_typed(&sql, &values).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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
        let exists = "SELECT to_regclass($1) IS NOT NULL";
        let rows = client.query_typed(exists, &[(&registry, Type::TEXT)]).await?;
        if !rows.first().is_some_and(|row| row.get(0)) {
            return Ok(None);
        }
        // 100 is the database's, which is asked by what it does: its name may be that of libc while
        // ICU sorts. 950 and 951 are "C" and "POSIX".
        let sql = format!(
            "SELECT table_name, CASE a.attcollation WHEN 100 THEN NOT ('a'::text < 'B'::text)
                                     ELSE a.attcollation IN (950, 951) END
             FROM {registry} r JOIN pg_attribute a ON a.attname = 'path'
                 AND a.attrelid = to_regclass(format('%I.%I', $2::text, r.table_name))
             WHERE bucket = $1"
        );
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&bucket, Type::TEXT), (&self.schema, Type::TEXT)];
        let rows = client.query_typed(&sql, &values).await?;
        Ok(rows.first().map(|row| (self.named(row.get(0)), row.get(1))))
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

/// A connection that answers [`walk::page`].
struct Asked<'a>(&'a Client);

impl Asked<'_> {
    async fn fetch(&self, statement: &Statement) -> Result<Vec<Row>, tokio_postgres::Error> {
        let texts = statement.texts.iter();
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            texts.map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        self.0.query_typed(&statement.sql, &values).await
    }
}

impl Ask for Asked<'_> {
    type Error = tokio_postgres::Error;

    async fn reached(
        &mut self,
        statement: Statement,
    ) -> Result<(Option<String>, u64), tokio_postgres::Error> {
        let rows = self.fetch(&statement).await?;
        let Some(row) = rows.first() else { return Ok((None, 0)) };
        Ok((row.try_get(0)?, count(row.try_get(1)?)))
    }

    async fn number(&mut self, statement: Statement) -> Result<u64, tokio_postgres::Error> {
        let rows = self.fetch(&statement).await?;
        rows.first().map_or(Ok(0), |row| row.try_get(0).map(count))
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<Found>, tokio_postgres::Error> {
        self.fetch(&statement).await?.iter().map(found).collect()
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
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

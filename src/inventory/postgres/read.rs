//! Reading rows back from `PostgreSQL`.

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::super::read::{PAGE_ROWS, StoredRow, columns};
use super::super::store::StoreError;
use super::super::table::{REGISTRY, quoted};
use super::{Postgres, discard, reason};

/// Timestamps as text, in UTC as they are stored.
const TIME: &str = "to_char(last_modified, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

type Parameter<'a> = &'a (dyn ToSql + Sync);

impl Postgres {
    /// Buckets that have a table, sorted.
    pub(in super::super) async fn buckets(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!("SELECT bucket FROM {}.{REGISTRY} ORDER BY 1", quoted(&self.schema));
        let rows = self.read(&sql, &[]).await?;
        rows.iter().map(|row| row.try_get(0).map_err(unreadable)).collect()
    }

    /// Rows of these keys.
    pub(in super::super) async fn lookup(
        &self,
        bucket: &str,
        keys: &[&str],
    ) -> Result<Vec<StoredRow>, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(Vec::new()) };
        let columns = columns("id::bigint", TIME);
        let sql = format!("SELECT {columns} FROM {table} WHERE path = ANY($1)");
        self.rows(&sql, &[&keys]).await
    }

    /// The next page of a table, behind row number `after`.
    pub(in super::super) async fn scan(
        &self,
        bucket: &str,
        after: i64,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(Vec::new()) };
        let columns = columns("id::bigint", TIME);
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE id > $1::bigint ORDER BY id LIMIT {PAGE_ROWS}"
        );
        self.rows(&sql, &[&after]).await
    }

    /// The bucket's table, qualified and quoted, if it has one.
    pub(super) async fn table_of(&self, bucket: &str) -> Result<Option<String>, StoreError> {
        let schema = quoted(&self.schema);
        let sql = format!("SELECT table_name FROM {schema}.{REGISTRY} WHERE bucket = $1");
        let found = self.read(&sql, &[&bucket]).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let table: String = row.try_get(0).map_err(unreadable)?;
        Ok(Some(format!("{schema}.{}", quoted(&table))))
    }

    async fn rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<StoredRow>, StoreError> {
        let rows = self.read(sql, parameters).await?;
        rows.iter().map(|row| stored(row).map_err(unreadable)).collect()
    }

    /// One question; a table that is not there, because nothing was ever written, has no rows.
    pub(super) async fn read(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let client = self.checkout().await?;
        match timeout(self.deadline, client.query(sql, parameters)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
            Ok(Err(error)) => {
                let text = reason(&error);
                discard(client);
                Err(StoreError::Unavailable(text))
            }
            Err(_) => {
                discard(client);
                Err(StoreError::Unavailable("no answer in time".into()))
            }
        }
    }
}

fn stored(row: &tokio_postgres::Row) -> Result<StoredRow, tokio_postgres::Error> {
    Ok(StoredRow {
        id: row.try_get(0)?,
        path: row.try_get(1)?,
        size: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
        content_type: row.try_get(3)?,
        last_modified: row.try_get(4)?,
        etag: row.try_get(5)?,
        version_id: row.try_get(6)?,
        is_backed_up: row.try_get(7)?,
        deleted: row.try_get(8)?,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Rejected(error.to_string())
}

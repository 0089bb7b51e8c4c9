//! Reading rows back from `SQLite`.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use sqlx::sqlite::{SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::super::read::{PAGE_ROWS, StoredRow, columns};
use super::super::store::StoreError;
use super::super::table::{REGISTRY, quoted};
use super::{ACQUIRE_TIMEOUT, Sqlite, options, store_error};

const TIME: &str = "replace(last_modified, ' ', 'T') || 'Z'";

impl Sqlite {
    /// Opens a file that another process may be writing, for reading only.
    pub(in super::super) async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options(path).read_only(true))
            .await
            .map_err(|error| store_error(&error))?;
        Ok(Self { pool, memory: Mutex::default(), views_are_stale: AtomicBool::new(false) })
    }

    /// Buckets that have a table, sorted.
    pub(in super::super) async fn buckets(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!("SELECT bucket FROM {REGISTRY} ORDER BY 1");
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.pool).await;
        found.map_err(|error| store_error(&error))
    }

    /// Rows of these keys.
    pub(in super::super) async fn lookup(
        &self,
        bucket: &str,
        keys: &[&str],
    ) -> Result<Vec<StoredRow>, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(Vec::new()) };
        let columns = columns("id", TIME);
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE path IN (SELECT value FROM json_each(?1))"
        );
        let keys = serde_json::json!(keys).to_string();
        let found = sqlx::query(AssertSqlSafe(sql)).bind(keys).fetch_all(&self.pool).await;
        rows(&found.map_err(|error| store_error(&error))?)
    }

    /// The next page of a table, behind row number `after`.
    pub(in super::super) async fn scan(
        &self,
        bucket: &str,
        after: i64,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(Vec::new()) };
        let columns = columns("id", TIME);
        let sql =
            format!("SELECT {columns} FROM {table} WHERE id > ?1 ORDER BY id LIMIT {PAGE_ROWS}");
        let found = sqlx::query(AssertSqlSafe(sql)).bind(after).fetch_all(&self.pool).await;
        rows(&found.map_err(|error| store_error(&error))?)
    }

    /// The bucket's table, quoted, if it has one.
    pub(super) async fn table_of(&self, bucket: &str) -> Result<Option<String>, StoreError> {
        let sql = format!(
            "SELECT table_name FROM {REGISTRY} WHERE bucket = ?1 AND table_name IN
                 (SELECT name FROM sqlite_master WHERE type = 'table')"
        );
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(bucket)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(found.map(|table| quoted(&table)))
    }
}

fn rows(found: &[SqliteRow]) -> Result<Vec<StoredRow>, StoreError> {
    found.iter().map(|row| stored(row).map_err(|error| store_error(&error))).collect()
}

fn stored(row: &SqliteRow) -> Result<StoredRow, sqlx::Error> {
    Ok(StoredRow {
        id: row.try_get(0)?,
        path: row.try_get(1)?,
        size: u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
        content_type: row.try_get(3)?,
        last_modified: row.try_get(4)?,
        etag: row.try_get(5)?,
        version_id: row.try_get(6)?,
        is_backed_up: row.try_get(7)?,
        deleted: row.try_get(8)?,
    })
}

//! Removing rows of keys that were deleted long ago from `SQLite`.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::super::schema::SHORTLY_BEFORE_SQLITE;
use super::super::store::StoreError;
use super::{Sqlite, store_error};

impl Sqlite {
    /// See [`super::super::store::Store::remove_deleted`].
    pub(in super::super) async fn remove_deleted(
        &self,
        bucket: &str,
        age: Duration,
        rows_max: u32,
    ) -> Result<u64, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(0) };
        let sql = format!(
            "DELETE FROM {table} WHERE id IN (
                 SELECT id FROM {table}
                 WHERE deleted AND is_backed_up AND updated_at < {SHORTLY_BEFORE_SQLITE}
                 LIMIT {rows_max})"
        );
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let removed = sqlx::query(AssertSqlSafe(sql)).bind(seconds).execute(&self.pool).await;
        Ok(removed.map_err(|error| store_error(&error))?.rows_affected())
    }
}

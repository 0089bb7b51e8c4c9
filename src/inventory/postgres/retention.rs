//! Removing rows of keys that were deleted long ago from `PostgreSQL`.

use std::time::Duration;

use super::super::schema::SHORTLY_BEFORE_POSTGRES;
use super::super::store::StoreError;
use super::Postgres;

impl Postgres {
    /// See [`super::super::store::Store::remove_deleted`].
    pub(in super::super) async fn remove_deleted(
        &self,
        bucket: &str,
        age: Duration,
        rows_max: u32,
    ) -> Result<u64, StoreError> {
        let Some(table) = self.table_of(bucket).await? else { return Ok(0) };
        // A row that somebody holds is about to change: it is none of ours. Under the lock the
        // condition is looked at again, so that no row goes that has come back meanwhile.
        let sql = format!(
            "WITH old AS (
                 SELECT id FROM {table}
                 WHERE deleted AND is_backed_up AND updated_at < {SHORTLY_BEFORE_POSTGRES}
                 LIMIT {rows_max} FOR UPDATE SKIP LOCKED
             ), removed AS (
                 DELETE FROM {table} t USING old WHERE t.id = old.id RETURNING 1
             )
             SELECT count(*) FROM removed"
        );
        let rows = self.read(&sql, &[&age.as_secs_f64()]).await?;
        let removed = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(u64::try_from(removed).unwrap_or(0))
    }
}

//! Counting the keys of a bucket, no further than somebody wants to know.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::super::schema::SHORTLY_BEFORE_POSTGRES;
use super::super::store::StoreError;
use super::super::table::REGISTRY;
use super::fault::reason;
use super::tables::in_schema;
use super::{Postgres, discard};

impl Postgres {
    /// See [`super::super::store::Store::known_keys`].
    pub(in super::super) async fn known_keys(
        &self,
        bucket: &str,
        limit: u64,
        window: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let client = self.checkout().await?;
        let counting = async {
            let sql = format!(
                "SELECT table_name FROM {} WHERE bucket = $1",
                in_schema(&self.schema, REGISTRY)
            );
            let rows = client.query_typed(&sql, &[(&bucket, Type::TEXT)]).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let table = in_schema(&self.schema, row.get::<_, &str>(0));
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {table}
                 WHERE NOT deleted OR updated_at > {SHORTLY_BEFORE_POSTGRES} LIMIT $2) AS known"
            );
            let (seconds, limit) = (window.as_secs_f64(), i64::try_from(limit).unwrap_or(i64::MAX));
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&seconds, Type::FLOAT8), (&limit, Type::INT8)];
            let row = client.query_typed_one(&sql, &parameters).await?;
            Ok(u64::try_from(row.get::<_, i64>(0)).ok())
        };
        let result: Result<Result<Option<u64>, tokio_postgres::Error>, _> =
            timeout(self.deadline, counting).await;
        match result {
            Ok(Ok(known)) => Ok(known),
            // No row has been written yet, of this bucket or of any.
            Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
            Ok(Err(error)) => Err(StoreError::Unavailable(reason(&error))),
            Err(_) => {
                discard(client);
                Err(StoreError::Unavailable("no answer in time".into()))
            }
        }
    }
}

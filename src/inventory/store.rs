//! One type over both databases: where the inventory's rows go.
//!
//! # Promises
//! - [`Store::write`] returns after the rows are durable (`PostgreSQL`: committed, and never with
//!   `synchronous_commit=off`; `SQLite`: synced).
//! - Writing is idempotent, so a caller that does not know the outcome writes again.
//! - One row, or one table, that cannot be written never stops the others.
//! - Nothing here keeps rows: while the database is away the caller's journal holds them.

use std::path::Path;
use std::time::Duration;

use time::{OffsetDateTime, PrimitiveDateTime};

use super::import::{AsOf, Taken};
use super::postgres::{Postgres, PostgresSettings};
use super::read::StoredRow;
use super::row::{Row, RowFault};
use super::sqlite::Sqlite;
pub use super::write::Written;
use super::write::{self, Purpose};

/// Why nothing could be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or refuses work now. Try again, for ever.
    #[error("the inventory database is unavailable: {0}")]
    Unavailable(String),
    /// As [`StoreError::Unavailable`], but a statement was sent whose answer never came: it may
    /// still take effect, after what is written next.
    #[error("the inventory database did not answer: {0}")]
    Unanswered(String),
    /// The database or the settings are unusable until a person acts.
    #[error("the inventory database cannot be used: {0}")]
    Rejected(String),
}

impl StoreError {
    /// True if the same call may succeed later without anybody changing the settings.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unanswered(_))
    }
}

/// An inventory database.
#[derive(Debug)]
pub enum Store {
    /// Tables in a `PostgreSQL` server.
    Postgres(Postgres),
    /// Tables in a local file.
    Sqlite(Sqlite),
}

impl Store {
    /// Prepares a `PostgreSQL` store. Nothing is connected yet, so the server may be away.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if no connection could ever be made with these settings.
    #[allow(clippy::unused_async, reason = "the same shape as `sqlite`, and free to probe later")]
    pub async fn postgres(settings: PostgresSettings) -> Result<Self, StoreError> {
        Ok(Self::Postgres(Postgres::new(settings)?))
    }

    /// Opens the inventory file at `path`, creating it if missing.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the file is no database; else [`StoreError::Unavailable`].
    pub async fn sqlite(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Sqlite::open(path).await?))
    }

    /// Writes rows to their buckets' tables, creating registry and tables on first use.
    ///
    /// Rows of one table go in statements of bounded size, each all-or-nothing; tables are written
    /// in parallel. Of several rows with the same bucket and key the last one counts. `Ok` lists
    /// the rows (by index) that were *not* stored, each with its fault; all others are durable.
    ///
    /// # Errors
    /// No row was stored and the database is to blame; see [`StoreError::is_transient`].
    ///
    /// # Cancellation
    /// Dropping the future leaves each statement either done or not; write the rows again.
    pub async fn write(&self, rows: &[Row]) -> Result<Vec<(usize, RowFault)>, StoreError> {
        let written = self.write_rows(rows, Purpose::Change(None)).await?;
        Ok(written.faults)
    }

    /// As [`Store::write`], in the name of `writer`, a positive number that no other process of
    /// this inventory uses: rows that others have written too are told, so that the caller makes
    /// sure that they are true (`inventory::fence`).
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn write_as(&self, writer: i64, rows: &[Row]) -> Result<Written, StoreError> {
        self.write_rows(rows, Purpose::Change(Some(writer))).await
    }

    /// Takes over what a listing told, where nobody has told newer news (`inventory::import`). Rows
    /// that are `unsure` say nothing of the mirror; a media type may be empty.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn import(&self, rows: &[Row], as_of: AsOf) -> Result<Taken, StoreError> {
        let written = self.write_rows(rows, Purpose::Import(as_of)).await?;
        let (added, updated) = written.taken;
        Ok(Taken { added, updated, faults: written.faults })
    }

    /// The time by the clock that `updated_at` is written by.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn clock(&self) -> Result<OffsetDateTime, StoreError> {
        match self {
            Self::Postgres(store) => store.clock().await.map(PrimitiveDateTime::assume_utc),
            Self::Sqlite(_) => Ok(OffsetDateTime::now_utc()),
        }
    }

    async fn write_rows(&self, rows: &[Row], purpose: Purpose) -> Result<Written, StoreError> {
        match self {
            Self::Postgres(store) => write::write(store, rows, purpose).await,
            Self::Sqlite(store) => {
                let outcome = write::write(store, rows, purpose).await;
                store.refresh_views().await;
                outcome
            }
        }
    }

    /// How many keys a bucket had when this window began, as far as the rows tell: those not
    /// deleted, and those that changed since. Counts no further than `limit`. `None`: the bucket
    /// has no table yet.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn known_keys(
        &self,
        bucket: &str,
        limit: u64,
        window: Duration,
    ) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Postgres(store) => store.known_keys(bucket, limit, window).await,
            Self::Sqlite(store) => store.known_keys(bucket, limit, window).await,
        }
    }

    /// Removes up to `rows_max` rows of a bucket whose keys were deleted, on main and on the mirror,
    /// and that have not changed for `age`; yields how many went.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn remove_deleted(
        &self,
        bucket: &str,
        age: Duration,
        rows_max: u32,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Postgres(store) => store.remove_deleted(bucket, age, rows_max).await,
            Self::Sqlite(store) => store.remove_deleted(bucket, age, rows_max).await,
        }
    }

    /// Opens an inventory file that another process may be writing, for reading only.
    ///
    /// # Errors
    /// As for [`Store::sqlite`].
    pub async fn sqlite_read_only(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Sqlite::open_read_only(path).await?))
    }

    /// The buckets that have a table, sorted.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn buckets(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Postgres(store) => store.buckets().await,
            Self::Sqlite(store) => store.buckets().await,
        }
    }

    /// The rows of these keys of a bucket, in any order; a key without a row has none.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn lookup(&self, bucket: &str, keys: &[&str]) -> Result<Vec<StoredRow>, StoreError> {
        match self {
            Self::Postgres(store) => store.lookup(bucket, keys).await,
            Self::Sqlite(store) => store.lookup(bucket, keys).await,
        }
    }

    /// The next page of a bucket's rows behind number `after`, at most
    /// [`PAGE_ROWS`](super::read::PAGE_ROWS) in the order of their numbers; empty at the end.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn scan(&self, bucket: &str, after: i64) -> Result<Vec<StoredRow>, StoreError> {
        match self {
            Self::Postgres(store) => store.scan(bucket, after).await,
            Self::Sqlite(store) => store.scan(bucket, after).await,
        }
    }

    /// Closes all connections; call it once, after the last write. Nothing is lost without it, but
    /// `SQLite` then leaves its write-ahead log beside the file until the next start.
    pub async fn close(&self) {
        match self {
            Self::Postgres(store) => store.close(),
            Self::Sqlite(store) => store.close().await,
        }
    }

    /// Makes a bucket's table, and what all tables share, in a transaction, and rolls it back.
    /// Nothing is left, except that a `PostgreSQL` database that was missing is made, as ever.
    ///
    /// # Errors
    /// As for [`Store::write`]; [`StoreError::Rejected`] where the role may not make tables.
    pub async fn rehearse(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.rehearse().await,
            Self::Sqlite(store) => store.rehearse().await,
        }
    }

    /// Opens an inventory file that is there and makes nothing in it.
    ///
    /// # Errors
    /// As for [`Store::sqlite`].
    pub async fn sqlite_as_it_is(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Sqlite::open_as_it_is(path).await?))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.ping().await,
            Self::Sqlite(store) => store.ping().await,
        }
    }
}

//! The inventory in a `SQLite` file: the same tables and queries without a server.
//!
//! # Promises
//! - One connection writes; WAL lets other programs read meanwhile. Every commit is synced
//!   (`synchronous=FULL`): the caller's journal forgets a row once it is here.
//! - A statement is one transaction: after a crash its rows are there or not.
//! - Another program's lock is waited for five seconds; then the store counts as unavailable.

pub(super) mod browse;
mod import;
mod read;
mod retention;
mod statements;
mod tables;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Sqlite as Database, Transaction};

use super::row::{Row, RowState};
use super::schema::SHORTLY_BEFORE_SQLITE;
use super::store::StoreError;
use super::table::{REGISTRY, REHEARSED, quoted};
use super::write::{Applied, Backend, Failure, Purpose};
use statements::{Statements, json};
use tables::{ensure_shared, ensure_table, make_views};

/// Longest wait for another program's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for our own connection, behind a statement that waits for a lock.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// The WAL is cut back to this size after a checkpoint, in bytes.
const WAL_BYTES_KEPT: &str = "16777216";
/// Page cache, in KiB (negative is `SQLite`'s way to say so). Keys arrive in any order, so with the
/// default of 2 MB a large table is read from the file again and again.
const CACHE_KIB: &str = "-8192";
/// Tables whose names are remembered. Beyond that all are forgotten and looked up again.
const TABLES_REMEMBERED_MAX: usize = 10_000;

/// The `SQLite` store; see the module's documentation.
pub struct Sqlite {
    pool: SqlitePool,
    memory: Mutex<HashMap<String, Arc<Statements>>>,
    /// A table was made since the views were.
    views_are_stale: AtomicBool,
}

/// How every connection is opened. What a statement puts aside stays in memory: on the read-only root of a
/// container there is no directory for it, and writes would fail.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "memory")
}

impl Sqlite {
    /// See [`super::store::Store::sqlite`].
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", WAL_BYTES_KEPT)
            .pragma("cache_size", CACHE_KIB);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|error| store_error(&error))?;
        let store = Self { pool, memory: Mutex::default(), views_are_stale: AtomicBool::new(true) };
        let mut transaction = store.begin().await.map_err(|error| store_error(&error))?;
        ensure_shared(&mut transaction).await.map_err(|error| store_error(&error))?;
        transaction.commit().await.map_err(|error| store_error(&error))?;
        store.refresh_views().await;
        Ok(store)
    }

    /// See [`super::store::Store::sqlite_as_it_is`].
    pub(super) async fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options(path).create_if_missing(false))
            .await
            .map_err(|error| store_error(&error))?;
        Ok(Self { pool, memory: Mutex::default(), views_are_stale: AtomicBool::new(false) })
    }

    /// See [`super::store::Store::rehearse`].
    pub(super) async fn rehearse(&self) -> Result<(), StoreError> {
        let rehearsed = async {
            let mut transaction = self.begin().await?;
            ensure_table(&mut transaction, REHEARSED).await?;
            transaction.rollback().await
        };
        rehearsed.await.map_err(|error: sqlx::Error| store_error(&error))
    }

    /// Brings the views up to date after a write that made tables: once for all of them, as it
    /// costs time in proportion to all tables. A failure leaves the flag for the next write; a
    /// crash in between leaves it to the next start.
    pub(super) async fn refresh_views(&self) {
        if !self.views_are_stale.swap(false, Ordering::Relaxed) {
            return;
        }
        let refreshed = async {
            let mut transaction = self.begin().await?;
            make_views(&mut transaction).await?;
            transaction.commit().await
        };
        if let Err(error) = refreshed.await {
            self.views_are_stale.store(true, Ordering::Relaxed);
            tracing::warn!(reason = %error, "the inventory's views are out of date");
        }
    }

    /// See [`super::store::Store::ping`].
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {REGISTRY} LIMIT 1)");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| store_error(&error))
    }

    /// See [`super::store::Store::known_keys`].
    pub(super) async fn known_keys(
        &self,
        bucket: &str,
        limit: u64,
        window: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let counting = async {
            let sql = format!("SELECT table_name FROM {REGISTRY} WHERE bucket = ?1");
            let table: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(bucket)
                .fetch_optional(&self.pool)
                .await?;
            let Some(table) = table else { return Ok(None) };
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {}
                 WHERE NOT deleted OR updated_at > {SHORTLY_BEFORE_SQLITE} LIMIT ?2)",
                quoted(&table)
            );
            let known: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(i64::try_from(window.as_secs()).unwrap_or(i64::MAX))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_one(&self.pool)
                .await?;
            Ok(u64::try_from(known).ok())
        };
        counting.await.map_err(|error: sqlx::Error| store_error(&error))
    }

    /// See [`super::store::Store::close`].
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Database>, sqlx::Error> {
        // The write lock at once: a transaction that reads first and then writes can fail with
        // SQLITE_BUSY without any wait.
        match self.pool.begin_with("BEGIN IMMEDIATE").await {
            // SQLite has taken the last transaction back by itself, as it does when the disk is
            // full, and the connection counts it as begun for ever.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.pool.acquire().await?.close().await?;
                self.pool.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
    }

    async fn try_apply(
        &self,
        bucket: &str,
        rows: &[&Row],
        purpose: Purpose,
    ) -> Result<Applied, sqlx::Error> {
        let mut applied = Applied::default();
        let mut transaction = self.begin().await?;
        let known = self.memory().get(bucket).cloned();
        let statements = if let Some(statements) = known {
            statements
        } else {
            let (table, is_new) = ensure_table(&mut transaction, bucket).await?;
            if is_new {
                self.views_are_stale.store(true, Ordering::Relaxed);
            }
            Arc::new(Statements::for_table(&table))
        };
        if let Purpose::Import(as_of) = purpose {
            applied.taken = statements.import.run(&mut transaction, rows, as_of).await?;
        }
        let changes = match purpose {
            Purpose::Change(_) => &[(&statements.present, true), (&statements.absent, false)][..],
            Purpose::Import(_) => &[],
        };
        for (sql, present) in changes.iter().copied() {
            let chosen = rows.iter().filter(|row| matches!(row.state, RowState::Absent) != present);
            let values: Vec<serde_json::Value> = chosen.map(|row| json(row)).collect();
            if !values.is_empty() {
                let values = serde_json::Value::Array(values).to_string();
                sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(values)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        let mut memory = self.memory();
        if memory.len() >= TABLES_REMEMBERED_MAX {
            memory.clear();
        }
        memory.insert(bucket.to_owned(), statements);
        Ok(applied)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Statements>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Sqlite {
    const ROWS_PER_STATEMENT_MAX: usize = 2000;

    /// One file has one writer.
    fn tables_in_parallel(&self) -> usize {
        1
    }

    /// The file belongs to one process, so that no row is contested; `writer` stays empty.
    async fn apply(
        &self,
        bucket: &str,
        rows: &[&Row],
        purpose: Purpose,
    ) -> Result<Applied, Failure> {
        let mut outcome = self.try_apply(bucket, rows, purpose).await;
        // A table, column or index that is not there: look again, once.
        if outcome.as_ref().is_err_and(is_generic) {
            self.memory().remove(bucket);
            outcome = self.try_apply(bucket, rows, purpose).await;
        }
        outcome.map_err(|error| match primary_code(&error) {
            // CONSTRAINT, TOOBIG, MISMATCH, RANGE: a value was refused.
            Some(18 | 19 | 20 | 25) => Failure::Row(error.to_string()),
            // ERROR, LOCKED, SCHEMA, AUTH: this table alone.
            Some(1 | 6 | 17 | 23) => Failure::Table(error.to_string()),
            _ => Failure::Store(store_error(&error)),
        })
    }
}

/// `SQLite`'s primary result code, if the error came from it.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// `SQLITE_ERROR` or `SQLITE_SCHEMA`: what a missing table or column answers.
fn is_generic(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(1 | 17))
}

fn store_error(error: &sqlx::Error) -> StoreError {
    match primary_code(error) {
        // CORRUPT, NOTADB: only a person can help.
        Some(11 | 26) => StoreError::Rejected(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

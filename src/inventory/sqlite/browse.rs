//! Reading the inventory's file, beside the connection that writes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::sync::Mutex;

use super::super::browse::search::{Dialect, Search, Statement};
use super::super::browse::walk::{self, Ask};
use super::super::browse::{Found, Page, Totals, Wanted};
use super::super::store::StoreError;
use super::super::table::{REGISTRY, quoted};
use super::options;

/// Longest wait for a lock, which in WAL mode only a recovering file has.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader of the file; see [`super::super::browse::Browser`].
#[derive(Debug)]
pub(in super::super) struct SqliteReader {
    path: PathBuf,
    db: Mutex<Option<SqliteConnection>>,
}

impl SqliteReader {
    pub(in super::super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), db: Mutex::new(None) }
    }

    pub(in super::super) async fn ping(&self) -> Result<(), StoreError> {
        self.ask(async |db| sqlx::query("SELECT 1").execute(db).await.map(drop)).await
    }

    pub(in super::super) async fn page(
        &self,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.ask(async |db| {
            let Some(table) = table(db, &wanted.bucket).await? else {
                return Ok(Page { rows: Vec::new(), next: None, looked_at: 0 });
            };
            let search = Search { dialect: Dialect::Sqlite, table: &table, wanted };
            walk::page(&mut Asked(db), search, limit).await
        })
        .await
    }

    pub(in super::super) async fn row(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Found>, StoreError> {
        self.ask(async |db| {
            let Some(table) = table(db, bucket).await? else { return Ok(None) };
            let wanted = Wanted::default();
            let search = Search { dialect: Dialect::Sqlite, table: &table, wanted: &wanted };
            Ok(Asked(db).rows(search.row(key)).await?.pop())
        })
        .await
    }

    pub(in super::super) async fn names(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "SELECT bucket FROM {REGISTRY} WHERE table_name IN
                 (SELECT name FROM sqlite_master WHERE type = 'table') ORDER BY bucket LIMIT 1000"
        );
        self.ask(async |db| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(db).await).await
    }

    pub(in super::super) async fn totals(&self) -> Result<Vec<Totals>, StoreError> {
        self.ask(async |db| {
            let list = format!(
                "SELECT bucket, table_name FROM {REGISTRY} WHERE table_name IN
                     (SELECT name FROM sqlite_master WHERE type = 'table') ORDER BY bucket"
            );
            let tables: Vec<(String, String)> =
                sqlx::query_as(AssertSqlSafe(list)).fetch_all(&mut *db).await?;
            let mut totals = Vec::with_capacity(tables.len());
            for (bucket, table) in tables {
                let sql = format!(
                    "SELECT count(*) FILTER (WHERE NOT deleted),
                            coalesce(sum(size) FILTER (WHERE NOT deleted), 0),
                            count(*) FILTER (WHERE NOT is_backed_up), max(updated_at) FROM {}",
                    quoted(&table)
                );
                let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut *db).await?;
                totals.push(Totals {
                    bucket,
                    objects: row.try_get(0)?,
                    bytes: row.try_get(1)?,
                    not_mirrored: row.try_get(2)?,
                    updated_at: row.try_get::<Option<String>, _>(3)?.map(|time| utc(&time)),
                });
            }
            Ok(totals)
        })
        .await
    }

    /// Asks; after an error the next question opens the file anew.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let unavailable = |error: sqlx::Error| StoreError::Unavailable(error.to_string());
        let mut held = self.db.lock().await;
        let mut db = match held.take() {
            Some(db) => db,
            None => options(&self.path)
                .read_only(true)
                .busy_timeout(BUSY_TIMEOUT)
                .disable_statement_logging()
                .connect()
                .await
                .map_err(unavailable)?,
        };
        let answer = question(&mut db).await.map_err(unavailable)?;
        *held = Some(db);
        Ok(answer)
    }
}

/// The bucket's table in quotes, if it has one.
async fn table(db: &mut SqliteConnection, bucket: &str) -> Result<Option<String>, sqlx::Error> {
    let sql = format!(
        "SELECT table_name FROM {REGISTRY} WHERE bucket = ?1
             AND table_name IN (SELECT name FROM sqlite_master WHERE type = 'table')"
    );
    let name: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(bucket).fetch_optional(db).await?;
    Ok(name.map(|name| quoted(&name)))
}

/// A connection that answers [`walk::page`].
struct Asked<'a>(&'a mut SqliteConnection);

impl Asked<'_> {
    async fn fetch(&mut self, statement: Statement) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql));
        for text in statement.texts {
            query = query.bind(text);
        }
        query.fetch_all(&mut *self.0).await
    }

    async fn one(&mut self, statement: Statement) -> Result<SqliteRow, sqlx::Error> {
        self.fetch(statement).await?.pop().ok_or(sqlx::Error::RowNotFound)
    }
}

impl Ask for Asked<'_> {
    type Error = sqlx::Error;

    async fn reached(
        &mut self,
        statement: Statement,
    ) -> Result<(Option<String>, u64), sqlx::Error> {
        let row = self.one(statement).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn number(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        self.one(statement).await?.try_get(0)
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<Found>, sqlx::Error> {
        self.fetch(statement).await?.iter().map(found).collect()
    }
}

fn found(row: &SqliteRow) -> Result<Found, sqlx::Error> {
    let time = |name| -> Result<Option<String>, sqlx::Error> {
        Ok(row.try_get::<Option<String>, _>(name)?.map(|time| utc(&time)))
    };
    Ok(Found {
        key: row.try_get("path")?,
        size: row.try_get("size")?,
        content_type: row.try_get("content_type")?,
        last_modified: time("last_modified")?.unwrap_or_default(),
        is_backed_up: row.try_get::<Option<bool>, _>("is_backed_up")?.unwrap_or(false),
        deleted: row.try_get::<Option<bool>, _>("deleted")?.unwrap_or(false),
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        etag: row.try_get("etag")?,
        version_id: row.try_get("version_id")?,
        mirrored_at: time("mirrored_at")?,
        last_error: row.try_get("last_error")?,
    })
}

/// `YYYY-MM-DD HH:MM:SS.sss`, as the file has it, in the form that says that it is UTC.
fn utc(time: &str) -> String {
    format!("{}Z", time.replacen(' ', "T", 1))
}

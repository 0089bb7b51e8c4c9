//! Looks at an inventory from the outside, the same way in both databases.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

use std::fmt;
use std::time::{Duration, Instant};

use s3_mirror::inventory::postgres::PostgresSettings;
use s3_mirror::inventory::row::{Row, RowState};
use s3_mirror::inventory::store::Store;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row as _, TypeInfo as _, ValueRef as _};
use time::macros::datetime;
use tokio_postgres::SimpleQueryMessage;

/// An empty database, and a connection of the test's own to look into it.
pub enum Database {
    /// A database of a `PostgreSQL` server.
    Postgres { url: String, client: tokio_postgres::Client },
    /// A file.
    Sqlite { directory: tempfile::TempDir, pool: SqlitePool },
}

impl Database {
    pub async fn postgres() -> Self {
        let url = crate::postgres::database_url().await;
        let client = crate::postgres::connect(&url).await;
        Self::Postgres { url, client }
    }

    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("inventory.db"))
            .create_if_missing(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .expect("SQLite opens");
        Self::Sqlite { directory, pool }
    }

    /// A store over this database; each call is as good as another process.
    pub async fn store(&self) -> Store {
        match self {
            Self::Postgres { url, .. } => {
                let settings = PostgresSettings::from_url(url).expect("the URL is valid");
                Store::postgres(settings).await.expect("a store needs no server")
            }
            Self::Sqlite { directory, .. } => {
                Store::sqlite(&directory.path().join("inventory.db")).await.expect("a store")
            }
        }
    }

    /// Runs a query; every value as text.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Self::Postgres { client, .. } => {
                let messages = client.simple_query(sql).await.expect(sql);
                let rows = messages.into_iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                });
                rows.collect()
            }
            Self::Sqlite { pool, .. } => {
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.expect(sql);
                rows.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
            }
        }
    }

    /// Runs statements without an answer.
    pub async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres { client, .. } => client.batch_execute(sql).await.expect(sql),
            Self::Sqlite { pool, .. } => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect(sql);
            }
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres { .. } => "PostgreSQL",
            Self::Sqlite { .. } => "SQLite",
        })
    }
}

fn text(row: &sqlx::sqlite::SqliteRow, at: usize) -> Option<String> {
    let value = row.try_get_raw(at).expect("the column is there");
    if value.is_null() {
        return None;
    }
    Some(match value.type_info().name() {
        "TEXT" => row.get_unchecked::<String, _>(at),
        _ => row.get_unchecked::<i64, _>(at).to_string(),
    })
}

/// One row as a person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub id: i64,
    pub path: String,
    pub size: i64,
    pub content_type: String,
    pub is_backed_up: bool,
    pub last_modified: String,
    pub deleted: bool,
    pub created_at: String,
    pub updated_at: String,
    pub etag: Option<String>,
    pub mirrored_at: Option<String>,
    pub last_error: Option<String>,
}

/// A table's rows, by path.
pub async fn seen(database: &Database, table: &str) -> Vec<Seen> {
    let sql = format!(
        "SELECT CAST(id AS TEXT), path, CAST(size AS TEXT), content_type,
                CAST(CAST(is_backed_up AS INTEGER) AS TEXT), CAST(last_modified AS TEXT),
                CAST(CAST(deleted AS INTEGER) AS TEXT), CAST(created_at AS TEXT),
                CAST(updated_at AS TEXT), etag, CAST(mirrored_at AS TEXT), last_error
         FROM {table} ORDER BY path"
    );
    let rows = database.query(&sql).await;
    let row = |mut row: Vec<Option<String>>| {
        let mut next = || row.remove(0);
        let number =
            |text: Option<String>| text.expect("not null").parse::<i64>().expect("a number");
        Seen {
            id: number(next()),
            path: next().expect("not null"),
            size: number(next()),
            content_type: next().expect("not null"),
            is_backed_up: number(next()) == 1,
            last_modified: next().expect("not null"),
            deleted: number(next()) == 1,
            created_at: next().expect("not null"),
            updated_at: next().expect("not null"),
            etag: next(),
            mirrored_at: next(),
            last_error: next(),
        }
    };
    rows.into_iter().map(row).collect()
}

/// Loads rows by SQL alone, far faster than a store writes them: mirrored objects under keys such
/// as `2026/07/000123.bin`, spread over thirty prefixes.
pub async fn fill(database: &Database, table: &str, rows: u64) {
    let columns = "path, size, content_type, is_backed_up, last_modified, etag";
    let last = rows.saturating_sub(1);
    let sql = match database {
        Database::Postgres { .. } => format!(
            "INSERT INTO {table} ({columns})
             SELECT format('2026/%s/%s.bin', lpad((n % 30)::text, 2, '0'), lpad(n::text, 6, '0')), n,
                    'application/octet-stream', TRUE, '2026-01-01', md5(n::text)
             FROM generate_series(0, {last}) AS n"
        ),
        Database::Sqlite { .. } => format!(
            "WITH RECURSIVE numbers(n) AS
                 (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
             INSERT INTO {table} ({columns})
             SELECT printf('2026/%02d/%06d.bin', n % 30, n), n, 'application/octet-stream', TRUE,
                    '2026-01-01 00:00:00', printf('%032x', n)
             FROM numbers"
        ),
    };
    database.execute(&sql).await;
}

/// An object whose columns can be told from `size`; its time has an offset, to be stored in UTC.
pub fn present(bucket: &str, key: &str, size: u64) -> Row {
    Row {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        state: RowState::Present {
            size,
            content_type: format!("text/plain; n={size}"),
            last_modified: datetime!(2026-02-03 06:05:06.123456 +2),
            etag: Some(format!("\"etag-{size}\"")),
            version_id: None,
        },
        mirrored: false,
        unsure: false,
        last_error: None,
    }
}

/// No object.
pub fn absent(bucket: &str, key: &str) -> Row {
    Row {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        state: RowState::Absent,
        mirrored: false,
        unsure: false,
        last_error: None,
    }
}

/// A `PostgreSQL` store that must be possible.
pub async fn store(settings: PostgresSettings) -> Store {
    Store::postgres(settings).await.expect("a store needs no server")
}

/// Settings from a URL, impatient.
pub fn settings(url: &str) -> PostgresSettings {
    let mut settings = PostgresSettings::from_url(url).expect("the URL is valid");
    settings.connect_timeout = Duration::from_secs(2);
    settings
}

/// Writes until the store takes the rows; the test's own limit is ten seconds.
pub async fn write_until_taken(store: &Store, rows: &[Row]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match store.write(rows).await {
            Ok(faults) if faults.is_empty() => return,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Reading the inventory for a person: buckets with their totals, keys page by page, one row.
//!
//! # Promises
//! - **P5** Reading has connections of its own: it never holds up the writing of rows. Counting
//!   whole tables has another, so that neither pages nor a sign of life wait for it.
//! - **P6** A page is at most [`PAGE_MAX`] rows, found by key and not by counting, so that the last
//!   page of a million keys costs what the first one costs. A search looks at no more than
//!   [`walk::LOOK_AT_MAX`] keys per answer, however little it finds.
//! - Nothing is ever written.

pub mod search;
pub mod walk;

use std::path::Path;
use std::time::Duration;

use super::postgres::{Postgres, PostgresSettings};
use super::sqlite::browse::SqliteReader;
use super::store::StoreError;

/// Most rows of one page.
pub const PAGE_MAX: u32 = 500;
/// Connections to a `PostgreSQL` server for pages, rows and signs of life.
const CONNECTIONS: usize = 2;
/// How long the rows of one bucket may be counted at least.
const COUNTING: Duration = Duration::from_mins(5);

/// One row as the inventory has it; times are UTC, `YYYY-MM-DDTHH:MM:SS.sssZ`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: i64,
    /// Media type.
    pub content_type: String,
    /// By main's clock.
    pub last_modified: String,
    /// Has the mirror confirmed this state?
    pub is_backed_up: bool,
    /// Is the object gone?
    pub deleted: bool,
    /// When the row was made.
    pub created_at: Option<String>,
    /// When it was written last.
    pub updated_at: Option<String>,
    /// `ETag` on main.
    pub etag: Option<String>,
    /// Version ID on main.
    pub version_id: Option<String>,
    /// When the mirror had confirmed it.
    pub mirrored_at: Option<String>,
    /// Why the mirror does not have it.
    pub last_error: Option<String>,
}

/// The columns of [`Found`], in order.
pub(super) const FOUND: [&str; 12] = [
    "path",
    "size",
    "content_type",
    "last_modified",
    "is_backed_up",
    "deleted",
    "created_at",
    "updated_at",
    "etag",
    "version_id",
    "mirrored_at",
    "last_error",
];

/// Which rows.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Bucket on main.
    pub bucket: String,
    /// What the keys begin with.
    pub prefix: String,
    /// What they have anywhere, letter by letter.
    pub contains: String,
    /// The page begins behind this key.
    pub after: Option<String>,
    /// Rows of objects that are gone, too?
    pub deleted: bool,
    /// Only what the mirror does not have?
    pub pending: bool,
    /// At most this many, and [`PAGE_MAX`].
    pub limit: u32,
}

/// Rows in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Page {
    /// As many as were asked for, or what was found before the search was interrupted.
    pub rows: Vec<Found>,
    /// Where it goes on ([`Wanted::after`]); `None`: that was all.
    pub next: Option<String>,
    /// How many keys were looked at for it.
    pub looked_at: u64,
}

/// Totals of one bucket, counted now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Name on main.
    pub bucket: String,
    /// Objects.
    pub objects: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Rows the mirror has not confirmed.
    pub not_mirrored: i64,
    /// When a row was written last; UTC.
    pub updated_at: Option<String>,
}

/// The inventory for reading.
#[derive(Debug)]
pub struct Browser {
    /// For pages, rows and signs of life.
    quick: Source,
    /// For what looks at every row.
    counting: Source,
}

#[derive(Debug)]
enum Source {
    /// Tables in a `PostgreSQL` server.
    Postgres(Postgres),
    /// Tables in a local file.
    Sqlite(SqliteReader),
}

impl Browser {
    /// Reads a `PostgreSQL` server over connections of its own, made when questions come.
    ///
    /// # Errors
    /// The settings cannot work.
    pub fn postgres(mut settings: PostgresSettings) -> Result<Self, StoreError> {
        settings.connections_max = CONNECTIONS;
        let mut counting = settings.clone();
        counting.connections_max = 1;
        counting.statement_timeout = counting.statement_timeout.max(COUNTING);
        Ok(Self {
            quick: Source::Postgres(Postgres::new(settings)?),
            counting: Source::Postgres(Postgres::new(counting)?),
        })
    }

    /// Reads the file at `path`, opened when questions come.
    pub fn sqlite(path: &Path) -> Self {
        let source = || Source::Sqlite(SqliteReader::new(path));
        Self { quick: source(), counting: source() }
    }

    /// A page of keys in order.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn page(&self, wanted: &Wanted) -> Result<Page, StoreError> {
        // Neither database can hold such a key.
        let texts = [&wanted.bucket, &wanted.prefix, &wanted.contains];
        if texts.into_iter().chain(&wanted.after).any(|text| text.contains('\0')) {
            return Ok(Page { rows: Vec::new(), next: None, looked_at: 0 });
        }
        let limit = usize::try_from(wanted.limit.clamp(1, PAGE_MAX)).unwrap_or(1);
        match &self.quick {
            Source::Postgres(store) => store.page(wanted, limit).await,
            Source::Sqlite(store) => store.page(wanted, limit).await,
        }
    }

    /// The row of one key.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn row(&self, bucket: &str, key: &str) -> Result<Option<Found>, StoreError> {
        if bucket.contains('\0') || key.contains('\0') {
            return Ok(None);
        }
        match &self.quick {
            Source::Postgres(store) => store.row(bucket, key).await,
            Source::Sqlite(store) => store.row(bucket, key).await,
        }
    }

    /// The names of buckets that have a table, sorted, at most a thousand.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn names(&self) -> Result<Vec<String>, StoreError> {
        match &self.quick {
            Source::Postgres(store) => store.names().await,
            Source::Sqlite(store) => store.names().await,
        }
    }

    /// Every bucket of the inventory with its totals, counted now: a look at every row.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn totals(&self) -> Result<Vec<Totals>, StoreError> {
        match &self.counting {
            Source::Postgres(store) => store.totals().await,
            Source::Sqlite(store) => store.totals().await,
        }
    }

    /// What it is, for a person.
    pub fn kind(&self) -> &'static str {
        match self.quick {
            Source::Postgres(_) => "PostgreSQL",
            Source::Sqlite(_) => "SQLite",
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.quick {
            Source::Postgres(store) => store.ping().await,
            Source::Sqlite(store) => store.ping().await,
        }
    }
}

//! Reading the inventory for a person: buckets with their totals, keys page by page, one row.
//!
//! # Promises
//! - **P5** Reading has a connection of its own: it never holds up the writing of rows.
//! - **P6** A page is at most [`PAGE_MAX`] rows, found by key and not by counting, so that the last
//!   page of a million keys costs what the first one costs.
//! - Nothing is ever written.

use std::path::Path;

use super::postgres::{Postgres, PostgresSettings};
use super::sqlite::browse::SqliteReader;
use super::store::StoreError;

/// Most rows of one page.
pub const PAGE_MAX: u32 = 500;

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
    /// The page begins behind this key.
    pub after: Option<String>,
    /// Rows of objects that are gone, too?
    pub deleted: bool,
    /// Only what the mirror does not have?
    pub pending: bool,
    /// At most this many, and [`PAGE_MAX`].
    pub limit: u32,
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
pub enum Browser {
    /// Tables in a `PostgreSQL` server.
    Postgres(Postgres),
    /// Tables in a local file.
    Sqlite(SqliteReader),
}

impl Browser {
    /// Reads a `PostgreSQL` server over one connection, made when the first question comes.
    ///
    /// # Errors
    /// The settings cannot work.
    pub fn postgres(mut settings: PostgresSettings) -> Result<Self, StoreError> {
        settings.connections_max = 1;
        Ok(Self::Postgres(Postgres::new(settings)?))
    }

    /// Reads the file at `path`, opened when the first question comes.
    pub fn sqlite(path: &Path) -> Self {
        Self::Sqlite(SqliteReader::new(path))
    }

    /// A page of keys in order.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn page(&self, wanted: &Wanted) -> Result<Vec<Found>, StoreError> {
        // Neither database can hold such a key.
        let unknown = |text: &str| text.contains('\0');
        if [&wanted.bucket, &wanted.prefix].iter().any(|text| unknown(text))
            || wanted.after.as_deref().is_some_and(unknown)
        {
            return Ok(Vec::new());
        }
        let limit = wanted.limit.clamp(1, PAGE_MAX);
        match self {
            Self::Postgres(store) => store.page(wanted, limit).await,
            Self::Sqlite(store) => store.page(wanted, limit).await,
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
        match self {
            Self::Postgres(store) => store.row(bucket, key).await,
            Self::Sqlite(store) => store.row(bucket, key).await,
        }
    }

    /// Every bucket of the inventory with its totals, counted now: a look at every row.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn totals(&self) -> Result<Vec<Totals>, StoreError> {
        match self {
            Self::Postgres(store) => store.totals().await,
            Self::Sqlite(store) => store.totals().await,
        }
    }

    /// What it is, for a person.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "PostgreSQL",
            Self::Sqlite(_) => "SQLite",
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.ping().await,
            Self::Sqlite(store) => store.ping().await,
        }
    }
}

/// The first text in byte order that is behind every text beginning with `prefix`; `None`: there is
/// none.
pub(super) fn behind(prefix: &str) -> Option<String> {
    let mut letters: Vec<char> = prefix.chars().collect();
    while let Some(last) = letters.pop() {
        // Behind U+D7FF comes U+E000: UTF-8 has no surrogates.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_prefix_is_behind_all_that_begins_with_it() {
        assert_eq!(behind("a/").as_deref(), Some("a0"));
        assert_eq!(behind("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(behind("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(behind("\u{10FFFF}"), None);
        assert_eq!(behind(""), None);
    }
}

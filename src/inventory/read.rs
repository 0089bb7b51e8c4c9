//! Reading the inventory back: for comparing it with main, and for exports.
//!
//! # Bounds
//! Everything is by pages of at most [`PAGE_ROWS`]; a table is walked by its number column, which
//! every table has an index on, whatever the collation of its database.

/// Most rows of one answer.
pub const PAGE_ROWS: usize = 1000;

/// A row as the inventory holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredRow {
    /// Number of the row; where the next page begins.
    #[serde(skip)]
    pub id: i64,
    /// Object key.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Media type.
    pub content_type: String,
    /// UTC, as `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`.
    pub last_modified: String,
    /// `ETag`, where it is known.
    pub etag: Option<String>,
    /// Version ID, where there are versions.
    pub version_id: Option<String>,
    /// Has the mirror confirmed it?
    pub is_backed_up: bool,
    /// Is it gone from main?
    pub deleted: bool,
}

/// The columns both stores read, in order, for a table whose timestamps print as `time` says.
pub(super) fn columns(number: &str, time: &str) -> String {
    format!(
        "{number}, path, size, content_type, {time}, etag, version_id, \
         coalesce(is_backed_up, FALSE), coalesce(deleted, FALSE)"
    )
}

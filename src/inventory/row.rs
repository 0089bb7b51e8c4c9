//! The inventory's unit: what main holds under one key, and what may be wrong with one row.
//!
//! A row is a fact about the *current* state of a key, never an event: writing it twice, or writing
//! it again after a crash, gives the same table.

use time::OffsetDateTime;

/// Longest `last_error` kept, in bytes; the column is for a person, not for a log.
const LAST_ERROR_BYTES_MAX: usize = 2048;

/// Media type of a row whose object was gone before the inventory learned of it.
pub const TOMBSTONE_TYPE: &str = "binary/octet-stream";

/// The state of one key, to be written to its bucket's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Bucket name on main, as S3 spells it.
    pub bucket: String,
    /// Object key, decoded. It becomes the column `path`.
    pub key: String,
    /// What main holds under the key.
    pub state: RowState,
    /// Whether the mirror has confirmed exactly this state; it becomes `is_backed_up`.
    pub mirrored: bool,
    /// Nothing is known to have happened to the key: where the table says exactly this state
    /// already, `is_backed_up` stays as it is.
    pub unsure: bool,
    /// Why the mirror does not have it yet, for a person; `None` clears an older reason.
    pub last_error: Option<String>,
}

/// What main holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// An object exists: every column is set and `deleted` becomes false.
    Present {
        /// Bytes of the object as S3 reports them; at most `i64::MAX` fits the column.
        size: u64,
        /// `Content-Type`, as main reports it.
        content_type: String,
        /// `Last-Modified` by main's clock; stored in UTC, to the microsecond.
        last_modified: OffsetDateTime,
        /// `ETag` without change, quotes included if the caller kept them.
        etag: Option<String>,
        /// `x-amz-version-id`, on versioned buckets.
        version_id: Option<String>,
    },
    /// No object: `deleted` becomes true and the columns of the last object stay. A key that was
    /// never in the table, because it came and went between two batches, gets a row all the same,
    /// of size 0 and type [`TOMBSTONE_TYPE`]: the table tells of every key that was ever there.
    Absent,
}

/// Why one row was not stored while others were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// This row can never be stored as it is: park the key with the reason.
    #[error("the inventory cannot store this row: {reason}")]
    Unstorable {
        /// What the store said, without column values.
        reason: String,
    },
    /// The row is sound, but its table takes no rows now (a lock, a missing privilege, a table that
    /// a person altered): try the row again later. Other tables are not concerned.
    #[error("the inventory table takes no rows now: {reason}")]
    TableUnavailable {
        /// What the store said.
        reason: String,
    },
}

impl RowFault {
    /// True if the same row may be stored later without anybody changing the row.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TableUnavailable { .. })
    }

    /// The reason alone, for the journal.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unstorable { reason } | Self::TableUnavailable { reason } => reason,
        }
    }
}

impl Row {
    /// Says why no store can hold this row, if so. Both stores refuse the same rows: `PostgreSQL`
    /// has no NUL in text, and a `SQLite` text with one is cut short by most readers.
    pub(super) fn unstorable(&self) -> Option<&'static str> {
        if self.bucket.contains('\0') {
            return Some("the bucket name contains a NUL character");
        }
        if self.key.contains('\0') {
            return Some("the key contains a NUL character");
        }
        let RowState::Present { size, content_type, etag, version_id, .. } = &self.state else {
            return None;
        };
        if i64::try_from(*size).is_err() {
            return Some("the size does not fit a BIGINT");
        }
        let has_nul = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains('\0'));
        if content_type.contains('\0') || has_nul(etag) || has_nul(version_id) {
            return Some("a header value contains a NUL character");
        }
        None
    }

    /// `last_error` as it may be stored: bounded, and free of NUL.
    pub(super) fn last_error_text(&self) -> Option<String> {
        self.last_error.as_ref().map(|reason| {
            let mut text = reason.replace('\0', "\u{fffd}");
            let mut end = LAST_ERROR_BYTES_MAX.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> Row {
        Row {
            bucket: "b".into(),
            key: key.into(),
            state: RowState::Present {
                size: 1,
                content_type: "text/plain".into(),
                last_modified: OffsetDateTime::UNIX_EPOCH,
                etag: None,
                version_id: None,
            },
            mirrored: false,
            unsure: false,
            last_error: None,
        }
    }

    #[test]
    fn nul_and_oversize_are_unstorable() {
        assert_eq!(row("a/b c").unstorable(), None);
        assert!(row("a\0b").unstorable().is_some());
        let mut absent = row("a\0b");
        absent.state = RowState::Absent;
        assert!(absent.unstorable().is_some());
        let mut huge = row("k");
        if let RowState::Present { size, .. } = &mut huge.state {
            *size = u64::MAX;
        }
        assert!(huge.unstorable().is_some());
    }

    #[test]
    fn last_error_is_bounded_and_has_no_nul() {
        let mut it = row("k");
        it.last_error = Some(format!("\0{}", "é".repeat(LAST_ERROR_BYTES_MAX)));
        let text = it.last_error_text().unwrap();
        assert!(text.len() <= LAST_ERROR_BYTES_MAX && !text.contains('\0'));
    }
}

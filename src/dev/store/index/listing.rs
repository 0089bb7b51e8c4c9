//! Listing keys: prefix, delimiter, and where a page ends.
//!
//! Keys are compared as bytes, as S3 orders them. A group of keys behind a delimiter costs one
//! seek, however many keys it has.

use sqlx::Row as _;

use super::super::fault::Answer;
use super::{Index, size_of, unreadable};

/// S3's limit on one page.
pub(in super::super) const PAGE_KEYS_MAX: usize = 1000;

/// A page to list.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Page {
    pub(in super::super) prefix: String,
    /// Empty: no grouping.
    pub(in super::super) delimiter: String,
    /// The smallest key that may appear, as bytes.
    pub(in super::super) from: Vec<u8>,
    /// A common prefix that an earlier page has shown already.
    pub(in super::super) shown: Option<String>,
    pub(in super::super) count_max: usize,
}

/// An object as lists show it.
#[derive(Clone, Debug)]
pub(in super::super) struct Entry {
    pub(in super::super) key: String,
    pub(in super::super) size: u64,
    pub(in super::super) etag: String,
    pub(in super::super) modified_ms: i64,
    pub(in super::super) storage_class: String,
}

/// One line of a list.
#[derive(Clone, Debug)]
pub(in super::super) enum Line {
    Object(Entry),
    Prefix(String),
}

/// A listed page.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Listing {
    pub(in super::super) lines: Vec<Line>,
    pub(in super::super) truncated: bool,
}

impl Line {
    /// What comes after this line: the next page's `from`.
    pub(in super::super) fn next(&self) -> Vec<u8> {
        match self {
            Self::Object(entry) => after(&entry.key),
            Self::Prefix(prefix) => successor(prefix.as_bytes()).unwrap_or_default(),
        }
    }

    /// The key or common prefix itself.
    pub(in super::super) fn name(&self) -> &str {
        match self {
            Self::Object(entry) => &entry.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

impl Index {
    /// Lists a page of a bucket. The page is as old as its newest row: a list is not a snapshot.
    pub(in super::super) async fn list(&self, bucket_id: i64, page: &Page) -> Answer<Listing> {
        let mut listing = Listing::default();
        if page.count_max == 0 {
            return Ok(listing);
        }
        let prefix = page.prefix.as_bytes();
        let end = successor(prefix);
        let mut from = page.from.clone().max(prefix.to_vec());
        loop {
            let wanted = page.count_max - listing.lines.len() + 1;
            let rows = self.keys(bucket_id, &from, end.as_deref(), wanted).await?;
            let last_page = rows.len() < wanted;
            for entry in rows {
                if entry.key.as_bytes() < from.as_slice() {
                    // Behind a common prefix that has just been listed.
                    continue;
                }
                let group = common_prefix(&entry.key, &page.prefix, &page.delimiter);
                let line = match group {
                    Some(group) => Line::Prefix(group.to_owned()),
                    None => Line::Object(entry),
                };
                // The last key there is has no successor: then nothing can follow.
                from = line.next();
                if matches!(&line, Line::Prefix(group) if page.shown.as_ref() == Some(group)) {
                    continue;
                }
                if listing.lines.len() == page.count_max {
                    listing.truncated = true;
                    return Ok(listing);
                }
                listing.lines.push(line);
            }
            if last_page {
                return Ok(listing);
            }
        }
    }

    async fn keys(
        &self,
        bucket_id: i64,
        from: &[u8],
        end: Option<&[u8]>,
        count_max: usize,
    ) -> Answer<Vec<Entry>> {
        let rows = sqlx::query(
            "SELECT key, size, etag, modified_ms, storage_class FROM objects
             WHERE bucket_id = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)
             ORDER BY key LIMIT ?4",
        )
        .bind(bucket_id)
        .bind(from)
        .bind(end)
        .bind(i64::try_from(count_max).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await
        .map_err(unreadable)?;
        let entry = |row: &sqlx::sqlite::SqliteRow| {
            let key: Vec<u8> = row.try_get("key")?;
            Ok(Entry {
                // Keys come from decoded URLs, which s3s has checked to be UTF-8.
                key: String::from_utf8_lossy(&key).into_owned(),
                size: size_of(row, "size")?,
                etag: row.try_get("etag")?,
                modified_ms: row.try_get("modified_ms")?,
                storage_class: row.try_get("storage_class")?,
            })
        };
        rows.iter().map(entry).collect::<Result<_, _>>().map_err(unreadable)
    }
}

/// The smallest byte string above `key`.
pub(in super::super) fn after(key: &str) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The smallest byte string above everything that starts with `prefix`; none if there is no such.
pub(in super::super) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if let Some(next) = last.checked_add(1) {
            bytes.push(next);
            return Some(bytes);
        }
    }
    None
}

/// The group of `key`: everything up to and with the first delimiter behind the prefix.
pub(in super::super) fn common_prefix<'k>(
    key: &'k str,
    prefix: &str,
    delimiter: &str,
) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_above_every_key_of_its_prefix() {
        assert_eq!(successor(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(successor(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff"), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn keys_group_at_the_first_delimiter_behind_the_prefix() {
        assert_eq!(common_prefix("a/b/c", "", "/"), Some("a/"));
        assert_eq!(common_prefix("a/b/c", "a/", "/"), Some("a/b/"));
        assert_eq!(common_prefix("a/b", "a/", "/"), None);
        assert_eq!(common_prefix("ä::b", "", "::"), Some("ä::"));
        assert_eq!(common_prefix("a/b", "", ""), None);
    }
}

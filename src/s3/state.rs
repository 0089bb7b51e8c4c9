//! What one object is at one moment, as far as a copy of it must equal it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use time::OffsetDateTime;

use super::checksum::ChecksumAlgorithm;
use super::headers::{find, replicated};

/// An object's state as a `HEAD` or `GET` of it tells, or as a write of it made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    /// `ETag` without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock, whole seconds; unknown right after a write.
    pub last_modified: Option<OffsetDateTime>,
    /// Version ID where the bucket has versions; `null` for one of before or between.
    pub version_id: Option<String>,
    /// Content headers and user metadata, sorted by name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Number of tags.
    pub tag_count: u32,
    /// Storage class, where it is not the standard one.
    pub storage_class: Option<String>,
    /// The checksum of the whole object that is stored beside it, as its header.
    pub checksum: Option<(HeaderName, HeaderValue)>,
    /// Retention and legal hold, as headers.
    pub lock: Vec<(HeaderName, HeaderValue)>,
}

/// Headers of object lock.
pub mod lock {
    use http::header::HeaderName;

    /// Governance or compliance.
    pub const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
    /// Until when, ISO 8601.
    pub const UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
    /// `ON` or `OFF`.
    pub const HOLD: HeaderName = HeaderName::from_static("x-amz-object-lock-legal-hold");
}

impl ObjectState {
    /// Reads the head of a `HeadObject` or whole `GetObject` response. `None`: it is not one.
    pub fn from_response(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| find(headers, name).and_then(|value| value.to_str().ok());
        let etag = unquoted(text("etag")?).to_owned();
        let size = text("content-length")?.parse().ok()?;
        let last_modified = text("last-modified").and_then(parse_http_date);
        let tag_count = text("x-amz-tagging-count").and_then(|n| n.parse().ok()).unwrap_or(0);
        Some(Self {
            etag,
            size,
            last_modified,
            version_id: text("x-amz-version-id").map(str::to_owned),
            headers: replicated_headers(headers),
            tag_count,
            storage_class: text("x-amz-storage-class")
                .filter(|class| *class != "STANDARD")
                .map(str::to_owned),
            checksum: stored_checksum(headers),
            lock: lock_headers(headers),
        })
    }

    /// Is the content that of `other`: same bytes by `ETag` and size, same headers, same number
    /// of tags? Times and version IDs differ between stores and are left out.
    pub fn same_content(&self, other: &Self) -> bool {
        self.same_bytes(other) && self.headers == other.headers && self.tag_count == other.tag_count
    }

    /// Same `ETag` and size?
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.etag == other.etag && self.size == other.size
    }

    /// One of the replicated headers as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.and_then(|(_, value)| value.to_str().ok())
    }

    /// The media type, as main tells it; the S3 default when it tells none.
    pub fn content_type(&self) -> &str {
        self.header(&header::CONTENT_TYPE).unwrap_or("binary/octet-stream")
    }

    /// Number of parts when the `ETag` is that of a multipart upload (`<digest>-<parts>`).
    pub fn parts(&self) -> Option<u32> {
        self.etag.rsplit_once('-').and_then(|(_, parts)| parts.parse().ok())
    }
}

/// The checksum over the whole of an object that a response tells; that of an object in parts may be
/// one over the checksums of its parts, which nobody can send along with the bytes.
pub fn stored_checksum(headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    let kind = find(headers, "x-amz-checksum-type");
    if kind.is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    let mut found = headers
        .iter()
        .filter(|(name, _)| ChecksumAlgorithm::from_header_name(name.as_str()).is_some());
    let (name, value) = found.next()?;
    // A copy: as it came it shares the buffer of the whole head.
    Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
}

/// Retention and legal hold as a response tells them; a hold that is off is none.
fn lock_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    [lock::MODE, lock::UNTIL, lock::HOLD]
        .into_iter()
        .filter_map(|name| {
            let value = headers.get(&name).filter(|value| *value != "OFF")?.clone();
            Some((name, value))
        })
        .collect()
}

/// The headers that belong to the object, sorted so that two sets compare.
pub fn replicated_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut out: Vec<_> = headers
        .iter()
        .filter(|(name, _)| replicated(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    out.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()).then_with(|| a.1.cmp(&b.1)));
    out
}

/// The `ETag` of a multipart object: MD5 over the binary MD5s of its parts, then `-` and their
/// number. `None` when a part's `ETag` is not an MD5 (some kinds of encryption), so that the
/// object's is not predictable.
pub fn multipart_etag<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut digest = Md5::new();
    let mut count = 0u32;
    for part in parts {
        let binary = hex::decode(part).ok().filter(|binary| binary.len() == 16)?;
        digest.update(binary);
        count += 1;
    }
    Some(format!("{}-{count}", hex::encode(digest.finalize())))
}

/// An `ETag` without its quotes.
pub fn unquoted(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

/// An HTTP date as UTC.
pub fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_response_becomes_a_state() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "\"abc-3\""),
            ("content-length", "12"),
            ("last-modified", "Sat, 21 Nov 2026 06:41:17 GMT"),
            ("x-amz-meta-b", "2"),
            ("x-amz-meta-a", "1"),
            ("content-type", "text/plain"),
            ("server", "x"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let state = ObjectState::from_response(&headers).unwrap();
        assert_eq!((state.etag.as_str(), state.size, state.parts()), ("abc-3", 12, Some(3)));
        assert_eq!(state.headers.len(), 3);
        assert_eq!(state.content_type(), "text/plain");
        assert_eq!((state.checksum, state.lock.len()), (None, 0));
        assert_eq!(state.last_modified.unwrap().unix_timestamp(), 1_795_243_277);
    }

    #[test]
    fn only_a_checksum_of_the_whole_object_can_be_sent_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-crc32", HeaderValue::from_static("AAAAAA=="));
        headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let (name, value) = stored_checksum(&headers).unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-amz-checksum-crc32", &b"AAAAAA=="[..]));
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("COMPOSITE"));
        assert_eq!(stored_checksum(&headers), None);
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("FULL_OBJECT"));
        assert!(stored_checksum(&headers).is_some());
    }
}

//! What one object is at one moment, as far as a copy of it must equal it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use time::OffsetDateTime;

use super::headers::replicated;

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
}

impl ObjectState {
    /// Reads the head of a `HeadObject` or whole `GetObject` response. `None`: it is not one.
    pub fn from_response(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
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
        assert_eq!(state.last_modified.unwrap().unix_timestamp(), 1_795_243_277);
    }
}

//! What the head of a response tells of a change: pure.

use http::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue};
use time::OffsetDateTime;

use super::upload::Transfer;
use crate::journal::entry::Facts;
use crate::s3::headers::find;
use crate::s3::operation::Change;
use crate::s3::state::{parse_http_date, unquoted};

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn etag(headers: &HeaderMap) -> Option<String> {
    headers.get(ETAG)?.to_str().ok().map(|etag| unquoted(etag).to_owned())
}

pub(super) fn version_id(headers: &HeaderMap) -> Option<String> {
    find(headers, "x-amz-version-id")?.to_str().ok().map(str::to_owned)
}

/// Main's clock, seconds since 1970.
pub(super) fn date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    parse_http_date(date).map(OffsetDateTime::unix_timestamp)
}

/// Bytes of `x-amz-copy-source-range: bytes=first-last`.
pub(super) fn copied_range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get("x-amz-copy-source-range")?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// What a response without document tells of the change.
pub(super) fn facts_of(
    change: Change,
    response: &HeaderMap,
    transfer: &Transfer,
    sent_type: Option<&HeaderValue>,
) -> Facts {
    match change {
        Change::Put => Facts {
            etag: etag(response),
            size: Some(transfer.bytes()),
            content_type: sent_type.and_then(|value| value.to_str().ok()).map(str::to_owned),
            last_modified: date(response),
            version_id: version_id(response),
            ..Facts::default()
        },
        Change::Delete => {
            // That of the delete marker, where there are versions.
            let version_id = version_id(response);
            Facts { absent: true, version_id, ..Facts::default() }
        }
        _ => Facts::default(),
    }
}

//! What is kept beside a body.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::s3::headers::{find, replicated};
use crate::s3::state::replicated_headers;

/// What was sent beside a body and belongs to the object.
///
/// Values are copies: a value as it came shares the whole buffer its request was read into.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeptHeaders {
    /// Content headers and user metadata, sorted.
    pub replicated: Vec<(HeaderName, HeaderValue)>,
    /// `x-amz-tagging`.
    pub tagging: Option<String>,
    /// `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// The checksum main says it has stored.
    pub checksum: Option<(HeaderName, HeaderValue)>,
}

impl KeptHeaders {
    /// Copies what belongs to the object from the headers of its request.
    pub fn of(request: &HeaderMap) -> Self {
        let mut replicated = replicated_headers(request);
        for (name, value) in &mut replicated {
            // Both were valid where they come from.
            let copy = HeaderValue::from_bytes(value.as_bytes());
            *value = copy.unwrap_or_else(|_| HeaderValue::from_static(""));
            *name =
                HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone());
        }
        let text = |name| find(request, name)?.to_str().ok().map(str::to_owned);
        let (tagging, storage_class) = (text("x-amz-tagging"), text("x-amz-storage-class"));
        Self { replicated, tagging, storage_class, checksum: None }
    }

    /// Bytes that [`KeptHeaders::of`] this request would take.
    pub(super) fn weight(request: &HeaderMap) -> u64 {
        let kept = request.iter().filter(|(name, _)| replicated(name));
        let sizes = kept.map(|(name, value)| name.as_str().len() + value.len() + 80);
        let length = |name| find(request, name).map_or(0, HeaderValue::len);
        let others = length("x-amz-tagging") + length("x-amz-storage-class");
        u64::try_from(sizes.sum::<usize>() + others).unwrap_or(u64::MAX)
    }

    /// The media type, if one was sent.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        let found = self.replicated.iter().find(|(name, _)| name == http::header::CONTENT_TYPE);
        found.map(|(_, value)| value)
    }
}

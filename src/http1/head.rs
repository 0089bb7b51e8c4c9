//! What the heads of requests and responses have in common.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::HeaderMap;
use http::Version;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};

use super::WireError;
use super::names::usual;

/// Headers of an ordinary message, for which the stack has room.
pub const HEADERS_USUAL: usize = 48;

/// Room for the headers of one head while it is parsed.
pub type Room<'b, const N: usize> = [MaybeUninit<httparse::Header<'b>>; N];

/// The reason that stood in a status line, where it is not the usual one.
#[derive(Debug, Clone)]
pub struct ReasonPhrase(Bytes);

impl ReasonPhrase {
    /// A reason, as it was parsed.
    pub fn new(text: Bytes) -> Self {
        Self(text)
    }

    /// Its bytes, without an end of line.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The headers that were found in `read`, with room for so many more. Their values share the memory of
/// `kept`, which holds the same bytes.
///
/// # Errors
/// A name or a value is none.
pub fn headers(
    found: &[httparse::Header<'_>],
    read: &[u8],
    kept: &Bytes,
    more: usize,
) -> Result<HeaderMap, WireError> {
    let malformed = WireError::Malformed;
    let mut headers = HeaderMap::with_capacity(found.len() + more);
    for header in found {
        let name = match usual(header.name) {
            Some(name) => Ok(name),
            None => HeaderName::from_bytes(header.name.as_bytes()),
        };
        let value = HeaderValue::from_maybe_shared(shared(header.value, read, kept));
        headers.append(
            name.map_err(|_| malformed("a header"))?,
            value.map_err(|_| malformed("a header's value"))?,
        );
    }
    Ok(headers)
}

/// A part of `read` as the same part of `kept`.
pub fn shared(part: &[u8], read: &[u8], kept: &Bytes) -> Bytes {
    let from = part.as_ptr().addr().saturating_sub(read.as_ptr().addr());
    kept.slice(from..from + part.len())
}

/// Every value of a header that HTTP defines. To look at each header is cheaper than to hash a name.
pub fn values<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h HeaderValue> {
    headers.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

/// Does a sender of this version say so in its `Connection` headers?
pub fn says(headers: &HeaderMap, what: &str) -> bool {
    values(headers, &CONNECTION).any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(what.as_bytes()))
    })
}

/// Does the sender of a message close the connection behind this exchange?
pub fn closes(version: Version, headers: &HeaderMap) -> bool {
    says(headers, "close") || (version == Version::HTTP_10 && !says(headers, "keep-alive"))
}

/// The announced length, which may be repeated, as some intermediaries do.
///
/// # Errors
/// It is no number, or two: who may choose where a body ends may choose what the next message is.
pub fn announced_length(headers: &HeaderMap) -> Result<Option<u64>, WireError> {
    let mut length = None;
    for value in values(headers, &CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            match (decimal(text.trim_ascii()), length) {
                (Some(said), None) => length = Some(said),
                (Some(said), Some(known)) if said == known => {}
                _ => return Err(WireError::Malformed("Content-Length")),
            }
        }
    }
    Ok(length)
}

/// A number in digits alone.
fn decimal(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// What is wrong with a head.
pub fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "not HTTP/1.1",
        httparse::Error::Status => "no status",
        _ => "a broken head",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(values: &[&'static str]) -> Result<Option<u64>, WireError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        announced_length(&headers)
    }

    #[test]
    fn a_length_has_one_meaning() {
        assert_eq!(length(&[]).unwrap(), None);
        assert_eq!(length(&["12"]).unwrap(), Some(12));
        assert_eq!(length(&["12, 12"]).unwrap(), Some(12));
        for bad in ["12, 13", "-1", "+1", "", "0x1", "1 2", "99999999999999999999"] {
            assert!(length(&[bad]).is_err(), "{bad}");
        }
        assert!(length(&["1", "2"]).is_err());
    }

    #[test]
    fn who_closes_says_so() {
        let closing = |version, value: Option<&'static str>| {
            let headers = value.map(|value| (CONNECTION, HeaderValue::from_static(value)));
            closes(version, &headers.into_iter().collect())
        };
        assert!(!closing(Version::HTTP_11, None));
        assert!(closing(Version::HTTP_11, Some("x, Close")));
        assert!(closing(Version::HTTP_10, None));
        assert!(!closing(Version::HTTP_10, Some("keep-alive")));
    }
}

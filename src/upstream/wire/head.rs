//! Heads of responses: bytes to types and what follows from them.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::WireError;
use crate::s3::headers::HEADERS_MAX;

/// What is read at a time while a head is expected: a small object comes along with it.
pub(super) const READ_BYTES: usize = 8 * 1024;
/// Longest head: as much as hyper takes.
pub(super) const BYTES_MAX: usize = 400 * 1024;
/// Headers of an ordinary answer; for more, room is made.
const HEADERS_USUAL: usize = 48;
/// Room for what is added on the way to the client.
const HEADERS_ADDED: usize = 2;

/// Takes a head from the front of `buffer`; `None`: it is not complete.
pub(super) fn parse(buffer: &mut BytesMut) -> Result<Option<Response<()>>, WireError> {
    let mut few = [const { MaybeUninit::uninit() }; HEADERS_USUAL];
    let found = match find(buffer, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![const { MaybeUninit::uninit() }; HEADERS_MAX];
            find(buffer, &mut many)
        }
        found => found,
    };
    match found.map_err(|error| WireError::Malformed(reason(error)))? {
        Some(found) => found.take_from(buffer).map(Some),
        None if buffer.len() > BYTES_MAX => Err(WireError::Malformed("the head is too long")),
        None => Ok(None),
    }
}

/// Where a head has what.
struct Found {
    length: usize,
    status: u16,
    version: Version,
    reason: Range<usize>,
    /// Names and values.
    headers: Vec<(Range<usize>, Range<usize>)>,
}

fn find<'b>(
    buffer: &'b [u8],
    headers: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Found>, httparse::Error> {
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut head, buffer, headers)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr().saturating_sub(buffer.as_ptr().addr());
        from..from + part.len()
    };
    Ok(Some(Found {
        length,
        status: head.code.unwrap_or_default(),
        version: if head.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 },
        reason: head.reason.map_or(0..0, |reason| place(reason.as_bytes())),
        headers: head
            .headers
            .iter()
            .map(|header| (place(header.name.as_bytes()), place(header.value)))
            .collect(),
    }))
}

impl Found {
    /// Values share the memory that was read.
    fn take_from(self, buffer: &mut BytesMut) -> Result<Response<()>, WireError> {
        let head = buffer.split_to(self.length).freeze();
        let malformed = WireError::Malformed;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + HEADERS_ADDED);
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(&head[name]).map_err(|_| malformed("a header"))?;
            let value = HeaderValue::from_maybe_shared(head.slice(value))
                .map_err(|_| malformed("a header's value"))?;
            headers.append(name, value);
        }
        let mut response = Response::new(());
        *response.status_mut() =
            StatusCode::from_u16(self.status).map_err(|_| malformed("the status"))?;
        *response.version_mut() = self.version;
        *response.headers_mut() = headers;
        let said = head.slice(self.reason);
        let usual = response.status().canonical_reason().unwrap_or_default();
        if !said.is_empty()
            && said != usual.as_bytes()
            && let Ok(said) = ReasonPhrase::try_from(said)
        {
            response.extensions_mut().insert(said);
        }
        Ok(response)
    }
}

/// Does the other side close the connection behind this response?
pub(super) fn closes(version: Version, headers: &HeaderMap) -> bool {
    let says = |what: &str| {
        headers.get_all(CONNECTION).iter().any(|value| {
            let mut tokens = value.as_bytes().split(|byte| *byte == b',');
            tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(what.as_bytes()))
        })
    };
    says("close") || (version == Version::HTTP_10 && !says("keep-alive"))
}

/// Has a response of this status no body, whatever its headers say (RFC 9112, 6.3)?
pub(super) fn is_bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn reason(error: httparse::Error) -> &'static str {
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

    fn parsed(text: &str) -> Result<Option<Response<()>>, WireError> {
        parse(&mut BytesMut::from(text))
    }

    #[test]
    fn a_head_is_taken_and_what_follows_stays() {
        let mut buffer =
            BytesMut::from("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nX: 1\r\nx: 2\r\n\r\nbody");
        let response = parse(&mut buffer).unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["etag"], "\"e\"");
        assert_eq!(response.headers().get_all("x").iter().count(), 2);
        assert!(response.extensions().get::<ReasonPhrase>().is_none());
        assert_eq!(&buffer[..], b"body");
    }

    #[test]
    fn half_a_head_is_waited_for_and_nonsense_is_not() {
        assert!(parsed("HTTP/1.1 200 OK\r\nETag: ").unwrap().is_none());
        for nonsense in ["SSH-2.0-OpenSSH\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n"] {
            assert!(matches!(parsed(nonsense), Err(WireError::Malformed(_))), "{nonsense}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(BYTES_MAX));
        assert!(matches!(parsed(&endless), Err(WireError::Malformed(_))));
    }

    #[test]
    fn many_headers_and_bytes_beyond_ascii_are_taken() {
        let mut text = b"HTTP/1.1 200 OK\r\nx-amz-meta-a: f\xfcr\r\n".to_vec();
        for number in 0..999 {
            text.extend_from_slice(format!("x-amz-meta-{number}: v\r\n").as_bytes());
        }
        let one_more = [&text[..], b"one: more\r\n\r\n"].concat();
        text.extend_from_slice(b"\r\n");
        let response = parse(&mut BytesMut::from(&text[..])).unwrap().unwrap();
        assert_eq!(response.headers().len(), 1000);
        assert_eq!(response.headers()["x-amz-meta-a"].as_bytes(), b"f\xfcr");
        assert!(parse(&mut BytesMut::from(&one_more[..])).is_err());
    }

    #[test]
    fn a_reason_of_its_own_is_kept() {
        let response = parsed("HTTP/1.1 503 Slow Down\r\n\r\n").unwrap().unwrap();
        let reason = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Slow Down");
    }

    #[test]
    fn who_closes_says_so() {
        let closing = |text| {
            let response = parsed(text).unwrap().unwrap();
            closes(response.version(), response.headers())
        };
        assert!(!closing("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(closing("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(closing("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(!closing("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }
}

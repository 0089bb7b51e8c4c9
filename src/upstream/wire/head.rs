//! Heads of responses: bytes to types and what follows from them.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version};

use super::WireError;
use crate::http1::head::{self, HEADERS_USUAL, ReasonPhrase, Room};
use crate::http1::receive::Framing;
use crate::s3::headers::HEADERS_MAX;

/// What is read at a time while a head is expected: a small object comes along with it.
pub(super) const READ_BYTES: usize = 8 * 1024;
/// Longest head: as much as hyper takes.
pub(super) const BYTES_MAX: usize = 400 * 1024;

/// The head at the front of `read` and its length; `None`: it is not complete.
pub(super) fn parse(read: &[u8]) -> Result<Option<(Response<()>, usize)>, WireError> {
    let mut few: Room<'_, HEADERS_USUAL> = [const { MaybeUninit::uninit() }; _];
    let found = match find(read, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![const { MaybeUninit::uninit() }; HEADERS_MAX];
            find(read, &mut many)
        }
        found => found,
    };
    match found.map_err(|error| WireError::Malformed(head::reason(error)))? {
        Some(found) => found.map(Some),
        None if read.len() > BYTES_MAX => Err(WireError::Malformed("the head is too long")),
        None => Ok(None),
    }
}

type Taken = Result<(Response<()>, usize), WireError>;

/// The head at the front of `read`, and its length.
fn find<'b>(
    read: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Taken>, httparse::Error> {
    let mut found = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut found, read, room)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    // A few hundred bytes: cheaper to copy than to note where everything is.
    let kept = Bytes::copy_from_slice(&read[..length]);
    Ok(Some(response(&found, read, &kept).map(|response| (response, length))))
}

fn response(
    found: &httparse::Response<'_, '_>,
    read: &[u8],
    kept: &Bytes,
) -> Result<Response<()>, WireError> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(found.code.unwrap_or_default())
        .map_err(|_| WireError::Malformed("the status"))?;
    let is_new = found.version == Some(1);
    *response.version_mut() = if is_new { Version::HTTP_11 } else { Version::HTTP_10 };
    *response.headers_mut() = head::headers(found.headers, read, kept, 0)?;
    let said = found.reason.unwrap_or_default();
    if !said.is_empty() && Some(said) != response.status().canonical_reason() {
        let said = ReasonPhrase::new(head::shared(said.as_bytes(), read, kept));
        response.extensions_mut().insert(said);
    }
    Ok(response)
}

/// Where the body ends, as the head says. Contradictions are errors.
pub(super) fn framing(headers: &HeaderMap) -> Result<Framing, WireError> {
    if let Some(last) = head::values(headers, &TRANSFER_ENCODING).last() {
        let last = last.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { Framing::CHUNKED } else { Framing::UntilClose });
    }
    Ok(head::announced_length(headers)?.map_or(Framing::UntilClose, Framing::Length))
}

/// Has a response of this status no body, whatever its headers say (RFC 9112, 6.3)?
pub(super) fn is_bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Response<()>>, WireError> {
        parse(text.as_bytes()).map(|found| found.map(|(response, _)| response))
    }

    #[test]
    fn a_head_is_taken_and_what_follows_stays() {
        let read = b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nX: 1\r\nx: 2\r\n\r\nbody";
        let (response, length) = parse(read).unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["etag"], "\"e\"");
        assert_eq!(response.headers().get_all("x").iter().count(), 2);
        assert!(response.extensions().get::<ReasonPhrase>().is_none());
        assert_eq!(&read[length..], b"body");
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
        let response = parse(&text).unwrap().unwrap().0;
        assert_eq!(response.headers().len(), 1000);
        assert_eq!(response.headers()["x-amz-meta-a"].as_bytes(), b"f\xfcr");
        assert!(parse(&one_more).is_err());
    }

    #[test]
    fn a_reason_of_its_own_is_kept() {
        let response = parsed("HTTP/1.1 503 Slow Down\r\n\r\n").unwrap().unwrap();
        let reason = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Slow Down");
    }

    #[test]
    fn the_head_says_where_the_body_ends() {
        let framing = |lines: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            framing(parsed(&text).unwrap().unwrap().headers())
        };
        assert_eq!(framing("Content-Length: 12\r\n").unwrap(), Framing::Length(12));
        assert_eq!(framing("").unwrap(), Framing::UntilClose);
        assert_eq!(framing("Transfer-Encoding: gzip, Chunked\r\n").unwrap(), Framing::CHUNKED);
        assert_eq!(framing("Transfer-Encoding: gzip\r\n").unwrap(), Framing::UntilClose);
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(framing(both).unwrap(), Framing::CHUNKED);
        assert!(framing("Content-Length: 1\r\nContent-Length: 2\r\n").is_err());
    }
}

//! Heads of requests: bytes to types, and what follows from them.
//!
//! Strict where a second reader could see another message: a length or coding with two meanings is
//! refused, and the connection ends with it.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri, Version};

use crate::http1::WireError;
use crate::http1::head::{self, HEADERS_USUAL, Room};
use crate::http1::receive::Framing;
use crate::proxy::error::S3Error;
use crate::s3::headers::HEADERS_MAX;

/// Longest head in bytes: a target of 64 KiB, the longest there can be, and as much of headers.
pub(super) const BYTES_MAX: usize = 128 * 1024;
/// Longest target in bytes, that of a URI of the `http` crate.
const TARGET_BYTES_MAX: usize = 65_534;

/// Headers that are added to a request on its way.
const HEADERS_ADDED: usize = 2;

/// A head, and what it says about its connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) framing: Framing,
    /// May no further request follow?
    pub(super) closes: bool,
}

/// Can `read` hold a whole head, if the first `seen` bytes of it did not? Without this each byte of a head
/// that drips in would cost a look at all of it.
pub(super) fn may_be_complete(read: &[u8], seen: usize) -> bool {
    let tail = read.get(seen.saturating_sub(3)..).unwrap_or_default();
    seen == 0
        || read.len() > BYTES_MAX
        || tail.windows(2).any(|two| two == b"\n\n")
        || tail.windows(3).any(|three| three == b"\n\r\n")
}

/// The head at the front of `read` and its length; `None`: it is not complete.
pub(super) fn parse(read: &[u8]) -> Result<Option<(Head, usize)>, S3Error> {
    let mut few: Room<'_, HEADERS_USUAL> = [const { MaybeUninit::uninit() }; _];
    let found = match find(read, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![const { MaybeUninit::uninit() }; HEADERS_MAX];
            find(read, &mut many)
        }
        found => found,
    };
    match found {
        Ok(Some(taken)) => taken.map(Some),
        Ok(None) if read.len() > BYTES_MAX => Err(too_large()),
        Ok(None) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(too_large()),
        Err(error) => Err(malformed(head::reason(error))),
    }
}

type Taken = Result<(Head, usize), S3Error>;

fn find<'b>(
    read: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Taken>, httparse::Error> {
    let mut found = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_request_with_uninit_headers(&mut found, read, room)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    // A few hundred bytes: cheaper to copy than to note where everything is.
    let kept = Bytes::copy_from_slice(&read[..length]);
    Ok(Some(request(&found, read, &kept).map(|head| (head, length))))
}

fn request(found: &httparse::Request<'_, '_>, read: &[u8], kept: &Bytes) -> Result<Head, S3Error> {
    let wrong = |error: WireError| match error {
        WireError::Malformed(what) => malformed(what),
        other => malformed(&other.to_string()),
    };
    let target = found.path.unwrap_or_default().as_bytes();
    if target.len() > TARGET_BYTES_MAX {
        let message = "The request target is too long.";
        return Err(S3Error::new(StatusCode::URI_TOO_LONG, "InvalidURI", message));
    }
    let method = Method::from_bytes(found.method.unwrap_or_default().as_bytes());
    let uri = Uri::from_maybe_shared(head::shared(target, read, kept));
    let mut request = Request::new(());
    *request.method_mut() = method.map_err(|_| malformed("no method"))?;
    *request.uri_mut() = uri.map_err(|_| {
        S3Error::new(StatusCode::BAD_REQUEST, "InvalidURI", "Couldn't parse the specified URI.")
    })?;
    let is_new = found.version == Some(1);
    *request.version_mut() = if is_new { Version::HTTP_11 } else { Version::HTTP_10 };
    *request.headers_mut() =
        head::headers(found.headers, read, kept, HEADERS_ADDED).map_err(wrong)?;
    let (mut parts, ()) = request.into_parts();
    let mut closes = head::closes(parts.version, &parts.headers);
    let framing = framing(&parts).map_err(wrong)?;
    if matches!(framing, Framing::Chunked(_)) && parts.headers.remove(CONTENT_LENGTH).is_some() {
        // The coding wins, and who sent both has lost the right to be asked again.
        closes = true;
    }
    Ok(Head { parts, framing, closes })
}

/// Where the body ends, as the head says.
fn framing(parts: &Parts) -> Result<Framing, WireError> {
    let length = head::announced_length(&parts.headers)?;
    let mut codings = head::values(&parts.headers, &TRANSFER_ENCODING);
    let Some(coding) = codings.next() else {
        return Ok(match length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        });
    };
    let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if parts.version == Version::HTTP_10 || !is_chunked || codings.next().is_some() {
        return Err(WireError::Malformed("a Transfer-Encoding other than chunked"));
    }
    Ok(Framing::CHUNKED)
}

fn malformed(what: &str) -> S3Error {
    let message = format!("The request is not HTTP/1.1: {what}.");
    S3Error::new(StatusCode::BAD_REQUEST, "BadRequest", message)
}

fn too_large() -> S3Error {
    S3Error::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "RequestHeaderSectionTooLarge",
        "Your request header and query parameters exceed the maximum allowed size.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, S3Error> {
        parse(text.as_bytes()).map(|found| found.unwrap().0)
    }

    fn put(lines: &str) -> Result<Head, S3Error> {
        head(&format!("PUT /b/k HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
    }

    #[test]
    fn a_head_is_taken_and_what_follows_is_not() {
        let text = b"GET /b/k?a=b HTTP/1.1\r\nHost: h\r\nX: 1\r\nx: 2\r\n\r\nGET /";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!(&text[length..], b"GET /");
        assert_eq!(head.parts.method, Method::GET);
        assert_eq!(head.parts.uri, "/b/k?a=b");
        assert_eq!(head.parts.headers.get_all("x").iter().count(), 2);
        assert_eq!((head.framing, head.closes), (Framing::None, false));
    }

    #[test]
    fn half_a_head_is_waited_for_but_not_for_ever() {
        assert!(parse(b"").unwrap().is_none());
        assert!(parse(b"\r\nGET /b/k HTTP/1.1\r\nHost: ").unwrap().is_none());
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(BYTES_MAX));
        assert_eq!(parse(endless.as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn a_head_that_is_cut_is_incomplete_and_one_that_is_bent_is_answered() {
        let whole = b"PUT /b/k?x-id=PutObject HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).unwrap().is_none(), "{cut}");
            assert!(cut < 2 || !may_be_complete(&whole[..cut], cut - 1), "{cut}");
        }
        assert!(may_be_complete(whole, whole.len() - 1));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bent = whole.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bent.len());
                match random.u8(..3) {
                    0 => bent[at] = random.u8(..),
                    1 => drop(bent.remove(at)),
                    _ => bent.insert(at, b"\r\n :,0xz"[random.usize(..8)]),
                }
            }
            // Whatever is taken for a head is seen to be one with its last byte, and an error has its
            // answer.
            match parse(&bent) {
                Ok(Some((_, length))) => {
                    assert!(may_be_complete(&bent[..length], length - 1), "{bent:?}");
                }
                Ok(None) => {}
                Err(error) => assert!(error.status.is_client_error()),
            }
        }
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        for (text, status) in [
            ("SSH-2.0-OpenSSH_9\r\n\r\n", 400),
            ("GET /b/k HTTP/2\r\n\r\n", 400),
            ("GET /b/k\r\n\r\n", 400),
            ("GET b/k HTTP/1.1\r\n\r\n", 400),
            ("G\u{e9}T / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nspace : 1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n", 400),
        ] {
            assert_eq!(head(text).unwrap_err().status, status, "{text}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "k".repeat(TARGET_BYTES_MAX));
        assert_eq!(head(&long).unwrap_err().status, 414);
        let many = "x: y\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(head(&format!("GET / HTTP/1.1\r\n{many}\r\n")).unwrap_err().status, 431);
    }

    #[test]
    fn as_many_headers_as_allowed_are_taken() {
        let many = "x-amz-meta: f\u{fc}r\r\n".repeat(HEADERS_MAX);
        let head = head(&format!("GET / HTTP/1.1\r\n{many}\r\n")).unwrap();
        assert_eq!(head.parts.headers.len(), HEADERS_MAX);
    }

    #[test]
    fn a_body_has_one_end() {
        assert_eq!(put("Content-Length: 7\r\n").unwrap().framing, Framing::Length(7));
        assert_eq!(put("Content-Length: 0\r\n").unwrap().framing, Framing::None);
        assert_eq!(put("Transfer-Encoding: Chunked\r\n").unwrap().framing, Framing::CHUNKED);
        for bad in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        ] {
            assert_eq!(put(bad).unwrap_err().status, 400, "{bad}");
        }
        assert!(head("PUT /b/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn chunked_wins_over_a_length_and_ends_the_connection() {
        let head = put("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n").unwrap();
        assert_eq!((head.framing, head.closes), (Framing::CHUNKED, true));
        assert!(!head.parts.headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn an_old_client_keeps_its_connection_only_if_it_says_so() {
        assert!(head("GET / HTTP/1.0\r\n\r\n").unwrap().closes);
        assert!(!head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().closes);
        assert!(head("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap().closes);
    }
}

//! Heads of responses, as they are written to a client.

use std::time::SystemTime;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, DATE};
use http::response::Parts;
use http::{StatusCode, Version};

use crate::http1::head::ReasonPhrase;
use crate::http1::send::Length;
use crate::s3::headers::hop_by_hop;

/// Room for an ordinary head.
const HEAD_BYTES: usize = 1024;

/// What of the request the form of its answer depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// Is it a `HEAD`, whose answer has no body whatever it says?
    pub(super) is_head: bool,
    /// May no further request follow?
    pub(super) closes: bool,
}

/// How the end of a response's body is told. `exact` is its length, if that is known.
pub(super) fn length(status: StatusCode, exact: Option<u64>, asked: Asked) -> Length {
    if asked.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Length::None;
    }
    match exact {
        Some(length) => Length::Exact(length),
        None if asked.version == Version::HTTP_10 => Length::UntilClose,
        None => Length::Chunked,
    }
}

/// Status line and headers with the empty line behind them.
pub(super) fn head(parts: &Parts, length: Length, asked: Asked) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    let is_old = asked.version == Version::HTTP_10;
    head.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    head.extend_from_slice(parts.status.as_str().as_bytes());
    head.extend_from_slice(b" ");
    let usual = parts.status.canonical_reason().unwrap_or_default().as_bytes();
    let said = parts.extensions.get::<ReasonPhrase>().map_or(usual, ReasonPhrase::as_bytes);
    head.extend_from_slice(said);
    head.extend_from_slice(b"\r\n");
    // Of an answer without body the length is that which the body would have.
    let says_length = length == Length::None && parts.status != StatusCode::NO_CONTENT;
    let mut says_date = false;
    for (name, value) in &parts.headers {
        if hop_by_hop(name) || (*name == CONTENT_LENGTH && !says_length) {
            continue;
        }
        says_date |= *name == DATE;
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    match length {
        Length::Exact(length) => {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        Length::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Length::None | Length::UntilClose => {}
    }
    if asked.closes || length == Length::UntilClose {
        head.extend_from_slice(b"connection: close\r\n");
    } else if is_old {
        head.extend_from_slice(b"connection: keep-alive\r\n");
    }
    if !says_date {
        head.extend_from_slice(b"date: ");
        head.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    use bytes::Bytes;
    use http::Response;
    use http::header::HeaderValue;

    const NEW: Asked = Asked { version: Version::HTTP_11, is_head: false, closes: false };

    fn written(status: u16, headers: &[(&'static str, &'static str)], asked: Asked) -> String {
        let mut response = Response::builder().status(status).header(DATE, "now");
        for (name, value) in headers {
            response = response.header(*name, HeaderValue::from_static(value));
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let length = length(parts.status, Some(3), asked);
        String::from_utf8(head(&parts, length, asked).to_vec()).unwrap()
    }

    #[test]
    fn the_length_is_that_of_the_body_that_is_sent() {
        let head = written(200, &[("content-length", "9"), ("transfer-encoding", "chunked")], NEW);
        assert_eq!(head, "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\n");
    }

    #[test]
    fn an_answer_without_body_keeps_the_length_it_speaks_of() {
        let length = [("content-length", "9")];
        let asked = Asked { is_head: true, ..NEW };
        assert!(written(200, &length, asked).contains("content-length: 9\r\n"));
        assert!(written(304, &length, NEW).contains("content-length: 9\r\n"));
        assert!(!written(204, &length, NEW).contains("content-length"));
    }

    #[test]
    fn the_end_of_a_connection_is_announced() {
        let closes = Asked { closes: true, ..NEW };
        assert!(written(200, &[("connection", "x")], closes).contains("\r\nconnection: close\r\n"));
        let old = Asked { version: Version::HTTP_10, ..NEW };
        let head = written(200, &[], old);
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains("connection: keep-alive\r\n"), "{head}");
        let unknown = super::length(StatusCode::OK, None, old);
        assert_eq!(unknown, Length::UntilClose);
        assert_eq!(super::length(StatusCode::OK, None, NEW), Length::Chunked);
    }

    #[test]
    fn a_reason_of_main_is_passed_on() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let reason = ReasonPhrase::new(Bytes::from_static(b"Slow Down"));
        response.extensions_mut().insert(reason);
        let head = head(&response.into_parts().0, Length::Exact(0), NEW);
        assert!(head.starts_with(b"HTTP/1.1 503 Slow Down\r\n"));
    }
}

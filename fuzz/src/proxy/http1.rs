//! Requests as `proxy::http1` reads them, its own files doing the reading, from bytes instead of a
//! connection.

mod head;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};
use tokio_util::io::poll_read_buf;

use super::error::S3Error;
use crate::connection::Connection;
use crate::http1::receive::Receiving;

/// A whole request.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Target.
    pub uri: Uri,
    /// Version, which decides whether another one may follow.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The length that was announced, if one was.
    pub announced: Option<u64>,
    /// Was it the last one of its connection?
    pub closes: bool,
}

/// Reads whole requests, as many as there are before the end or the first fault.
pub fn read(pieces: Vec<Bytes>) -> Vec<Request> {
    let (mut io, mut buffer) = (Connection::new(pieces), BytesMut::new());
    let mut requests = Vec::new();
    while let Some(request) = one(&mut io, &mut buffer) {
        let closes = request.closes;
        requests.push(request);
        if closes {
            break;
        }
    }
    requests
}

fn one(io: &mut Connection, buffer: &mut BytesMut) -> Option<Request> {
    let mut context = Context::from_waker(Waker::noop());
    let mut seen = 0;
    let found = loop {
        let looked_at = !buffer.is_empty() && head::may_be_complete(buffer, seen);
        let parsed = head::parse(buffer);
        if let Err(error) = &parsed {
            answerable(error);
        }
        if let Ok(Some((_, length))) = &parsed {
            assert!(looked_at, "a whole head that nobody looks at");
            assert!((1..=buffer.len()).contains(length));
        }
        match parsed {
            _ if !looked_at => {}
            Ok(Some((found, length))) => {
                buffer.advance(length);
                break found;
            }
            Ok(None) => {}
            Err(_) => return None,
        }
        seen = buffer.len();
        while let Poll::Pending = read_more(io, buffer, &mut context)? {}
    };
    let Parts { method, uri, version, headers, .. } = found.parts;
    let mut receiving = Receiving::new(found.framing);
    assert!(!receiving.until_close(), "a request never ends with its connection");
    let announced = receiving.left();
    let mut body = Vec::new();
    while !receiving.ended() {
        match receiving.poll(io, buffer, &mut context) {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(data))) => {
                assert!(!data.is_empty(), "a piece of nothing");
                body.extend_from_slice(&data);
            }
            Poll::Ready(Some(Err(_))) => return None,
            Poll::Ready(None) => break,
        }
    }
    Some(Request { method, uri, version, headers, body, announced, closes: found.closes })
}

/// `None`: the end.
fn read_more(
    io: &mut Connection,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Option<Poll<()>> {
    buffer.reserve(16 * 1024);
    match poll_read_buf(Pin::new(io), context, buffer) {
        Poll::Pending => Some(Poll::Pending),
        Poll::Ready(Ok(count)) if count > 0 => Some(Poll::Ready(())),
        Poll::Ready(_) => None,
    }
}

/// An error is the client's, and can be told as a document.
fn answerable(error: &S3Error) {
    assert!(error.status.is_client_error());
    let response = error.response("/", "id", false);
    assert_eq!(response.status(), error.status);
    assert!(!response.body().is_empty());
}

//! Answers as `upstream::wire` reads them, its own files doing the reading, from bytes instead of a
//! connection.

mod head;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio_util::io::poll_read_buf;

use crate::connection::Connection;
pub use crate::http1::WireError;
use crate::http1::receive::{Framing, Receiving};

/// A whole answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The length that was announced, if one was.
    pub announced: Option<u64>,
}

/// Reads one answer to its end. `bodyless`: it answers a `HEAD`.
pub fn read(pieces: Vec<Bytes>, bodyless: bool) -> Result<Answer, WireError> {
    let (mut io, mut buffer) = (Connection::new(pieces), BytesMut::new());
    let mut context = Context::from_waker(Waker::noop());
    let response = loop {
        if !buffer.is_empty()
            && let Some(response) = head::parse(&mut buffer)?
        {
            if response.status().is_informational() {
                continue;
            }
            break response;
        }
        buffer.reserve(head::READ_BYTES);
        match poll_read_buf(Pin::new(&mut io), &mut context, &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(0)) => return Err(WireError::Closed),
            Poll::Ready(read) => drop(read?),
        }
    };
    let framing = if bodyless || head::is_bodyless(response.status()) {
        Framing::None
    } else {
        head::framing(response.headers())?
    };
    let mut receiving = Receiving::new(framing);
    let announced = receiving.left();
    let mut body = Vec::new();
    while !receiving.ended() {
        match receiving.poll(&mut io, &mut buffer, &mut context) {
            Poll::Pending => {}
            Poll::Ready(Some(data)) => {
                let data = data?;
                assert!(!data.is_empty(), "a piece of nothing");
                body.extend_from_slice(&data);
            }
            Poll::Ready(None) => break,
        }
    }
    Ok(Answer { status: response.status(), headers: response.headers().clone(), body, announced })
}

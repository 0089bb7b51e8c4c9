//! Answers as `upstream::wire` reads them, its own files doing the reading, from bytes instead of a
//! connection.

mod head;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

pub use crate::http1::WireError;
use crate::http1::receive::{Framing, Receiving};

/// A connection that hands out prepared pieces, with a pause behind each, and then ends.
struct Io {
    pieces: VecDeque<Bytes>,
    paused: bool,
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.paused = !self.paused;
        if self.paused {
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.front_mut() else { return Poll::Ready(Ok(())) };
        let bytes = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece[..bytes]);
        piece.advance(bytes);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

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
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    let (mut io, mut buffer) = (Io { pieces, paused: false }, BytesMut::new());
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

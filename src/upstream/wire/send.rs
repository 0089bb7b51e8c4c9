//! A request on its way: its head, then its body as it comes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::{Io, Message, WireError};
use crate::upstream::body::Body;

const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Pieces up to here are copied behind the head where a write takes one slice: with TLS each write
/// is a record and a packet of its own.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// What is still to be sent.
pub(super) struct Sending {
    message: Message,
    /// Bytes of the body that are announced and have not come.
    left: Option<u64>,
    /// The piece that is being written, with what stands behind it.
    piece: Bytes,
    end: &'static [u8],
    state: State,
    written: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The body has not been asked for anything.
    Untouched,
    Streaming,
    /// All that there is has been taken from the body.
    Draining,
}

impl Sending {
    pub(super) fn new(message: Message) -> Self {
        let left = message.length;
        let state = if message.body.is_end_stream() && left.unwrap_or(0) == 0 {
            State::Draining
        } else {
            State::Untouched
        };
        let end = if state == State::Draining && left.is_none() { LAST_CHUNK } else { &[] };
        Self { message, left, piece: Bytes::new(), end, state, written: false }
    }

    /// Has nothing been written, and nothing been taken from the body?
    pub(super) fn untouched(&self) -> bool {
        !self.written && (self.state == State::Untouched || self.message.body.in_memory().is_some())
    }

    /// The request again, if nothing of it was used.
    pub(super) fn into_untouched(self) -> Option<Message> {
        let untouched = self.untouched();
        let Self { mut message, piece, .. } = self;
        if !piece.is_empty() {
            // Only taken out of memory, not out of a stream.
            message.body = crate::upstream::full(piece);
        }
        untouched.then_some(message)
    }

    /// Writes until everything is sent.
    pub(super) fn poll(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        loop {
            // The first piece leaves with the head, if it is here.
            if self.piece.is_empty() && self.end.is_empty() && self.state != State::Draining {
                match self.poll_piece(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(self.poll_write(io, context))?;
                        return Poll::Pending;
                    }
                }
            }
            ready!(self.poll_write(io, context))?;
            if self.state == State::Draining {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes the next piece of the body.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.state = State::Streaming;
        loop {
            let body: &mut Body = &mut self.message.body;
            let frame = match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(WireError::Body(error.to_string()))),
                None => return Poll::Ready(self.ended()),
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            if let Some(left) = &mut self.left {
                let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left
                    .checked_sub(bytes)
                    .ok_or_else(|| WireError::Body("longer than announced".into()))?;
                if *left == 0 && self.message.body.is_end_stream() {
                    self.state = State::Draining;
                }
            } else {
                let size = format!("{:x}\r\n", data.len());
                self.message.head.extend_from_slice(size.as_bytes());
                self.end = CHUNK_END;
            }
            self.piece = data;
            return Poll::Ready(Ok(()));
        }
    }

    fn ended(&mut self) -> Result<(), WireError> {
        self.state = State::Draining;
        match self.left {
            None => self.end = LAST_CHUNK,
            Some(0) => {}
            Some(_) => return Err(WireError::Body("shorter than announced".into())),
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        let head = &mut self.message.head;
        if self.piece.len() <= JOINED_BYTES_MAX && !io.is_write_vectored() {
            head.extend_from_slice(&self.piece);
            head.extend_from_slice(self.end);
            (self.piece, self.end) = (Bytes::new(), &[]);
        }
        while head.len() + self.piece.len() + self.end.len() > 0 {
            let slices = [head.as_ref(), self.piece.as_ref(), self.end].map(IoSlice::new);
            let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(0);
            let mut written =
                ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices[first..]))?;
            if written == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
            self.written = true;
            let of_head = written.min(head.len());
            head.advance(of_head);
            written -= of_head;
            let of_piece = written.min(self.piece.len());
            self.piece.advance(of_piece);
            self.end = self.end.get(written - of_piece..).unwrap_or_default();
        }
        Pin::new(io).poll_flush(context).map_err(WireError::from)
    }
}

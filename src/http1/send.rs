//! A message on its way: its head, then its body as it comes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use super::WireError;
use super::splice::{self, Pipe, SpliceBody, SpliceSink};

const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Pieces up to here are copied behind the head where a write takes one slice: with TLS each write
/// is a record and a packet of its own.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Up to here a head is copied together with what stands behind it, on the stack: the kernel has more
/// work with several slices than this is.
const GATHERED_BYTES_MAX: usize = 4 * 1024;

/// How the other side is told where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// There is none, whatever the head says: it is not even asked for.
    None,
    /// After so many bytes.
    Exact(u64),
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What is still to be sent.
#[derive(Debug)]
pub struct Sending<B> {
    head: BytesMut,
    /// Length of the head as it was given.
    head_bytes: usize,
    body: B,
    /// What is still to come of the body.
    left: Length,
    /// The piece that is being written, with what stands behind it.
    piece: Bytes,
    /// The last piece of an announced length. It leaves when the body has really ended: one that is longer
    /// must not look whole.
    last: Option<Bytes>,
    end: &'static [u8],
    state: State,
    written: bool,
    splicing: Splicing,
}

/// Is the body moved past this process?
#[derive(Debug)]
enum Splicing {
    NotYet,
    By(Pipe),
    /// It cannot be.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The body has not been asked for anything.
    Untouched,
    Streaming,
    /// All that there is has been taken from the body.
    Draining,
}

impl<B> Sending<B>
where
    B: SpliceBody + Unpin,
    B::Error: std::fmt::Display,
{
    /// A message: start line and headers with the empty line behind them, which announce `length`.
    pub fn new(head: BytesMut, body: B, length: Length) -> Self {
        let (state, end): (_, &[u8]) = match length {
            Length::None => (State::Draining, &[]),
            Length::Exact(0) if body.is_end_stream() => (State::Draining, &[]),
            Length::Chunked if body.is_end_stream() => (State::Draining, LAST_CHUNK),
            _ => (State::Untouched, &[]),
        };
        let head_bytes = head.len();
        Self {
            head,
            head_bytes,
            body,
            left: length,
            piece: Bytes::new(),
            last: None,
            end,
            state,
            written: false,
            splicing: Splicing::NotYet,
        }
    }

    /// Has nothing been written?
    pub fn is_unwritten(&self) -> bool {
        !self.written
    }

    /// Has the body not been asked for anything?
    pub fn is_unasked(&self) -> bool {
        self.state == State::Untouched
    }

    /// What the body is taken from.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Head, body, and what has been taken out of the body, of a message of which nothing was
    /// written. Not of a chunked one that has been asked for something.
    pub fn into_unwritten(mut self) -> (BytesMut, B, Bytes) {
        // It may stand behind the head already.
        let joined = self.head.split_off(self.head_bytes);
        let piece = if joined.is_empty() { self.piece } else { joined.freeze() };
        (self.head, self.body, piece)
    }

    /// Writes until everything is sent.
    pub fn poll<W: SpliceSink + Unpin>(
        &mut self,
        io: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        loop {
            if self.head.is_empty() && self.piece.is_empty() && self.end.is_empty() {
                ready!(self.poll_splice(io, context))?;
            }
            // The first piece leaves with the head, if it is here.
            if self.piece.is_empty() && self.end.is_empty() && self.state != State::Draining {
                match self.poll_piece(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    // Announced as empty it is whole with its head, and may yet turn out to be faulty.
                    Poll::Pending if self.left == Length::Exact(0) && self.last.is_none() => {
                        return Poll::Pending;
                    }
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

    /// Moves what need not be looked at. What comes next is read as ever.
    fn poll_splice<W: SpliceSink>(
        &mut self,
        io: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        let Length::Exact(left) = &mut self.left else { return Poll::Ready(Ok(())) };
        if matches!(self.splicing, Splicing::NotYet)
            && *left >= splice::BYTES_MIN
            && io.splices()
            && self.body.splices()
        {
            self.splicing = Pipe::new().map_or(Splicing::Never, Splicing::By);
        }
        let Splicing::By(pipe) = &mut self.splicing else { return Poll::Ready(Ok(())) };
        let refused = loop {
            if pipe.holds() > 0 {
                match ready!(io.poll_splice(context, pipe)) {
                    Ok(0) => return Poll::Ready(Err(WireError::Closed)),
                    Ok(_) => continue,
                    Err(error) if splice::refuses(&error) => break pipe.take()?,
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            let max = usize::try_from(left.saturating_sub(splice::TAIL_BYTES));
            let moved = match max.unwrap_or(usize::MAX) {
                0 => None,
                max => ready!(self.body.poll_splice(context, pipe, max)),
            };
            let moved = moved.map(|moved| moved.map(|moved| u64::try_from(moved).unwrap_or(0)));
            match moved {
                Some(Ok(moved)) => *left = left.saturating_sub(moved),
                Some(Err(error)) => return Poll::Ready(Err(WireError::Body(error.to_string()))),
                None if pipe.is_refused() => break Bytes::new(),
                None => return Poll::Ready(Ok(())),
            }
        };
        (self.piece, self.splicing) = (refused, Splicing::Never);
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the body.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.state = State::Streaming;
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(WireError::Body(error.to_string()))),
                None => return Poll::Ready(self.ended()),
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            match &mut self.left {
                Length::Exact(left) => {
                    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    *left = left
                        .checked_sub(bytes)
                        .ok_or_else(|| WireError::Body("longer than announced".into()))?;
                    if *left == 0 {
                        if !self.body.is_end_stream() {
                            self.last = Some(data);
                            continue;
                        }
                        self.state = State::Draining;
                    }
                }
                Length::Chunked => {
                    let size = format!("{:x}\r\n", data.len());
                    self.head.extend_from_slice(size.as_bytes());
                    self.end = CHUNK_END;
                }
                Length::UntilClose | Length::None => {}
            }
            self.piece = data;
            return Poll::Ready(Ok(()));
        }
    }

    fn ended(&mut self) -> Result<(), WireError> {
        self.state = State::Draining;
        match self.left {
            Length::Chunked => self.end = LAST_CHUNK,
            Length::Exact(0) => self.piece = self.last.take().unwrap_or_default(),
            Length::UntilClose | Length::None => {}
            Length::Exact(_) => return Err(WireError::Body("shorter than announced".into())),
        }
        Ok(())
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        let head = &mut self.head;
        if self.piece.len() <= JOINED_BYTES_MAX && !io.is_write_vectored() {
            head.extend_from_slice(&self.piece);
            head.extend_from_slice(self.end);
            (self.piece, self.end) = (Bytes::new(), &[]);
        }
        while head.len() + self.piece.len() + self.end.len() > 0 {
            let slices = [head.as_ref(), self.piece.as_ref(), self.end];
            let mut written = ready!(poll_write_once(Pin::new(&mut *io), context, slices))?;
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

/// One write, of as much as `io` takes; as one slice where that is less work.
fn poll_write_once<W: AsyncWrite>(
    io: Pin<&mut W>,
    context: &mut Context<'_>,
    slices: [&[u8]; 3],
) -> Poll<std::io::Result<usize>> {
    match slices {
        [one, [], []] | [[], one, []] | [[], [], one] => io.poll_write(context, one),
        few if few.iter().map(|slice| slice.len()).sum::<usize>() <= GATHERED_BYTES_MAX => {
            let mut gathered = SmallVec::<[u8; GATHERED_BYTES_MAX]>::new();
            for slice in few {
                gathered.extend_from_slice(slice);
            }
            io.poll_write(context, &gathered)
        }
        [[], rest @ ..] => io.poll_write_vectored(context, &rest.map(IoSlice::new)),
        all => io.poll_write_vectored(context, &all.map(IoSlice::new)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Result;

    use futures_util::stream::iter;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    impl<S> SpliceBody for StreamBody<S> where Self: http_body::Body<Data = Bytes> {}

    /// Takes so many bytes at a time, from as many slices as it is given.
    struct Slow {
        taken: Vec<u8>,
        at_a_time: usize,
    }

    impl SpliceSink for Slow {}

    impl AsyncWrite for Slow {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<Result<usize>> {
            let this = self.get_mut();
            let count = data.len().min(this.at_a_time);
            this.taken.extend_from_slice(&data[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.as_mut().poll_write(context, &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sent(body: &[u8], length: Length, at_a_time: usize) -> Vec<u8> {
        let body = Full::new(Bytes::copy_from_slice(body));
        let mut sending = Sending::new(BytesMut::from("HEAD\r\n\r\n"), body, length);
        let mut io = Slow { taken: Vec::new(), at_a_time };
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(sending.poll(&mut io, &mut context), Poll::Ready(Ok(()))));
        io.taken
    }

    #[test]
    fn a_message_arrives_whole_in_whatever_pieces_it_is_taken() {
        for bytes in [1, 1024, GATHERED_BYTES_MAX - 8, GATHERED_BYTES_MAX, 3 * GATHERED_BYTES_MAX] {
            let body: Vec<u8> = (0_u8..=250).cycle().take(bytes).collect();
            let exact = Length::Exact(u64::try_from(bytes).unwrap());
            for at_a_time in [1, 7, 8, 9, 1000, GATHERED_BYTES_MAX, usize::MAX] {
                let plain = [b"HEAD\r\n\r\n", &body[..]].concat();
                assert!(sent(&body, exact, at_a_time) == plain, "{bytes} by {at_a_time}");
                let size = format!("HEAD\r\n\r\n{bytes:x}\r\n");
                let chunked = [size.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
                let taken = sent(&body, Length::Chunked, at_a_time);
                assert!(taken == chunked, "{bytes} in a chunk by {at_a_time}");
            }
        }
    }
    #[test]
    fn a_body_longer_than_announced_does_not_arrive_as_a_whole_one() {
        for pieces in [["four", "more"], ["four", "m"]] {
            let frames = pieces.map(|piece| Ok::<_, WireError>(Frame::data(piece.into())));
            let body = StreamBody::new(iter(frames));
            let mut sending = Sending::new(BytesMut::from("HEAD"), body, Length::Exact(4));
            let mut io = Slow { taken: Vec::new(), at_a_time: usize::MAX };
            let mut context = Context::from_waker(std::task::Waker::noop());
            let polled = sending.poll(&mut io, &mut context);
            assert!(matches!(polled, Poll::Ready(Err(WireError::Body(_)))));
            assert!(io.taken.len() < "HEADfour".len(), "{:?}", io.taken);
        }
    }
}

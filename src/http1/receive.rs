//! The body of a message that is received: where it ends, and its bytes as they were read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::WireError;
use super::splice;

/// What is read at a time at first; it doubles while reads fill it.
const READ_MIN: usize = 16 * 1024;
/// The same where the length is known, which is then no more than all that is left.
const READ_KNOWN: usize = 64 * 1024;
/// What is read at a time at most.
pub const READ_MAX: usize = 256 * 1024;
/// Longest line of a chunked body: a size with extensions, or a trailer.
const LINE_MAX: usize = 16 * 1024;
/// Longest trailer section.
const TRAILERS_MAX: usize = 64 * 1024;

/// Where a body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// Where in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Before the size of the next chunk.
    Size,
    /// So many bytes before the end of its data.
    Data(u64),
    /// Before the end of the line behind the data.
    DataEnd,
    /// In trailers, of which so many bytes have been read over: nobody asked for any.
    Trailers(usize),
    /// Behind everything.
    End,
}

impl Framing {
    /// A chunked body that begins.
    pub const CHUNKED: Self = Self::Chunked(Chunk::Size);
}

/// A body being received.
#[derive(Debug)]
pub struct Receiving {
    framing: Framing,
    read_bytes: usize,
}

impl Receiving {
    /// A body of which nothing has been read.
    pub fn new(framing: Framing) -> Self {
        let is_known = matches!(framing, Framing::Length(_));
        Self { framing, read_bytes: if is_known { READ_KNOWN } else { READ_MIN } }
    }

    /// Is there nothing more to come?
    pub fn ended(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0) | Framing::Chunked(Chunk::End))
    }

    /// Does only the end of the connection end it?
    pub fn until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Bytes that are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            _ if self.ended() => Some(0),
            Framing::Chunked(_) | Framing::UntilClose | Framing::None => None,
        }
    }

    /// How many bytes, of at most `max`, may be moved past this process now. `None`: the next piece is read.
    pub fn movable(&self, buffer: &BytesMut, max: usize) -> Option<usize> {
        let Framing::Length(left) = self.framing else { return None };
        let left = left.saturating_sub(splice::TAIL_BYTES);
        let movable = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        (movable > 0 && buffer.is_empty()).then_some(movable)
    }

    /// What became of moving some. `None`: it cannot be done, and the next piece is read.
    pub fn moved(&mut self, moved: std::io::Result<usize>) -> Option<Result<usize, WireError>> {
        match moved {
            Ok(0) => Some(Err(WireError::Closed)),
            Ok(bytes) => {
                if let Framing::Length(left) = &mut self.framing {
                    *left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                }
                Some(Ok(bytes))
            }
            Err(error) if splice::refuses(&error) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    /// The next piece, from `buffer` or else from `io`; `None` at the end.
    pub fn poll<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        buffer: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, WireError>>> {
        loop {
            match self.take(buffer) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) if self.ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_read(io, buffer, context)) {
                Ok(0) if self.until_close() => {
                    self.framing = Framing::None;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(WireError::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        buffer: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let wanted = match self.framing {
            // Nothing is read beyond the end, so that nothing is left over.
            Framing::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        buffer.reserve(wanted.min(self.read_bytes));
        let read = ready!(poll_read_buf(Pin::new(io), context, buffer))?;
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(read))
    }

    /// Takes data off the front of what has been read; `None`: more has to be read, or it has ended.
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
        loop {
            let left = match &mut self.framing {
                Framing::None => return Ok(None),
                Framing::UntilClose if buffer.is_empty() => return Ok(None),
                Framing::UntilClose => return Ok(Some(buffer.split().freeze())),
                Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => left,
                Framing::Chunked(chunk) => {
                    if step(chunk, buffer)? {
                        continue;
                    }
                    return Ok(None);
                }
            };
            if *left > 0 {
                if buffer.is_empty() {
                    return Ok(None);
                }
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= u64::try_from(here).unwrap_or(0);
                // Behind the last piece the buffer is of no more use.
                let is_last = self.framing == Framing::Length(0) && here == buffer.len();
                let data = if is_last { std::mem::take(buffer) } else { buffer.split_to(here) };
                let data = data.freeze();
                if self.framing == Framing::Chunked(Chunk::Data(0)) {
                    self.framing = Framing::Chunked(Chunk::DataEnd);
                    // The last chunk is mostly here too, and with it the end is known at once.
                    self.look_ahead(buffer)?;
                }
                return Ok(Some(data));
            }
            match self.framing {
                Framing::Chunked(_) => self.framing = Framing::Chunked(Chunk::DataEnd),
                _ => return Ok(None),
            }
        }
    }

    fn look_ahead(&mut self, buffer: &mut BytesMut) -> Result<(), WireError> {
        while let Framing::Chunked(chunk) = &mut self.framing
            && !matches!(chunk, Chunk::Data(_))
            && step(chunk, buffer)?
        {}
        Ok(())
    }
}

/// Reads over one line of a chunked body. False: it is not complete, or the body has ended.
fn step(chunk: &mut Chunk, buffer: &mut BytesMut) -> Result<bool, WireError> {
    if *chunk == Chunk::End {
        return Ok(false);
    }
    let Some(end) = buffer.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= LINE_MAX {
            Err(WireError::Malformed("a line of a chunked body is too long"))
        } else {
            Ok(false)
        };
    };
    let line = buffer.split_to(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or(WireError::Malformed("a chunk"))?;
    *chunk = match *chunk {
        Chunk::Size => match size(line)? {
            0 => Chunk::Trailers(0),
            size => Chunk::Data(size),
        },
        Chunk::DataEnd if line.is_empty() => Chunk::Size,
        Chunk::Trailers(_) if line.is_empty() => Chunk::End,
        Chunk::Trailers(so_far) if so_far + line.len() <= TRAILERS_MAX => {
            Chunk::Trailers(so_far + line.len() + 2)
        }
        _ => return Err(WireError::Malformed("a chunk")),
    };
    Ok(true)
}

/// The size of a chunk; extensions are read over.
fn size(line: &[u8]) -> Result<u64, WireError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let plain = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = if plain { u64::from_str_radix(text, 16).ok() } else { None };
    size.ok_or(WireError::Malformed("the size of a chunk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that can be taken when the bytes come in pieces of so many.
    fn received(framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, bool), WireError> {
        let (mut incoming, mut buffer) = (Receiving::new(framing), BytesMut::new());
        let mut out = Vec::new();
        for bytes in wire.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(data) = incoming.take(&mut buffer)? {
                out.extend_from_slice(&data);
            }
        }
        Ok((out, incoming.ended() && buffer.is_empty()))
    }

    #[test]
    fn chunks_come_out_whole_however_they_arrive() {
        let wire =
            b"4\r\nwiki\r\n6;x=\"y\"\r\npedia \r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nT: v\r\n\r\n";
        for piece in 1..wire.len() {
            let (out, whole) = received(Framing::CHUNKED, wire, piece).unwrap();
            assert_eq!(out, b"wikipedia  in\r\n\r\nchunks.", "{piece}");
            assert!(whole, "{piece}");
        }
        let (_, whole) = received(Framing::CHUNKED, &wire[..wire.len() - 1], 7).unwrap();
        assert!(!whole);
    }

    #[test]
    fn the_end_of_a_chunked_body_is_known_with_its_last_piece() {
        let mut incoming = Receiving::new(Framing::CHUNKED);
        let mut buffer = BytesMut::from("2\r\nab\r\n0\r\n\r\n");
        assert_eq!(incoming.take(&mut buffer).unwrap().unwrap(), "ab");
        assert!(incoming.ended() && buffer.is_empty());
    }

    #[test]
    fn broken_chunks_are_errors() {
        for wire in [
            &b"x\r\n"[..],
            b"-1\r\n",
            b"\r\n",
            b"11111111111111111\r\n",
            b"2\r\nabc\r\n",
            b"2\nab\r\n",
            &vec![b'1'; LINE_MAX + 1],
        ] {
            assert!(received(Framing::CHUNKED, wire, 5).is_err(), "{wire:?}");
        }
        let endless = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(TRAILERS_MAX / 6 + 2)].concat();
        assert!(received(Framing::CHUNKED, &endless, 4096).is_err());
    }

    #[test]
    fn what_follows_the_announced_length_is_left_over() {
        let (out, whole) = received(Framing::Length(3), b"abcHTTP/1.1", 64).unwrap();
        assert_eq!(out, b"abc");
        assert!(!whole, "the connection must not be used again");
    }
}

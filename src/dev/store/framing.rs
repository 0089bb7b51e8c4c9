//! The aws-chunked framing of a request body, watched on its way into `s3s`.
//!
//! `s3s` decodes the framing and checks signatures, but it holds a whole chunk in memory, and a
//! client chooses the chunk size (one client family sends a whole part as one chunk). It also
//! takes a body that stops before its last chunk for complete. So this filter
//!
//! - cuts unsigned chunks into as many small ones as reads arrive (nothing is signed over them);
//! - refuses signed chunks above [`SIGNED_CHUNK_BYTES_MAX`];
//! - fails a body whose last chunk never came, and a small chunk that is not the last (E7).

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

/// Clients sign chunks of 64 KiB to 1 MiB. This bounds what one upload may make `s3s` hold.
const SIGNED_CHUNK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Only the last chunk with data may be smaller.
const CHUNK_BYTES_MIN: u64 = 8192;

/// Bytes of a chunk header: a size and a signature of 64 digits.
const HEADER_BYTES_MAX: usize = 1024;

/// How an error about a small chunk is known again behind `s3s`.
pub(super) const SMALL_CHUNK: &str = "a chunk that is not the last one is too small";

/// Follows one body.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    signed: bool,
    /// The chunk before was smaller than all but the last may be.
    small: bool,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    Data(u64),
    /// The line end behind a chunk's data: bytes of it still to come.
    DataEnd(u8),
    /// Behind the chunk of size zero.
    Trailer,
}

impl Framing {
    /// For a request whose `x-amz-content-sha256` is a `STREAMING-` value.
    pub(super) fn new(content_sha256: &[u8]) -> Self {
        let signed = !content_sha256.starts_with(b"STREAMING-UNSIGNED-PAYLOAD");
        Self { state: State::Header(Vec::new()), signed, small: false }
    }

    /// Takes bytes from the wire and queues what `s3s` shall see.
    pub(super) fn feed(&mut self, mut bytes: Bytes, out: &mut VecDeque<Bytes>) -> io::Result<()> {
        if self.signed {
            // Signatures cover the framing: it is only watched.
            out.push_back(bytes.clone());
        }
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header(header) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = bytes.split_to(end.map_or(bytes.len(), |end| end + 1));
                    header.extend_from_slice(&taken);
                    if header.len() > HEADER_BYTES_MAX {
                        return Err(io::Error::other("chunk header too long"));
                    }
                    if end.is_some() {
                        let size = size(header)?;
                        self.begin(size, out)?;
                    }
                }
                State::Data(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let data = bytes.split_to(length);
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.state = State::DataEnd(2);
                    }
                    if !self.signed {
                        out.push_back(Bytes::from(format!("{:x}\r\n", data.len())));
                        out.push_back(data);
                        out.push_back(Bytes::from_static(b"\r\n"));
                    }
                }
                State::DataEnd(left) => {
                    let expected = if *left == 2 { b'\r' } else { b'\n' };
                    if bytes.split_to(1).first() != Some(&expected) {
                        return Err(io::Error::other("chunk data without its line end"));
                    }
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Header(Vec::new());
                    }
                }
                State::Trailer => {
                    if !self.signed {
                        out.push_back(bytes);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The wire has ended.
    pub(super) fn end(&self) -> io::Result<()> {
        match self.state {
            State::Trailer => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last chunk is missing")),
        }
    }

    fn begin(&mut self, size: u64, out: &mut VecDeque<Bytes>) -> io::Result<()> {
        if size == 0 {
            self.state = State::Trailer;
            if !self.signed {
                out.push_back(Bytes::from_static(b"0\r\n"));
            }
            return Ok(());
        }
        if self.small {
            return Err(io::Error::other(SMALL_CHUNK));
        }
        if self.signed && size > SIGNED_CHUNK_BYTES_MAX {
            return Err(io::Error::other("signed chunk too large"));
        }
        self.small = size < CHUNK_BYTES_MIN;
        self.state = State::Data(size);
        Ok(())
    }
}

fn size(header: &[u8]) -> io::Result<u64> {
    let wrong = || io::Error::other("malformed chunk header");
    let line = std::str::from_utf8(header).map_err(|_| wrong())?;
    let line = line.strip_suffix("\r\n").ok_or_else(wrong)?;
    let digits = line.split(';').next().unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u64::from_str_radix(digits, 16).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSIGNED: &[u8] = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    const SIGNED: &[u8] = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

    /// Feeds a body in pieces of `piece` bytes and returns what comes out.
    fn through(mode: &[u8], body: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut framing = Framing::new(mode);
        let mut out = VecDeque::new();
        for piece in body.chunks(piece) {
            framing.feed(Bytes::copy_from_slice(piece), &mut out)?;
        }
        framing.end()?;
        Ok(out.into_iter().flatten().collect())
    }

    #[test]
    fn a_large_unsigned_chunk_leaves_in_small_ones() {
        let body = b"a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let cut = through(UNSIGNED, body, 8).unwrap();
        let trailer = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        assert_eq!(cut, [b"5\r\n01234\r\n5\r\n56789\r\n".as_slice(), trailer].concat());
    }

    #[test]
    fn a_signed_body_passes_unchanged_however_it_is_split() {
        let body = b"5;chunk-signature=ab\r\nhello\r\n0;chunk-signature=cd\r\n\r\n";
        for piece in 1..body.len() {
            assert_eq!(through(SIGNED, body, piece).unwrap(), body);
        }
    }

    #[test]
    fn a_body_without_its_last_chunk_fails() {
        for cut in [b"5\r\nhello\r\n".as_slice(), b"5\r\nhel", b"5\r", b""] {
            assert!(through(UNSIGNED, cut, 64).is_err());
        }
    }

    #[test]
    fn malformed_framing_fails() {
        for wrong in [
            b"5\nhello\r\n0\r\n\r\n".as_slice(),
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"11111111111111111\r\n",
            b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            assert!(through(UNSIGNED, wrong, 64).is_err());
        }
    }
}

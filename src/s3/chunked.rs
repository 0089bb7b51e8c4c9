//! The aws-chunked body: an incremental decoder for every form of `STREAMING-...` payload.
//!
//! ```text
//! chunk   = size-in-hex [";chunk-signature=" 64-hex] CRLF  size bytes  CRLF
//! body    = chunk*  last-chunk (size 0, no data)  trailer-line*  CRLF
//! trailer = name ":" value (CRLF | LF CRLF)
//! ```
//!
//! Promises:
//! - Data comes out as slices of what went in; no chunk is ever collected, however large the client
//!   chose it. What is kept between calls is one line of at most [`CHUNK_HEADER_BYTES_MAX`] or
//!   [`TRAILER_BYTES_MAX`] bytes.
//! - The result does not depend on how the input was cut into pieces.
//! - [`Decoded::End`] is reported only for a body that is complete, of the announced size, with
//!   right signatures (where a [`ChunkVerifier`] was given) and the right trailer checksum. The
//!   last data of a chunk comes out only after the chunk's signature was found right.
//! - Nothing from outside can make it panic; after an error every further call reports the same
//!   error.
//!
//! What the caller must do: hold back at least the last bytes it was given until `End`, so that a
//! store which was promised the decoded length never sees a complete body that is not good.
//!
//! In a form with signatures but without a verifier, signatures must be there and are not checked:
//! clients with dummy credentials sign with a key nobody knows.

mod error;
mod payload;
mod signature;
#[cfg(test)]
mod tests;
mod trailer;

use bytes::Bytes;
use http::HeaderMap;

use crate::s3::checksum::Hasher;

pub use error::ChunkedError;
pub use payload::{
    PayloadMode, StreamingForm, announced_trailers, decoded_content_length, strip_framing_headers,
};
pub use signature::{ChunkVerifier, SigningKey};
pub use trailer::{TrailerChecksum, Trailers};
use trailer::{TrailerSection, announced_checksum};

/// The longest accepted chunk header, line end included. Real ones have at most 101 bytes.
pub const CHUNK_HEADER_BYTES_MAX: usize = 1024;
/// The longest accepted trailer section, all lines together.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// AWS refuses smaller chunks unless they are the last one with data.
pub const AWS_CHUNK_BYTES_MIN: u64 = 8192;

/// One step of decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The next data of the object; never empty.
    Data(Bytes),
    /// The input is used up.
    NeedMore,
    /// The body is complete and good. Reported once. More input after it is an error whenever it
    /// comes, so a caller goes on until its input ends and then asks
    /// [`ChunkedDecoder::finish_input`].
    End(Trailers),
}

/// Decodes one aws-chunked body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    form: StreamingForm,
    state: State,
    /// The part of a header or trailer line that has come in so far.
    line: Vec<u8>,
    /// What `x-amz-decoded-content-length` announced, in bytes.
    announced: Option<u64>,
    /// Sum of the sizes of all chunks begun so far.
    decoded: u64,
    chunk_bytes_min: u64,
    /// Size of the latest chunk with data.
    latest_chunk: Option<u64>,
    chunk_signature: Option<[u8; 32]>,
    verifier: Option<ChunkVerifier>,
    checksum: Option<Hasher>,
    trailer: TrailerSection,
    trailer_bytes: usize,
}

#[derive(Debug)]
enum State {
    ChunkHeader,
    /// So many bytes of the chunk are still to come; never 0.
    Data(u64),
    /// The line end behind a chunk's data; whether its CR was seen.
    DataEnd {
        seen_cr: bool,
    },
    /// Trailer lines; whether the previous one ended with a bare LF, which a blank line must
    /// complete.
    Trailer {
        half_ended: bool,
    },
    Done,
    Failed(ChunkedError),
}

impl ChunkedDecoder {
    /// A decoder for one body.
    ///
    /// `decoded_length` is what `x-amz-decoded-content-length` announced, in bytes; `trailer_names`
    /// what `x-amz-trailer` announced. `verifier` is used by the forms with signatures and ignored
    /// by others.
    ///
    /// Errors: [`ChunkedError::UnsupportedTrailer`] for a trailer that could not be verified,
    /// [`ChunkedError::NotImplemented`] for `SigV4A` forms.
    pub fn new(
        form: StreamingForm,
        decoded_length: Option<u64>,
        trailer_names: &[&str],
        verifier: Option<ChunkVerifier>,
    ) -> Result<Self, ChunkedError> {
        if form.is_sigv4a() {
            return Err(ChunkedError::NotImplemented);
        }
        Ok(Self {
            form,
            state: State::ChunkHeader,
            line: Vec::new(),
            announced: decoded_length,
            decoded: 0,
            chunk_bytes_min: 0,
            latest_chunk: None,
            chunk_signature: None,
            verifier: verifier.filter(|_| form.has_signatures()),
            checksum: announced_checksum(trailer_names)?,
            trailer: TrailerSection::default(),
            trailer_bytes: 0,
        })
    }

    /// Like [`new`](Self::new), with length and trailer names read from the request's headers.
    pub fn from_headers(
        form: StreamingForm,
        headers: &HeaderMap,
        verifier: Option<ChunkVerifier>,
    ) -> Result<Self, ChunkedError> {
        let decoded_length = decoded_content_length(headers)?;
        Self::new(form, decoded_length, &announced_trailers(headers)?, verifier)
    }

    /// Refuses chunks smaller than `bytes` unless they are the last, as AWS does with
    /// [`AWS_CHUNK_BYTES_MIN`]. Off by default, because other stores accept them.
    #[must_use]
    pub fn with_chunk_bytes_min(mut self, bytes: u64) -> Self {
        self.chunk_bytes_min = bytes;
        self
    }

    /// Takes what it can from the front of `input`; to be called again until it says
    /// [`Decoded::NeedMore`], then with the next input.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Decoded, ChunkedError> {
        let step = self.step(input);
        if let Err(error) = &step {
            self.state = State::Failed(error.clone());
        }
        step
    }

    /// The input has ended: an error unless [`Decoded::End`] was reported.
    pub fn finish_input(&mut self) -> Result<(), ChunkedError> {
        match &self.state {
            State::Done => Ok(()),
            State::Failed(error) => Err(error.clone()),
            _ => {
                let error = ChunkedError::IncompleteBody("it ended before its last chunk");
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Decoded, ChunkedError> {
        loop {
            if let State::Failed(error) = &self.state {
                return Err(error.clone());
            }
            if input.is_empty() {
                return Ok(Decoded::NeedMore);
            }
            match self.state {
                State::ChunkHeader => {
                    if take_line(&mut self.line, input, CHUNK_HEADER_BYTES_MAX)
                        .map_err(|TooLong| malformed("a chunk header is too long"))?
                    {
                        self.begin_chunk()?;
                    }
                }
                State::Data(remaining) => return self.data(remaining, input),
                State::DataEnd { seen_cr } => {
                    let byte = input.split_to(1);
                    self.state = match (seen_cr, byte.first()) {
                        (false, Some(b'\r')) => State::DataEnd { seen_cr: true },
                        (true, Some(b'\n')) => State::ChunkHeader,
                        _ => return Err(malformed("a chunk is longer than its header says")),
                    };
                }
                State::Trailer { half_ended } => {
                    let budget = TRAILER_BYTES_MAX - self.trailer_bytes;
                    let complete = take_line(&mut self.line, input, budget)
                        .map_err(|TooLong| ChunkedError::MalformedTrailer("it is too long"))?;
                    if complete && let Some(trailers) = self.trailer_line(half_ended)? {
                        if !input.is_empty() {
                            return Err(malformed("bytes follow its end"));
                        }
                        return Ok(Decoded::End(trailers));
                    }
                }
                State::Done => return Err(malformed("bytes follow its end")),
                State::Failed(ref error) => return Err(error.clone()),
            }
        }
    }

    /// Reads the chunk header in `self.line`.
    fn begin_chunk(&mut self) -> Result<(), ChunkedError> {
        let header =
            self.line.strip_suffix(b"\r\n").ok_or(malformed("a chunk header ends badly"))?;
        let (size, signature) = parse_chunk_header(header)?;
        if signature.is_none() && self.form.has_signatures() {
            return Err(malformed("a chunk has no signature"));
        }
        if signature.is_some() && self.form == StreamingForm::UnsignedTrailer {
            return Err(malformed("a chunk of an unsigned payload is signed"));
        }
        self.line.clear();
        self.chunk_signature = signature;
        let total = self.decoded.checked_add(size);
        self.decoded = total
            .filter(|total| self.announced.is_none_or(|announced| *total <= announced))
            .ok_or(malformed("it is longer than announced"))?;
        if size == 0 {
            if self.announced.is_some_and(|announced| announced != self.decoded) {
                return Err(malformed("it is shorter than announced"));
            }
            self.check_chunk()?;
            self.state = State::Trailer { half_ended: false };
            return Ok(());
        }
        if self.latest_chunk.replace(size).is_some_and(|latest| latest < self.chunk_bytes_min) {
            return Err(ChunkedError::InvalidChunkSize);
        }
        self.state = State::Data(size);
        Ok(())
    }

    /// Hands out data of the current chunk, the last of it only if the chunk's signature is right.
    fn data(&mut self, remaining: u64, input: &mut Bytes) -> Result<Decoded, ChunkedError> {
        let wanted = usize::try_from(remaining).unwrap_or(usize::MAX);
        let piece = input.split_to(wanted.min(input.len()));
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&piece);
        }
        if let Some(verifier) = &mut self.verifier {
            verifier.update(&piece);
        }
        let remaining = remaining - piece.len() as u64;
        if remaining == 0 {
            self.check_chunk()?;
            self.state = State::DataEnd { seen_cr: false };
        } else {
            self.state = State::Data(remaining);
        }
        Ok(Decoded::Data(piece))
    }

    fn check_chunk(&mut self) -> Result<(), ChunkedError> {
        let signature = self.chunk_signature.take();
        let Some(verifier) = &mut self.verifier else {
            return Ok(());
        };
        let signature = signature.ok_or(ChunkedError::SignatureMismatch)?;
        if verifier.finish_chunk(&signature) {
            Ok(())
        } else {
            Err(ChunkedError::SignatureMismatch)
        }
    }

    /// Reads the trailer line in `self.line`; gives the trailers if it was the blank one at the
    /// end.
    fn trailer_line(&mut self, half_ended: bool) -> Result<Option<Trailers>, ChunkedError> {
        self.trailer_bytes += self.line.len();
        let (content, bare) = match (self.line.strip_suffix(b"\r\n"), self.line.strip_suffix(b"\n"))
        {
            (Some(content), _) => (content, false),
            (None, Some(content)) => (content, true),
            (None, None) => return Err(ChunkedError::MalformedTrailer("a line ends badly")),
        };
        match (half_ended, content.is_empty(), bare) {
            // The CR LF that completes a line ended with a bare LF.
            (true, true, false) => self.state = State::Trailer { half_ended: false },
            (false, false, bare) => {
                let expected = self.checksum.as_ref().map(Hasher::algorithm);
                self.trailer.line(content, self.form, expected)?;
                self.state = State::Trailer { half_ended: bare };
            }
            (false, true, false) => return self.end().map(Some),
            (true, ..) | (_, true, true) => {
                return Err(ChunkedError::MalformedTrailer("a line ends badly"));
            }
        }
        self.line.clear();
        Ok(None)
    }

    /// The blank line behind the trailer has come: judges the whole body.
    fn end(&mut self) -> Result<Trailers, ChunkedError> {
        let section = std::mem::take(&mut self.trailer);
        let checksum = section.finish(self.form, self.verifier.as_mut(), self.checksum.take())?;
        self.state = State::Done;
        Ok(Trailers { checksum, decoded_bytes: self.decoded })
    }
}

/// A line exceeds its limit.
struct TooLong;

/// Moves bytes from `input` to `line` up to and including an LF; whether one was found. A complete
/// line has at most `bytes_max` bytes.
fn take_line(line: &mut Vec<u8>, input: &mut Bytes, bytes_max: usize) -> Result<bool, TooLong> {
    let budget = bytes_max.saturating_sub(line.len());
    let window = input.get(..budget).unwrap_or(input);
    let found = window.iter().position(|byte| *byte == b'\n');
    if found.is_none() && input.len() >= budget {
        return Err(TooLong);
    }
    let length = found.map_or(input.len(), |at| at + 1);
    line.extend_from_slice(&input.split_to(length));
    Ok(found.is_some())
}

/// Splits `hex[;chunk-signature=hex]`.
fn parse_chunk_header(header: &[u8]) -> Result<(u64, Option<[u8; 32]>), ChunkedError> {
    let mut parts = header.splitn(2, |byte| *byte == b';');
    let size = parts.next().unwrap_or_default();
    // 16 hex digits hold every u64, so that the sum below cannot overflow.
    if size.is_empty() || size.len() > 16 {
        return Err(malformed("a chunk size is not a number"));
    }
    let mut value = 0u64;
    for byte in size {
        let digit =
            char::from(*byte).to_digit(16).ok_or(malformed("a chunk size is not a number"))?;
        value = (value << 4) | u64::from(digit);
    }
    let Some(extension) = parts.next() else {
        return Ok((value, None));
    };
    let mut signature = [0u8; 32];
    extension
        .strip_prefix(b"chunk-signature=")
        .and_then(|hex| hex::decode_to_slice(hex, &mut signature).ok())
        .ok_or(malformed("a chunk extension is not a signature"))?;
    Ok((value, Some(signature)))
}

fn malformed(why: &'static str) -> ChunkedError {
    ChunkedError::IncompleteBody(why)
}

//! Signing bodies, for a service that refuses `UNSIGNED-PAYLOAD` (`signed-payload`).
//!
//! What is in memory goes with its hash. What streams goes in signed chunks, the form that S3 has
//! for it: a signature stands in front of its chunk, so one chunk is held at a time and nothing
//! else, and main can take the object for complete only behind the last signature of all.
//!
//! S3 defines signed chunks for `PutObject` and `UploadPart`. Whoever streams another body gives its
//! hash along, or has it in memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use super::body::{Body, BoxError, stream};
use super::sign::{ChunkSigner, UNSIGNED_PAYLOAD, hex};
use crate::s3::checksum::{ChecksumAlgorithm, Hasher};

/// `x-amz-content-sha256` of a body that comes with a trailer of its own ([`Frame::trailers`]), and
/// is signed chunk by chunk, trailer included.
pub const SIGNED_TRAILER: HeaderValue =
    HeaderValue::from_static("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER");
const SIGNED_CHUNKS: HeaderValue = HeaderValue::from_static("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");

/// Bytes of the object per chunk, as SDKs have them; S3 wants 8 KiB at least.
const CHUNK_BYTES: u64 = 64 * 1024;
/// What stands before and behind the digits of a signature in the head of a chunk.
const CHUNK_HEAD_REST: u64 = ";chunk-signature=\r\n".len() as u64 + SIGNATURE;
const SIGNATURE: u64 = 64;
const LINE_END: u64 = 2;

/// What `x-amz-content-sha256` says instead of `payload`, and whether the body then has to go
/// [`in_chunks`]; their length becomes a header. The announcement `aws-chunked` is left out, as
/// minio-go does: services that take it for a part of the object would keep it.
pub(super) fn signed(
    payload: HeaderValue,
    body: &Body,
    headers: &mut HeaderMap,
) -> (HeaderValue, bool) {
    let length = body.size_hint().exact();
    let payload = match length {
        _ if payload == SIGNED_TRAILER => payload,
        _ if payload != UNSIGNED_PAYLOAD => return (payload, false),
        // Without a length the service refuses either form.
        None => return (payload, false),
        Some(_) => {
            let whole = body.in_memory().or_else(|| (length == Some(0)).then_some(&[]));
            if let Some(bytes) = whole {
                let hash = hex(Sha256::digest(bytes).into());
                return (HeaderValue::from_bytes(&hash).unwrap_or(UNSIGNED_PAYLOAD), false);
            }
            SIGNED_CHUNKS
        }
    };
    headers.insert(DECODED_LENGTH, HeaderValue::from(length.unwrap_or(0)));
    (payload, true)
}

/// The body in chunks that are signed one after the other.
pub(super) fn in_chunks(body: Body, signer: ChunkSigner, headers: &HeaderMap) -> Body {
    let length = body.size_hint().exact().unwrap_or(0);
    let trailer = headers.get(TRAILER).and_then(|name| HeaderName::try_from(name.as_bytes()).ok());
    stream(SignedChunks {
        wire_length: wire_length(length, trailer.as_ref()),
        body,
        signer,
        trailer,
        left: length,
        chunk: VecDeque::new(),
        filled: 0,
        hasher: Sha256::new(),
        ready: VecDeque::new(),
        ended: false,
    })
}

struct SignedChunks {
    body: Body,
    signer: ChunkSigner,
    /// Name of what stands in the trailer.
    trailer: Option<HeaderName>,
    /// Bytes of the object that are still to come.
    left: u64,
    /// The pieces of the chunk that is being filled.
    chunk: VecDeque<Bytes>,
    filled: u64,
    hasher: Sha256,
    /// May be sent.
    ready: VecDeque<Bytes>,
    /// Everything is in `ready`.
    ended: bool,
    wire_length: u64,
}

impl SignedChunks {
    /// Takes in a piece of the object.
    fn accept(&mut self, mut data: Bytes) -> Result<(), BoxError> {
        while !data.is_empty() {
            let room = CHUNK_BYTES.min(self.filled + self.left) - self.filled;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            if room == 0 {
                return Err("the body is longer than announced".into());
            }
            let piece = data.split_to(room.min(data.len()));
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.hasher.update(&piece);
            self.filled += length;
            self.left -= length;
            self.chunk.push_back(piece);
            if self.filled == CHUNK_BYTES || self.left == 0 {
                self.close();
            }
        }
        Ok(())
    }

    /// The chunk is whole: its signature, its bytes, the end of its line.
    fn close(&mut self) {
        let signature = self.signer.chunk(self.hasher.finalize_reset().into());
        let head = format!("{:x};chunk-signature={signature}\r\n", self.filled);
        self.ready.push_back(head.into());
        self.ready.append(&mut self.chunk);
        self.ready.push_back(Bytes::from_static(b"\r\n"));
        self.filled = 0;
    }

    /// The object is whole: a chunk of nothing, and the trailer.
    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), BoxError> {
        if self.left > 0 {
            return Err("the body is shorter than announced".into());
        }
        let signature = self.signer.chunk(Sha256::digest([]).into());
        let mut end = format!("0;chunk-signature={signature}\r\n");
        if let Some(name) = &self.trailer {
            let value = trailers.and_then(|trailers| trailers.get(name)?.to_str().ok());
            let value = value.ok_or("the announced trailer is missing")?;
            let signature = self.signer.trailer(format!("{name}:{value}\n").as_bytes());
            end.extend([
                name.as_str(),
                ":",
                value,
                "\r\nx-amz-trailer-signature:",
                signature,
                "\r\n",
            ]);
        }
        end.push_str("\r\n");
        self.ready.push_back(end.into());
        self.ended = true;
        Ok(())
    }
}

impl http_body::Body for SignedChunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let taken = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.accept(data),
                    Err(frame) => this.finish(frame.trailers_ref()),
                },
                Some(Err(error)) => Err(error),
                None => this.finish(None),
            };
            if let Err(error) = taken {
                this.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.wire_length)
    }
}

/// Length on the wire of an object of `length` bytes.
fn wire_length(length: u64, trailer: Option<&HeaderName>) -> u64 {
    let framed = |bytes: u64| {
        let digits = u64::from((u64::BITS - bytes.leading_zeros()).div_ceil(4));
        digits + CHUNK_HEAD_REST + bytes + LINE_END
    };
    let rest = length % CHUNK_BYTES;
    let chunks = length / CHUNK_BYTES * framed(CHUNK_BYTES);
    let chunks = chunks + if rest > 0 { framed(rest) } else { 0 };
    let end = 1 + CHUNK_HEAD_REST + LINE_END;
    chunks + end + trailer.map_or(0, trailer_length)
}

fn trailer_length(name: &HeaderName) -> u64 {
    // Every value of an algorithm is as long as that of nothing.
    let algorithm = ChecksumAlgorithm::from_header_name(name.as_str());
    let hasher = algorithm.and_then(ChecksumAlgorithm::hasher);
    let value = hasher.map(Hasher::finish).unwrap_or_default();
    let lines = name.as_str().len() + value.len() + ":\r\nx-amz-trailer-signature:\r\n".len();
    u64::try_from(lines).unwrap_or(0) + SIGNATURE
}

#[cfg(test)]
mod tests;

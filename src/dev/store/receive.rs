//! Receiving a body: from the wire to bytes that may be committed.
//!
//! Nothing that arrives is visible until [`receive`] has returned: length, `Content-MD5`, the
//! checksum in a header or trailer are compared first, and the payload hash and chunk signatures
//! fail the stream itself. A body that is refused, or whose client leaves, removes its own file.
//!
//! Memory per body is at most two write buffers of [`WRITE_BYTES`]: one being filled from the
//! network while the other is hashed and written.

use std::mem;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use md5::{Digest as _, Md5};
use s3s::{S3ErrorCode, StdError, TrailingHeaders};
use tokio::task::JoinHandle;

use super::checksum::{Algorithm, Announced, Hasher, StoredChecksum, announced};
use super::fault::{Answer, bad_digest, body_fault, incomplete_body, internal, invalid, refuse};
use super::files::{BodyFiles, FreshFile};

/// Bodies up to this size live in their index row: one commit, no file.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// How much is gathered before a blocking thread is asked to hash and write it.
const WRITE_BYTES: usize = 256 * 1024;

/// The largest body of one PUT, part or copy (J4): 5 GiB.
pub(super) const BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// What a request promises about its body.
#[derive(Debug, Default)]
pub(super) struct Promise {
    length: Option<u64>,
    md5: Option<Vec<u8>>,
    checksum: Option<Announced>,
}

/// Where the bytes of a body wait for their row.
#[derive(Debug)]
pub(super) enum NewBody {
    Inline(Vec<u8>),
    File(FreshFile),
}

/// A complete body that kept every promise.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) body: NewBody,
    pub(super) size: u64,
    /// Lower-case hex: the `ETag` of an object stored in one piece.
    pub(super) md5: String,
    pub(super) checksum: Option<StoredChecksum>,
}

impl Promise {
    /// Reads the promises of an upload.
    ///
    /// # Errors
    /// 411 without a length, `EntityTooLarge`, `InvalidDigest`, or what [`announced`] refuses.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Self> {
        let number = |name| {
            let value = headers.get(name)?;
            value.to_str().ok()?.parse::<u64>().ok()
        };
        let length = number("x-amz-decoded-content-length").or_else(|| number("content-length"));
        let Some(length) = length else {
            return Err(refuse(
                S3ErrorCode::MissingContentLength,
                "You must provide the Content-Length HTTP header.",
            ));
        };
        if length > BODY_BYTES_MAX {
            return Err(refuse(
                S3ErrorCode::EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size",
            ));
        }
        let md5 = match headers.get("content-md5") {
            None => None,
            Some(value) => Some(
                BASE64.decode(value.as_bytes()).ok().filter(|raw| raw.len() == 16).ok_or_else(
                    || {
                        let message = "The Content-MD5 you specified was invalid.";
                        refuse(S3ErrorCode::InvalidDigest, message)
                    },
                )?,
            ),
        };
        Ok(Self { length: Some(length), md5, checksum: announced(headers)? })
    }

    /// The body will live in its index row.
    pub(super) fn is_small(&self) -> bool {
        self.length.is_some_and(|length| length <= INLINE_BYTES_MAX as u64)
    }
}

/// The half of the work that runs on blocking threads.
struct Sink {
    files: BodyFiles,
    file: Option<FreshFile>,
    md5: Md5,
    checksum: Option<(Algorithm, Hasher)>,
}

impl Sink {
    fn hash(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some((_, hasher)) = &mut self.checksum {
            hasher.update(bytes);
        }
    }

    fn absorb(&mut self, buffers: &[Bytes]) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(self.files.create()?);
        }
        for buffer in buffers {
            self.hash(buffer);
            if let Some(file) = &mut self.file {
                file.write(buffer)?;
            }
        }
        Ok(())
    }
}

/// A sink at rest, or at work on another thread.
enum Work {
    Idle(Box<Sink>),
    Busy(JoinHandle<std::io::Result<Box<Sink>>>),
}

impl Work {
    async fn settle(self) -> Answer<Box<Sink>> {
        match self {
            Self::Idle(sink) => Ok(sink),
            Self::Busy(task) => {
                let done = task.await.map_err(|error| internal("writing a body", error))?;
                done.map_err(|error| internal("writing a body", error))
            }
        }
    }

    async fn absorb(self, buffers: Vec<Bytes>) -> Answer<Self> {
        let mut sink = self.settle().await?;
        Ok(Self::Busy(tokio::task::spawn_blocking(move || {
            sink.absorb(&buffers)?;
            Ok(sink)
        })))
    }
}

/// Receives a body and holds it to its promises.
///
/// `compute` names an algorithm to compute even if the client announced none. `inline` allows a
/// small body to stay in memory for its index row; parts always become files.
pub(super) async fn receive<S>(
    files: &BodyFiles,
    body: S,
    promise: Promise,
    trailers: Option<TrailingHeaders>,
    compute: Option<Algorithm>,
    inline: bool,
) -> Answer<Received>
where
    S: Stream<Item = Result<Bytes, StdError>> + Send,
{
    let algorithm = match &promise.checksum {
        Some(Announced::Header(algorithm, _) | Announced::Trailer(algorithm)) => Some(*algorithm),
        None => compute,
    };
    let checksum = algorithm.map(|algorithm| (algorithm, Hasher::new(algorithm)));
    let sink = Sink { files: files.clone(), file: None, md5: Md5::new(), checksum };
    let mut work = Work::Idle(Box::new(sink));
    let mut body = std::pin::pin!(body);
    let mut size = 0_u64;
    let mut buffers = Vec::new();
    let mut buffered = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| body_fault(&error))?;
        size += bytes.len() as u64;
        if size > promise.length.unwrap_or(BODY_BYTES_MAX) {
            return Err(incomplete_body());
        }
        buffered += bytes.len();
        buffers.push(bytes);
        if buffered >= WRITE_BYTES {
            work = work.absorb(mem::take(&mut buffers)).await?;
            buffered = 0;
        }
    }
    if promise.length.is_some_and(|length| length != size) {
        return Err(incomplete_body());
    }
    let small = inline && size <= INLINE_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    let mut sink = if small {
        let mut sink = work.settle().await?;
        bytes = buffers.concat();
        sink.hash(&bytes);
        sink
    } else {
        work.absorb(buffers).await?.settle().await?
    };
    let md5 = mem::take(&mut sink.md5).finalize();
    if promise.md5.is_some_and(|promised| promised != md5.as_slice()) {
        return Err(bad_digest("Content-MD5"));
    }
    let checksum = sink.checksum.take().map(|(algorithm, hasher)| (algorithm, hasher.finish()));
    let promised = match promise.checksum {
        None => None,
        Some(Announced::Header(algorithm, raw)) => Some((algorithm, raw)),
        Some(Announced::Trailer(algorithm)) => Some((algorithm, trailer(algorithm, trailers)?)),
    };
    if let (Some((algorithm, promised)), Some((_, computed))) = (&promised, &checksum)
        && promised != computed
    {
        return Err(bad_digest(algorithm.name()));
    }
    let body = match sink.file.take() {
        None => NewBody::Inline(bytes),
        Some(mut file) => {
            let publish = move || file.publish().map(|()| file);
            let file = tokio::task::spawn_blocking(publish).await;
            let file = file.map_err(|error| internal("publishing a body", error))?;
            NewBody::File(file.map_err(|error| internal("publishing a body", error))?)
        }
    };
    let checksum = checksum.map(|(algorithm, raw)| StoredChecksum::full(algorithm, &raw));
    Ok(Received { body, size, md5: hex::encode(md5), checksum })
}

/// The value of the one trailer that was announced. `s3s` has read, and if signed verified, the
/// trailers by the time the body has ended.
fn trailer(algorithm: Algorithm, trailers: Option<TrailingHeaders>) -> Answer<Vec<u8>> {
    let missing = || {
        let message = "The request contained trailing data that was not well-formed or did not \
                       conform to our published schema.";
        super::fault::refuse_as("MalformedTrailerError", http::StatusCode::BAD_REQUEST, message)
    };
    let trailers = trailers
        .ok_or_else(|| invalid("x-amz-trailer needs a streaming x-amz-content-sha256."))?
        .take()
        .ok_or_else(missing)?;
    algorithm.decode(trailers.get(algorithm.header()).ok_or_else(missing)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: &[&[u8]]) -> impl Stream<Item = Result<Bytes, StdError>> + Send + use<> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        futures_util::stream::iter(parts)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_body_that_breaks_a_promise_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = BodyFiles::open(dir.path(), false, 1).unwrap();
        let big = vec![7_u8; 600 * 1024];
        let length = big.len().to_string();
        for wrong in [
            headers(&[("content-length", "5")]),
            headers(&[("content-length", "700000")]),
            headers(&[("content-length", &length), ("x-amz-checksum-crc32", "AAAAAA==")]),
            headers(&[("content-length", &length), ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")]),
        ] {
            let promise = Promise::of(&wrong).unwrap();
            let body = stream(&[&big]);
            receive(&files, body, promise, None, None, true).await.unwrap_err();
        }
        assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn small_bodies_stay_in_the_row_and_large_ones_become_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = BodyFiles::open(dir.path(), false, 1).unwrap();
        let small = receive(&files, stream(&[b"he", b"llo"]), Promise::default(), None, None, true);
        let small = small.await.unwrap();
        assert!(matches!(&small.body, NewBody::Inline(bytes) if bytes == b"hello"));
        assert_eq!(small.md5, "5d41402abc4b2a76b9719d911017c592");
        let big = vec![1_u8; INLINE_BYTES_MAX + 1];
        let large = receive(&files, stream(&[&big]), Promise::default(), None, None, true).await;
        assert!(matches!(large.unwrap().body, NewBody::File(_)));
    }
}

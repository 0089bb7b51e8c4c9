//! Reading an object out: a range of its bytes, wherever they lie, as a stream.
//!
//! One read of [`READ_BYTES`] is in memory at a time. A body that turns out shorter than its row
//! says ends with an error, which cuts the client's connection: never with a clean short body.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use s3s::StdError;

use super::fault::{Answer, internal};
use super::files::{BodyFiles, FileId, Lease};
use super::index::objects::ObjectRow;

/// How much one visit to a blocking thread reads.
const READ_BYTES: u64 = 256 * 1024;

/// The bytes of an object on their way out, as a stream (for copies) and as a response body.
pub(super) struct Delivery {
    left: u64,
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

/// Bytes of one body file.
#[derive(Debug)]
struct Segment {
    file: FileId,
    offset: u64,
    left: u64,
}

/// Where a delivery stands.
#[derive(Debug)]
struct Cursor {
    files: BodyFiles,
    segments: VecDeque<Segment>,
    open: Option<File>,
    /// Keeps the files in place when the object is replaced meanwhile.
    _lease: Lease,
}

impl Delivery {
    /// Opens `range` of an object that was read with its body. The lease must be older than the
    /// reading of the row. The first read has succeeded when this returns.
    pub(super) async fn open(
        files: &BodyFiles,
        object: &ObjectRow,
        range: Range<u64>,
        lease: Lease,
    ) -> Answer<Self> {
        let left = range.end - range.start;
        if let Some(inline) = &object.inline {
            let bounds = usize::try_from(range.start)
                .and_then(|start| usize::try_from(range.end).map(|end| start..end))
                .map_err(|error| internal("reading a body", error))?;
            if bounds.end > inline.len() {
                return Err(internal("reading a body", "the row is shorter than its size"));
            }
            let bytes = inline.slice(bounds);
            return Ok(Self { left, stream: Box::pin(stream::iter([Ok(bytes)])) });
        }
        let segments = segments(object, range);
        let cursor = Cursor { files: files.clone(), segments, open: None, _lease: lease };
        let Some((first, cursor)) = cursor.step().await else {
            return Ok(Self { left, stream: Box::pin(stream::empty()) });
        };
        let first = first.map_err(|error| internal("reading a body", error))?;
        let rest = stream::unfold(cursor, Cursor::step);
        Ok(Self { left, stream: Box::pin(stream::iter([Ok(first)]).chain(rest)) })
    }
}

/// Which bytes of which files make up the range.
fn segments(object: &ObjectRow, range: Range<u64>) -> VecDeque<Segment> {
    let single = object.file.map(|file| (file, object.size));
    let parts = object.parts.iter().map(|part| (part.file, part.size));
    let mut start = 0;
    let mut segments = VecDeque::new();
    for (file, size) in single.into_iter().chain(parts) {
        let end = start + size;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            segments.push_back(Segment { file, offset: from - start, left: to - from });
        }
        start = end;
    }
    segments
}

impl Cursor {
    async fn step(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if self.segments.is_empty() {
            return None;
        }
        let task = tokio::task::spawn_blocking(move || {
            let read = self.read();
            if read.is_err() {
                self.segments.clear();
            }
            (read, self)
        });
        // The task can only be gone if the runtime is, and then nobody polls this.
        task.await.ok()
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let Some(segment) = self.segments.front_mut() else {
            return Ok(Bytes::new());
        };
        let file = if let Some(file) = &mut self.open {
            file
        } else {
            let mut file = self.files.read(segment.file)?;
            file.seek(SeekFrom::Start(segment.offset))?;
            self.open.insert(file)
        };
        let wanted = segment.left.min(READ_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
        file.take(wanted).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != wanted {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a body file is too short"));
        }
        segment.left -= wanted;
        if segment.left == 0 {
            self.segments.pop_front();
            self.open = None;
        }
        Ok(Bytes::from(bytes))
    }
}

impl Stream for Delivery {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.left = self.left.saturating_sub(bytes.len() as u64);
        }
        next.map_err(StdError::from)
    }
}

impl http_body::Body for Delivery {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.poll_next(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

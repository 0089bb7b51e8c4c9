//! Main's response on its way to the client, and the judgement at its end.
//!
//! Bytes pass through untouched. A body that breaks off breaks the client's connection too and
//! never looks like a clean end. Where success is told inside the body, a bounded copy of it is
//! gathered; if the client leaves first, the rest is read in the background, because the intent
//! has to be settled.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::record::Record;
use crate::http1::splice::{Pipe, SpliceBody};
use crate::upstream::{BoxError, Received, WireError};

/// Longest result document that is judged: 1000 keys of 1 KiB, escaped.
const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the rest of a response is read after the client has left. Completing a large upload
/// takes main minutes, during which it sends white space.
const ORPHAN_TIMEOUT: Duration = Duration::from_mins(10);

/// Settles intents by the result document; gets `None` when the document broke off.
pub(super) type Judge = Box<dyn FnOnce(Option<Bytes>) + Send>;

/// What a client is sent.
pub struct ResponseBody {
    source: Source,
    record: Option<Box<Record>>,
    counts: bool,
    judge: Option<(Judge, Document)>,
}

enum Source {
    Fixed(Option<Bytes>),
    /// What has been read of it already stands in front.
    Begun(Bytes, Received),
    Main(Received),
    Gone,
}

impl ResponseBody {
    /// A body of our own.
    pub(super) fn fixed(bytes: Bytes, record: Box<Record>) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Fixed(bytes), record: Some(record), counts: false, judge: None }
    }

    /// The body of a request whose task failed, and with it its record.
    pub(super) fn lost() -> Self {
        Self { source: Source::Gone, record: None, counts: false, judge: None }
    }

    /// Main's body. `counts`: its bytes are those of the object, for the log line.
    pub(super) fn main(
        body: Received,
        record: Box<Record>,
        counts: bool,
        judge: Option<Judge>,
    ) -> Self {
        let judge = judge.map(|judge| (judge, Document::default()));
        Self { source: Source::Main(body), record: Some(record), counts, judge }
    }

    /// Another body and status for the client, in the same record.
    pub(super) fn replaced(mut self, status: StatusCode, bytes: Bytes) -> Self {
        let mut record = self.record.take();
        if let Some(record) = &mut record {
            record.status = Some(status);
        }
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Fixed(bytes), record, counts: false, judge: None }
    }

    /// The same behind what has been read of it already. Its length must not be known.
    pub(super) fn behind(mut self, beginning: Bytes) -> Self {
        self.source = match std::mem::replace(&mut self.source, Source::Gone) {
            Source::Main(body) => Source::Begun(beginning, body),
            other => other,
        };
        self
    }

    fn count(&mut self, bytes: usize) {
        if self.counts
            && let Some(record) = &mut self.record
        {
            record.bytes += u64::try_from(bytes).unwrap_or(0);
        }
    }

    fn passed(&mut self, data: &Bytes) {
        self.count(data.len());
        if let Some((_, document)) = &mut self.judge {
            document.add(data);
        }
    }

    fn broke_off(&mut self, error: WireError) -> BoxError {
        if let Some(record) = &mut self.record {
            record.error = Some(format!("response of main broke off: {error}"));
        }
        self.ended(false);
        error.into()
    }

    fn ended(&mut self, whole: bool) {
        self.source = Source::Gone;
        if let Some((judge, document)) = self.judge.take() {
            judge(document.end(whole));
        }
    }
}

/// A bounded copy of a result document.
#[derive(Default)]
struct Document {
    bytes: BytesMut,
    is_too_long: bool,
}

impl Document {
    fn add(&mut self, data: &Bytes) {
        self.is_too_long |= self.bytes.len() + data.len() > DOCUMENT_BYTES_MAX;
        if !self.is_too_long {
            self.bytes.extend_from_slice(data);
        }
    }

    /// All of it, if it has come to its end and was kept.
    fn end(self, whole: bool) -> Option<Bytes> {
        (whole && !self.is_too_long).then(|| self.bytes.freeze())
    }
}

impl SpliceBody for ResponseBody {
    fn splices(&self) -> bool {
        self.judge.is_none() && matches!(&self.source, Source::Main(body) if body.splices())
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, BoxError>>> {
        let Self { source: Source::Main(body), judge: None, .. } = self else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(body.poll_splice(context, pipe, max)) {
            Some(Ok(moved)) => {
                self.count(moved);
                Some(Ok(moved))
            }
            Some(Err(error)) => Some(Err(self.broke_off(error))),
            None => None,
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if matches!(this.source, Source::Begun(..))
            && let Source::Begun(beginning, body) =
                std::mem::replace(&mut this.source, Source::Gone)
        {
            this.source = Source::Main(body);
            this.passed(&beginning);
            return Poll::Ready(Some(Ok(Frame::data(beginning))));
        }
        let frame = match &mut this.source {
            Source::Fixed(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Begun(..) | Source::Gone => return Poll::Ready(None),
            Source::Main(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.passed(data);
                }
                // Nobody polls again who has all bytes of a known length.
                if let Source::Main(body) = &this.source
                    && body.is_end_stream()
                {
                    this.ended(true);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(this.broke_off(error)))),
            None => {
                this.ended(true);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Begun(..) => false,
            Source::Main(body) => body.is_end_stream() && self.judge.is_none(),
            Source::Gone => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Fixed(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Source::Begun(..) => SizeHint::default(),
            Source::Main(body) => body.size_hint(),
            Source::Gone => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some((judge, mut document)) = self.judge.take() else {
            return;
        };
        let Source::Main(mut body) = std::mem::replace(&mut self.source, Source::Gone) else {
            return judge(None);
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return judge(None);
        };
        runtime.spawn(async move {
            let whole = tokio::time::timeout(ORPHAN_TIMEOUT, async {
                while let Some(frame) = body.frame().await {
                    let Ok(frame) = frame else { return false };
                    if let Some(data) = frame.data_ref() {
                        document.add(data);
                    }
                }
                true
            });
            let whole = whole.await.unwrap_or(false);
            judge(document.end(whole));
        });
    }
}

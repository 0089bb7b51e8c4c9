//! Bodies of requests on their way upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use super::wire::Received;
use crate::http1::splice::{Pipe, SpliceBody};

/// Error type of bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body on its way upstream; its exact size hint becomes `Content-Length`.
pub struct Body(Inner);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

/// What most requests have, nothing or a few bytes, needs no allocation.
enum Inner {
    Bytes(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
    /// It may stand in a socket.
    Moving(Box<dyn SpliceBody<Error = BoxError> + Send + Unpin>),
}

/// An empty body.
pub fn empty() -> Body {
    Body(Inner::Bytes(None))
}

/// A body in memory.
pub fn full(bytes: Bytes) -> Body {
    Body(Inner::Bytes(Some(bytes).filter(|bytes| !bytes.is_empty())))
}

/// A body of any kind.
pub fn stream<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    Body(Inner::Stream(body.boxed_unsync()))
}

/// A body that may be moved from socket to socket.
pub fn moving<B>(body: B) -> Body
where
    B: SpliceBody<Error = BoxError> + Send + Unpin + 'static,
{
    Body(Inner::Moving(Box::new(body)))
}

/// What is being read of another service, of exactly `length` bytes.
pub fn copied(body: Received, length: u64) -> Body {
    moving(Sized { body, length })
}

/// A stream of exactly `length` bytes, sent with that `Content-Length`. A shorter one breaks the
/// connection and never ends up as an object.
pub fn sized<B>(body: B, length: u64) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    stream(Sized { body, length })
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(body) => Pin::new(body).poll_frame(context),
            Inner::Moving(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Bytes(bytes) => bytes.is_none(),
            Inner::Stream(body) => body.is_end_stream(),
            Inner::Moving(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Bytes(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Inner::Stream(body) => body.size_hint(),
            Inner::Moving(body) => body.size_hint(),
        }
    }
}

impl SpliceBody for Body {
    fn splices(&self) -> bool {
        matches!(&self.0, Inner::Moving(body) if body.splices())
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, BoxError>>> {
        let Inner::Moving(body) = &mut self.0 else { return Poll::Ready(None) };
        body.poll_splice(context, pipe, max)
    }
}

impl Body {
    /// The whole of it, if it is in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        match &self.0 {
            Inner::Bytes(bytes) => Some(bytes.as_deref().unwrap_or_default()),
            Inner::Stream(_) | Inner::Moving(_) => None,
        }
    }
}

struct Sized<B> {
    body: B,
    length: u64,
}

impl<B> http_body::Body for Sized<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

impl SpliceBody for Sized<Received> {
    fn splices(&self) -> bool {
        self.body.splices()
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, BoxError>>> {
        let polled = self.body.poll_splice(context, pipe, max);
        polled.map(|moved| moved.map(|moved| moved.map_err(Into::into)))
    }
}

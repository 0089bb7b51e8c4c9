//! The body of a client's request as its connection brings it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::{Body, Frame};

use super::error::S3Error;
use super::http1::Http1Body;
use super::http2::Http2Body;
use crate::http1::splice::{Pipe, SpliceBody};

/// The body of one request.
pub(super) enum Incoming {
    Http1(Http1Body),
    Http2(Http2Body),
}

impl Incoming {
    /// Does only its end tell how long it is? HTTP/2 has no word for that: it just names no
    /// length.
    pub(super) fn is_open_ended(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Http1(body) => !body.is_end_stream() && headers.contains_key(TRANSFER_ENCODING),
            Self::Http2(body) => !headers.contains_key(CONTENT_LENGTH) && !body.is_end_stream(),
        }
    }
}

impl SpliceBody for Incoming {
    fn splices(&self) -> bool {
        matches!(self, Self::Http1(body) if body.splices())
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, S3Error>>> {
        let Self::Http1(body) = self else { return Poll::Ready(None) };
        let polled = body.poll_splice(context, pipe, max);
        polled.map(|moved| moved.map(|moved| moved.map_err(|error| S3Error::incomplete(&error))))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = S3Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        match self.get_mut() {
            Self::Http1(body) => body
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|error| S3Error::incomplete(&error)))),
            Self::Http2(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|error| S3Error::incomplete(&error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }
}

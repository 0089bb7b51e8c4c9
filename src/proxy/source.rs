//! Where the bytes of an object come from: the client's request as it is, or the file of a form.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HeaderMap};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use super::digest::Checked;
use super::error::S3Error;
use super::incoming::Incoming;
use super::patience::Patience;
use crate::http1::splice::{Pipe, SpliceBody};
use crate::s3::form::{FormEvent, FormReader};

/// How much of an unread body is read over, and for how long, so that a client that is still sending
/// gets to see why it should not have. Behind that the connection is closed.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// The body of a request before anything is decoded. Its errors say what the client did wrong.
///
/// Dropped before its end, it reads over what the client is still sending, within limits: closing
/// at once would make the client's machine throw away the answer. A client that waits to be told to
/// go on (`Expect: 100-continue`) is not told to by that.
pub(super) struct Source(Kind);

enum Kind {
    Client(Incoming, Patience, Expectation),
    Form(Box<FormFile>),
    Checked(Box<Checked>),
    Whole(Option<Bytes>),
    Gone,
}

/// Whether the client sends its body without being asked.
#[derive(Debug, Clone)]
pub(super) enum Expectation {
    /// It does.
    None,
    /// It waits for `100 Continue`, which is sent when its body is first read.
    Continue(Arc<AtomicBool>),
}

impl Expectation {
    /// As the request says.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let expects = headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if expects { Self::Continue(Arc::default()) } else { Self::None }
    }

    /// Is the client still waiting? Then the connection can carry no further request.
    pub(super) fn waits(&self) -> bool {
        match self {
            Self::None => false,
            Self::Continue(asked) => !asked.load(Ordering::Relaxed),
        }
    }

    fn met(&self) {
        if let Self::Continue(asked) = self {
            asked.store(true, Ordering::Relaxed);
        }
    }
}

impl Source {
    /// The client's body as it comes, in at most `patience` for every so many bytes.
    pub(super) fn client(body: Incoming, patience: Duration, expectation: Expectation) -> Self {
        Self(Kind::Client(body, Patience::new(patience), expectation))
    }

    /// The file of a form.
    pub(super) fn form(file: FormFile) -> Self {
        Self(Kind::Form(Box::new(file)))
    }

    /// A body whose checksum is compared at its end.
    pub(super) fn checked(body: Checked) -> Self {
        Self(Kind::Checked(Box::new(body)))
    }

    /// Bytes that are here already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl Source {
    /// What has come from the client, or has not for too long.
    fn came<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Option<Result<T, S3Error>>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<Option<Result<T, S3Error>>> {
        let Kind::Client(_, patience, _) = &mut self.0 else { return polled };
        match &polled {
            Poll::Pending => {
                ready!(patience.poll_lost(context));
                // Nothing is read over: it would have to be waited for as well.
                self.0 = Kind::Gone;
                return Poll::Ready(Some(Err(too_slow())));
            }
            Poll::Ready(Some(Ok(came))) => patience.received(bytes(came)),
            Poll::Ready(_) => {}
        }
        polled
    }
}

impl SpliceBody for Source {
    fn splices(&self) -> bool {
        matches!(&self.0, Kind::Client(body, ..) if body.splices())
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, S3Error>>> {
        let Kind::Client(body, ..) = &mut self.0 else { return Poll::Ready(None) };
        let polled = body.poll_splice(context, pipe, max);
        self.came(context, polled, |moved| *moved)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let Kind::Client(body, _, expectation) = std::mem::replace(&mut self.0, Kind::Gone) else {
            return;
        };
        if !body.is_end_stream()
            && !expectation.waits()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(mut body: Incoming) {
    let read_over = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, read_over).await.is_err() {
        tracing::debug!("a client kept sending a body that was refused");
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = S3Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        match &mut self.0 {
            Kind::Client(body, _, expectation) => {
                expectation.met();
                let polled = Pin::new(body).poll_frame(context);
                self.came(context, polled, |frame| frame.data_ref().map_or(0, Bytes::len))
            }
            Kind::Form(file) => file.poll(context).map(|piece| piece.map(|p| p.map(Frame::data))),
            Kind::Checked(body) => body.poll(context),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Gone => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Client(body, ..) => body.is_end_stream(),
            Kind::Form(_) => false,
            Kind::Checked(body) => body.is_end_stream(),
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Gone => true,
        }
    }
}

/// The file of a form that is being received, of a length that was told to main already.
pub(super) struct FormFile {
    /// The rest of the request.
    pub(super) body: Source,
    /// Has read the head of the form.
    pub(super) reader: FormReader,
    /// Received and not yet read.
    pub(super) unread: Bytes,
    /// Bytes of the file that are still to come.
    pub(super) left: u64,
}

impl FormFile {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, S3Error>>> {
        loop {
            let event = match self.reader.read(&mut self.unread) {
                Ok(event) => event,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            match event {
                FormEvent::Data(data) => {
                    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    let Some(left) = self.left.checked_sub(bytes) else {
                        return Poll::Ready(Some(Err(not_the_last_field())));
                    };
                    self.left = left;
                    return Poll::Ready(Some(Ok(data)));
                }
                FormEvent::End if self.left > 0 => {
                    return Poll::Ready(Some(Err(not_the_last_field())));
                }
                FormEvent::End | FormEvent::File => {}
                FormEvent::NeedMore => match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                    Some(Ok(frame)) => self.unread = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {
                        let end = self.reader.finish_input();
                        return Poll::Ready(end.err().map(|error| Err(error.into())));
                    }
                },
            }
        }
    }
}

fn too_slow() -> S3Error {
    S3Error::new(
        http::StatusCode::BAD_REQUEST,
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the timeout \
         period. Idle connections will be closed.",
    )
}

/// The length of the file follows from that of the request only if nothing but the end of the form
/// is behind it.
fn not_the_last_field() -> S3Error {
    S3Error::new(
        http::StatusCode::BAD_REQUEST,
        "MalformedPOSTRequest",
        "The file must be the last field of a form of this size, and the form must end with the \
         end of a line.",
    )
}

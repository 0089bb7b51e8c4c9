//! Where the bytes of an object come from: the client's request as it is, or the file of a form.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::error::S3Error;
use crate::s3::form::{FormEvent, FormReader};

/// The body of an upload before anything is decoded. Its errors say what the client did wrong.
pub(super) struct Source(Kind);

enum Kind {
    Client(Incoming),
    Form(Box<FormFile>),
    Whole(Option<Bytes>),
}

impl Source {
    /// The client's body as it comes.
    pub(super) fn client(body: Incoming) -> Self {
        Self(Kind::Client(body))
    }

    /// The file of a form.
    pub(super) fn form(file: FormFile) -> Self {
        Self(Kind::Form(Box::new(file)))
    }

    /// Bytes that are here already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
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
            Kind::Client(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|f| f.map_err(Into::into)))
            }
            Kind::Form(file) => file.poll(context).map(|piece| piece.map(|p| p.map(Frame::data))),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Client(body) => body.is_end_stream(),
            Kind::Form(_) => false,
            Kind::Whole(bytes) => bytes.is_none(),
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

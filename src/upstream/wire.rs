//! HTTP/1.1 towards an S3: one request at a time on one connection.
//!
//! The head arrives as the bytes that were signed, nothing is pipelined, and whoever waits for the
//! answer drives the connection. What both sides of the proxy share is in [`crate::http1`].
//!
//! # Rules
//! - A body shorter or longer than announced breaks the connection, so that it never ends up as an
//!   object.
//! - `1xx` answers are skipped. An answer that comes before the request is complete is handed out,
//!   even when the other side has closed for writing by then.
//! - A connection is used again only after both messages came to their announced ends and nothing
//!   was left over.
//!
//! # Limits
//! [`head::BYTES_MAX`] for the head of an answer, `HEADERS_MAX` headers. [`clock`] says how long the other
//! side is waited for; shorter times are the callers'.

mod clock;
mod head;
mod io;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http::uri::Authority;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::body::Body;
use super::pool::Idle;
use crate::http1;
pub use crate::http1::WireError;
use crate::http1::receive::{Framing, Receiving};
use crate::http1::send::{Length, Sending};
use crate::http1::splice::{Pipe, SpliceBody, SpliceSink as _};
pub(super) use clock::Limits;
use clock::{Clock, For};
pub(super) use io::Io;

/// A request ready to be sent.
pub(super) struct Message {
    /// Request line and headers, the empty line included.
    pub(super) head: BytesMut,
    pub(super) body: Body,
    /// Length that `head` announces; none: the body goes in chunks.
    pub(super) length: Option<u64>,
    /// Is it a `HEAD`, whose answer has no body whatever it says?
    pub(super) bodyless_answer: bool,
}

impl Message {
    fn sending(self) -> Sending<Body> {
        let length = self.length.map_or(Length::Chunked, Length::Exact);
        Sending::new(self.head, self.body, length)
    }
}

/// Has nothing of a request been used?
fn untouched(sending: &Sending<Body>) -> bool {
    sending.is_unwritten() && (sending.is_unasked() || sending.body().in_memory().is_some())
}

/// An exchange that failed.
pub(super) struct Broken {
    pub(super) error: WireError,
    /// The request, if nothing of it was sent and its body has not been touched.
    pub(super) unsent: Option<Message>,
}

/// A connection.
pub(super) struct Link {
    pub(super) host: Authority,
    io: Io,
    /// Read and not yet used.
    buffer: BytesMut,
    clock: Clock,
}

impl Link {
    pub(super) fn new(host: Authority, io: Io, limits: Limits) -> Self {
        Self { host, io, buffer: BytesMut::new(), clock: Clock::new(limits) }
    }

    /// Is it open, with nothing under way? Anything that can be read by now, the end included, was
    /// not asked for.
    pub(super) fn open(&mut self, context: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        self.buffer.is_empty() && Pin::new(&mut self.io).poll_read(context, &mut byte).is_pending()
    }

    /// Sends a request; resolves with the head of the response.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        message: Message,
        idle: Weak<Idle>,
    ) -> Result<Response<Received>, Broken> {
        let Message { bodyless_answer, length, .. } = message;
        let mut sending = Some(message.sending());
        let mut fault = None;
        let head = poll_fn(|context| {
            if let Some(under_way) = &mut sending {
                match under_way.poll(&mut self.io, context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => sending = None,
                    Poll::Ready(Err(error @ WireError::Body(_))) => {
                        return Poll::Ready(Err(error));
                    }
                    // The other side takes no more. It may have said why before it closed.
                    Poll::Ready(Err(error)) => {
                        if untouched(under_way) {
                            return Poll::Ready(Err(error));
                        }
                        (sending, fault) = (None, Some(error));
                    }
                }
            }
            if let Poll::Ready(head) = self.poll_head(context) {
                return Poll::Ready(head);
            }
            if sending.is_some() && !self.io.is_blocked() {
                // It is our own body that is waited for.
                self.clock.restart();
                return Poll::Pending;
            }
            let what = if self.buffer.is_empty() { For::Sign } else { For::Head };
            self.clock.poll_lost(what, self.io.moved(), context).map(Err)
        })
        .await;
        self.clock.restart();
        match head {
            Ok(mut response) => {
                let version = response.version();
                let closes = fault.is_some() || http1::head::closes(version, response.headers());
                let framing = if bodyless_answer || head::is_bodyless(response.status()) {
                    Ok(Framing::None)
                } else {
                    head::framing(response.headers())
                };
                match framing {
                    Ok(framing) => {
                        *response.version_mut() = http::Version::HTTP_11;
                        Ok(response.map(|()| Received::new(self, framing, sending, closes, idle)))
                    }
                    Err(error) => Err(Broken { error, unsent: None }),
                }
            }
            Err(error) => {
                let unsent = sending.filter(untouched).map(|sending| {
                    let (head, mut body, taken) = sending.into_unwritten();
                    if !taken.is_empty() {
                        // Only taken out of memory, not out of a stream.
                        body = super::full(taken);
                    }
                    Message { head, body, length, bodyless_answer }
                });
                Err(Broken { error: fault.unwrap_or(error), unsent })
            }
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<()>, WireError>> {
        loop {
            if self.buffer.is_empty() {
                // Mostly all of a head comes at once, and with it a small object.
                let mut space = [MaybeUninit::uninit(); head::READ_BYTES];
                let mut space = ReadBuf::uninit(&mut space);
                ready!(Pin::new(&mut self.io).poll_read(context, &mut space))?;
                let read = space.filled();
                if read.is_empty() {
                    return Poll::Ready(Err(WireError::Closed));
                }
                let Some((response, length)) = head::parse(read)? else {
                    self.buffer = BytesMut::from(read);
                    ready!(self.poll_more(context))?;
                    continue;
                };
                self.buffer = BytesMut::from(read.get(length..).unwrap_or_default());
                if !response.status().is_informational() {
                    return Poll::Ready(Ok(response));
                }
            } else if let Some((response, length)) = head::parse(&self.buffer)? {
                self.buffer.advance(length);
                if !response.status().is_informational() {
                    return Poll::Ready(Ok(response));
                }
            } else {
                ready!(self.poll_more(context))?;
            }
        }
    }

    /// What has come, or has not for too long. `is_timed`: there is a length, so that more is to come.
    fn waited<T>(
        &mut self,
        polled: Poll<Option<Result<T, WireError>>>,
        is_timed: bool,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, WireError>>> {
        if polled.is_pending() {
            let what = if is_timed { For::Body } else { For::Sign };
            return self
                .clock
                .poll_lost(what, self.io.moved(), context)
                .map(|lost| Some(Err(lost)));
        }
        self.clock.pause();
        polled
    }

    /// Reads more of a head that has begun.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.buffer.reserve(head::READ_BYTES);
        match ready!(poll_read_buf(Pin::new(&mut self.io), context, &mut self.buffer))? {
            0 => Poll::Ready(Err(WireError::Closed)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// The body of a response. Its connection is kept for the next request once all of it has been
/// read.
pub struct Received {
    receiving: Receiving,
    link: Option<Box<Link>>,
    /// What is still to be sent of a request that was answered early.
    sending: Option<Box<Sending<Body>>>,
    closes: bool,
    idle: Weak<Idle>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Received")
    }
}

impl Received {
    fn new(
        link: Box<Link>,
        framing: Framing,
        sending: Option<Sending<Body>>,
        closes: bool,
        idle: Weak<Idle>,
    ) -> Self {
        let (receiving, sending) = (Receiving::new(framing), sending.map(Box::new));
        let mut received = Self { receiving, link: Some(link), sending, closes, idle };
        if received.receiving.ended() {
            received.release();
        }
        received
    }

    /// Keeps the connection, if it is in a state to be used again.
    fn release(&mut self) {
        if let Some(link) = self.link.take()
            && link.buffer.is_empty()
            && self.sending.is_none()
            && !self.closes
            && !self.receiving.until_close()
            && let Some(idle) = self.idle.upgrade()
        {
            idle.put(link);
        }
    }

    /// Goes on sending what was answered early.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let (Some(sending), Some(link)) = (&mut self.sending, &mut self.link)
            && let Poll::Ready(sent) = sending.poll(&mut link.io, context)
        {
            self.closes |= sent.is_err();
            self.sending = None;
        }
    }
}

impl SpliceBody for Received {
    fn splices(&self) -> bool {
        self.sending.is_none()
            && self.receiving.left().is_some()
            && self.link.as_ref().is_some_and(|link| link.io.splices())
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, WireError>>> {
        let Self { receiving, link: Some(link), sending: None, .. } = self else {
            return Poll::Ready(None);
        };
        let Some(max) = receiving.movable(&link.buffer, max) else { return Poll::Ready(None) };
        let polled = link.io.poll_fill(context, pipe, max);
        let polled = polled.map(|moved| receiving.moved(moved?));
        let moved = ready!(link.waited(polled, true, context));
        if let Some(Err(_)) = &moved {
            self.link = None;
        }
        Poll::Ready(moved)
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = WireError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        let this = &mut *self;
        this.drive(context);
        let Some(link) = &mut this.link else { return Poll::Ready(None) };
        let polled = this.receiving.poll(&mut link.io, &mut link.buffer, context);
        let is_timed = this.receiving.left().is_some();
        match ready!(link.waited(polled, is_timed, context)) {
            Some(Ok(data)) => {
                if this.receiving.ended() {
                    this.release();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                this.link = None;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.receiving.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

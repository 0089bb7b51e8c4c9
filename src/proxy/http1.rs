//! HTTP/1.1 connections of clients.
//!
//! One task per connection drives all of it: it waits for a head, asks [`Proxy::handle`], writes the
//! answer. The body of a request is read by whoever is handed it, straight from the socket.
//!
//! # Promises
//! - What a head says is understood in one way or refused ([`head`]); behind a refusal nothing is
//!   read as a request.
//! - `100 Continue` is sent when the body is first asked for, and not before.
//! - A body of main that breaks off breaks the connection.
//! - A read whose client has left is given up; a change goes on.
//! - **P6** A connection without a request holds no buffer. One with a request holds its head (at most
//!   [`head::BYTES_MAX`]), one piece of a body in each direction, and what was sent before its turn.

mod answer;
mod head;
mod wire;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::Proxy;
use super::error::S3Error;
use super::incoming::Incoming;
use super::record::request_id;
use super::response::ResponseBody;
use super::source::Expectation;
use crate::http1::WireError;
use crate::http1::receive::Framing;
use crate::http1::send::{Length, Sending};
use answer::Asked;
use head::Head;
use wire::Wire;
pub(super) use wire::{ClientIo, Http1Body};

/// What is read at a time while a head is expected: a small body comes along with it.
const READ_BYTES: usize = 8 * 1024;
/// How much is read over behind the last answer, and for how long: closing at once would make the
/// client's machine throw the answer away.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Why no request came.
enum NoHead {
    /// The connection has ended, or must.
    Ended,
    /// What came is none.
    Wrong(S3Error),
}

/// Serves one connection to its end. `stopping` says when it shall end.
pub(super) async fn serve(proxy: Arc<Proxy>, io: ClientIo, stopping: watch::Receiver<()>) {
    let mut connection = Connection::new(proxy, io, stopping.clone());
    let mut timer = pin!(tokio::time::sleep(connection.proxy.client_timeout));
    let mut stopping = stopping;
    let mut stop = pin!(stopping.changed());
    let mut is_stopped = false;
    loop {
        let since = Instant::now();
        let head = poll_fn(|context| {
            let polled = connection.poll_head(context);
            if polled.is_ready() {
                return polled;
            }
            is_stopped = is_stopped || stop.as_mut().poll(context).is_ready();
            let is_over = is_stopped && !connection.wire.has_unused();
            if is_over || connection.poll_lost(since, timer.as_mut(), context).is_ready() {
                return Poll::Ready(Err(NoHead::Ended));
            }
            Poll::Pending
        });
        match head.await {
            Ok(head) => {
                let Some(goes_on) = pin!(connection.exchange(head)).await else { return };
                if !goes_on {
                    break;
                }
            }
            Err(NoHead::Ended) => break,
            Err(NoHead::Wrong(error)) => {
                connection.refuse(&error).await;
                break;
            }
        }
    }
    connection.finish().await;
}

struct Connection {
    proxy: Arc<Proxy>,
    wire: Wire,
    stopping: watch::Receiver<()>,
    /// Bytes of an unfinished head that have been looked at.
    seen: usize,
    /// May the client be sending something that nobody will read?
    is_unread: bool,
}

impl Connection {
    fn new(proxy: Arc<Proxy>, io: ClientIo, stopping: watch::Receiver<()>) -> Self {
        Self { proxy, wire: Wire::new(io), stopping, seen: 0, is_unread: false }
    }

    /// The next head. What was read behind it is left for the body.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, NoHead>> {
        loop {
            let mut read = self.wire.take_unused();
            if !read.is_empty() && head::may_be_complete(&read, self.seen) {
                match head::parse(&read) {
                    Ok(Some((head, length))) => {
                        read.advance(length);
                        return self.found(head, read);
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(NoHead::Wrong(error))),
                }
            }
            if read.is_empty() {
                // Mostly all of a head comes at once, and a connection that waits needs no buffer.
                let mut space = [MaybeUninit::uninit(); READ_BYTES];
                let mut space = ReadBuf::uninit(&mut space);
                let polled = self.wire.poll_more(context, &mut space);
                match polled {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) if !space.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(Err(NoHead::Ended)),
                }
                let data = space.filled();
                match head::parse(data) {
                    Ok(Some((head, length))) => {
                        let rest = data.get(length..).unwrap_or_default();
                        return self.found(head, BytesMut::from(rest));
                    }
                    Ok(None) => {
                        self.seen = data.len();
                        self.wire.leave(BytesMut::from(data));
                    }
                    Err(error) => return Poll::Ready(Err(NoHead::Wrong(error))),
                }
                continue;
            }
            self.seen = read.len();
            read.reserve(READ_BYTES);
            let polled = poll_read_buf(Pin::new(&mut self.wire), context, &mut read);
            self.wire.leave(read);
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err(NoHead::Ended)),
            }
        }
    }

    fn found(&mut self, head: Head, rest: BytesMut) -> Poll<Result<Head, NoHead>> {
        self.seen = 0;
        if !rest.is_empty() {
            self.wire.leave(rest);
        }
        Poll::Ready(Ok(head))
    }

    /// Ready when the client had its time since then. The timer is set again only when it goes off.
    fn poll_lost(
        &self,
        since: Instant,
        mut timer: Pin<&mut Sleep>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let deadline = since + self.proxy.client_timeout;
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Answers one request. `None`: the connection is broken; false: it has had its last answer.
    async fn exchange(&mut self, head: Head) -> Option<bool> {
        let Head { parts, framing, closes } = head;
        let waits = framing != Framing::None && Expectation::of(&parts.headers).waits();
        let (version, is_head) = (parts.version, parts.method == Method::HEAD);
        let body = self.wire.body(framing, waits && version == http::Version::HTTP_11);
        let request = Request::from_parts(parts, Incoming::Http1(body));
        let response = {
            let mut handled = pin!(self.proxy.clone().handle(request, None));
            let response = poll_fn(|context| {
                if let Poll::Ready(response) = handled.as_mut().poll(context) {
                    return Poll::Ready(Some(response));
                }
                if framing == Framing::None && self.is_gone(context) {
                    return Poll::Ready(None);
                }
                Poll::Pending
            });
            response.await?
        };
        let is_stopping = self.stopping.has_changed().unwrap_or(true);
        let closes = closes || is_stopping || self.wire.is_stuck();
        let asked = Asked { version, is_head, closes };
        let goes_on = pin!(self.answer(response, asked)).await?;
        if framing != Framing::None && !poll_fn(|context| self.wire.poll_released(context)).await {
            self.is_unread = true;
            return Some(false);
        }
        Some(goes_on)
    }

    /// Sends a response, never faster than the client takes it.
    async fn answer(&mut self, response: Response<ResponseBody>, asked: Asked) -> Option<bool> {
        let (parts, body) = response.into_parts();
        let length = answer::length(parts.status, body.size_hint().exact(), asked);
        let mut sending = Sending::new(answer::head(&parts, length, asked), body, length);
        match poll_fn(|context| sending.poll(&mut self.wire, context)).await {
            Ok(()) => Some(!asked.closes && length != Length::UntilClose),
            Err(error) => {
                tracing::debug!(%error, "a client has not got its whole response");
                if length == Length::UntilClose && matches!(error, WireError::Body(_)) {
                    // A mere end would look like the end of the body.
                    self.wire.break_off();
                }
                None
            }
        }
    }

    /// Has the client left while it could be waiting for its answer?
    fn is_gone(&self, context: &mut Context<'_>) -> bool {
        if self.wire.has_unused() {
            return false;
        }
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut space = ReadBuf::uninit(&mut space);
        match self.wire.poll_more(context, &mut space) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                // The next request, before its turn.
                self.wire.leave(BytesMut::from(space.filled()));
                false
            }
            Poll::Ready(_) => true,
        }
    }

    /// Tells what is wrong with a head.
    async fn refuse(&mut self, error: &S3Error) {
        tracing::debug!(%error, "a client sends no request");
        self.is_unread = true;
        let (parts, body) = error.response("/", &request_id(), false).into_parts();
        let length = Length::Exact(u64::try_from(body.len()).unwrap_or_default());
        let asked = Asked { version: http::Version::HTTP_11, is_head: false, closes: true };
        let head = answer::head(&parts, length, asked);
        let mut sending = Sending::new(head, Full::new(body), length);
        if let Err(error) = poll_fn(|context| sending.poll(&mut self.wire, context)).await {
            tracing::debug!(%error, "a client has not taken its refusal");
        }
    }

    /// Ends the connection so that the last answer arrives.
    async fn finish(mut self) {
        if self.wire.shutdown().await.is_err() || !self.is_unread {
            return;
        }
        let read_over = async {
            let mut space = vec![0; READ_BYTES];
            let mut left = LINGER_BYTES_MAX;
            while let Ok(count @ 1..) = self.wire.read(&mut space).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    return;
                }
            }
        };
        if tokio::time::timeout(LINGER_TIME_MAX, read_over).await.is_err() {
            tracing::debug!("a client goes on sending behind its last answer");
        }
    }
}

//! HTTP/2 connections of clients, where the TLS handshake has agreed on it.
//!
//! Driven by the h2 crate itself, on which hyper's server is built too. That one cannot send
//! `100 Continue`, for which SDKs wait a second per upload, and takes an upload that its client has
//! given up with `NO_ERROR` for a complete one.
//!
//! # Promises
//! - The same requests mean the same as over HTTP/1.1: what follows the head is `Proxy::handle`.
//! - A body that did not reach its end is an error, whatever the reason given.
//! - **P5** Streams wait for their own bytes only: the window of the connection holds those of all
//!   its streams, so that an upload that main takes slowly keeps no other from flowing.
//! - **P6** Per connection: [`STREAMS_MAX`] requests, each with a window of received bytes and a
//!   buffer of sent ones. A change whose client has reset its stream counts until its outcome, so
//!   that opening and resetting streams gains nothing.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::Proxy;
use super::incoming::Incoming;
use super::patience::Patience;
use super::response::ResponseBody;
use super::source::Expectation;
use crate::s3::headers::hop_by_hop;

/// Requests at a time on one connection; further ones wait on the client's side.
const STREAMS_MAX: u32 = 100;
/// What a client may send of one body before some of it was passed on. Over a line of 20 ms it
/// allows 13 MB/s, and it is what is read ahead of an HTTP/1.1 connection at most.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What a client has not taken yet of one response, beside the piece in hand.
const SEND_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Longest head, each header counted with 32 bytes more: 2 KB of metadata in 1000 headers fit.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// How long a client that was told that the connection ends may take to let go of it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection to its end. `stopping` says when it shall end.
pub(super) async fn serve<S>(proxy: Arc<Proxy>, stream: S, stopping: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = run(proxy, stream, stopping).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn run<S>(
    proxy: Arc<Proxy>,
    stream: S,
    mut stopping: watch::Receiver<()>,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let idle = proxy.client_timeout;
    let handshake = server::Builder::new()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES * STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .handshake::<_, Bytes>(stream);
    let Ok(connection) = tokio::time::timeout(idle, handshake).await else {
        tracing::debug!("a client began no HTTP/2");
        return Ok(());
    };
    let mut connection = connection?;
    let places = Arc::new(Semaphore::new(usize::try_from(STREAMS_MAX).unwrap_or(1)));
    let busy = Arc::new(());
    let ended = Arc::new(Notify::new());
    let mut is_ending = false;
    let mut rest = pin!(tokio::time::sleep(idle));
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let stream = Stream {
                    proxy: proxy.clone(),
                    places: places.clone(),
                    _busy: busy.clone(),
                    ended: ended.clone(),
                };
                tokio::spawn(stream.exchange(request, respond));
            }
            _ = stopping.changed(), if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            () = ended.notified() => rest.as_mut().reset(Instant::now() + idle),
            () = &mut rest => {
                if Arc::strong_count(&busy) > 1 {
                    // Each stream has a patience of its own.
                    rest.as_mut().reset(Instant::now() + idle);
                } else if is_ending {
                    return Ok(());
                } else {
                    is_ending = true;
                    connection.graceful_shutdown();
                    rest.as_mut().reset(Instant::now() + GOODBYE_TIMEOUT);
                }
            }
        }
    }
}

/// One request and its response.
struct Stream {
    proxy: Arc<Proxy>,
    /// A change takes one of them until its outcome.
    places: Arc<Semaphore>,
    /// As long as one is held the connection is not idle.
    _busy: Arc<()>,
    ended: Arc<Notify>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

impl Stream {
    async fn exchange(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, stream) = request.into_parts();
        let (asks, mut asked) = if Expectation::of(&parts.headers).waits() {
            let (asks, asked) = oneshot::channel();
            (Some(asks), Some(asked))
        } else {
            (None, None)
        };
        let body = Incoming::Http2(Http2Body { stream, asks });
        let mut handled = pin!(async {
            let place = self.places.clone().acquire_owned().await.ok();
            self.proxy.clone().handle(Request::from_parts(parts, body), place).await
        });
        let response = loop {
            let is_asked = async {
                match &mut asked {
                    Some(asked) => asked.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                response = &mut handled => break response,
                // A read ends with its client; a change goes on.
                _ = poll_fn(|context| respond.poll_reset(context)) => return,
                is_asked = is_asked => {
                    asked = None;
                    let mut go_on = Response::new(());
                    *go_on.status_mut() = StatusCode::CONTINUE;
                    if is_asked.is_ok() && respond.send_informational(go_on).is_err() {
                        return;
                    }
                }
            }
        };
        if let Err(error) = answer(response, respond, self.proxy.client_timeout).await {
            tracing::debug!(%error, "a client has not taken its response");
        }
    }
}

/// Sends a response, never faster than the client takes it.
async fn answer(
    response: Response<ResponseBody>,
    mut respond: SendResponse<Bytes>,
    patience: Duration,
) -> Result<(), h2::Error> {
    let (mut head, mut body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    if !head.headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        head.headers.insert(DATE, now);
    }
    let is_empty = body.is_end_stream();
    if !is_empty
        && !head.headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut stream = respond.send_response(Response::from_parts(head, ()), is_empty)?;
    if is_empty {
        return Ok(());
    }
    let mut patience = Patience::new(patience);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            reset = poll_fn(|context| stream.poll_reset(context)) => return reset.map(drop),
        };
        match frame {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let is_last = body.is_end_stream();
                send(&mut stream, data, is_last, &mut patience).await?;
                if is_last {
                    return Ok(());
                }
            }
            Some(Err(_)) => {
                // It must not look like an end.
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        }
    }
}

/// Sends one piece as the client makes room for it.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
    patience: &mut Patience,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            let room = poll_fn(|context| match stream.poll_capacity(context) {
                Poll::Ready(room) => Poll::Ready(Ok(room)),
                Poll::Pending => patience.poll_lost(context).map(Err),
            });
            match room.await {
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Err(Reason::CANCEL.into()),
                Err(()) => {
                    stream.send_reset(Reason::CANCEL);
                    return Err(Reason::CANCEL.into());
                }
            }
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        patience.received(piece.len());
        stream.send_data(piece, is_last && data.is_empty())?;
    }
    Ok(())
}

/// The body of a request.
pub(super) struct Http2Body {
    stream: RecvStream,
    /// Has the client told to go on, when it waits for that.
    asks: Option<oneshot::Sender<()>>,
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(asks) = self.asks.take()
            && asks.send(()).is_err()
        {
            tracing::debug!("a client that waited to go on has left");
        }
        let data = ready!(self.stream.poll_data(context)).transpose()?;
        if let Some(data) = &data {
            // It is passed on before the next is asked for, so the client may send as much again.
            self.stream.flow_control().release_capacity(data.len())?;
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

fn strip_hop_by_hop(headers: &mut http::HeaderMap) {
    // Rarely more than one, and mostly none: no list is made of nothing.
    while let Some(name) = headers.keys().find(|name| hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

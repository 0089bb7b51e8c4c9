//! The HTTP side: connections, the way into `s3s`, and the way out.
//!
//! Around each request it numbers the response (`x-amz-request-id`), watches aws-chunked framing
//! (see [`super::framing`]), and after an early error takes in what the client is still sending,
//! up to a limit: closing at once can cost the client the answer (F3).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::service::S3Service;
use s3s::{Body, StdError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::framing::Framing;

/// Connections served at once. The next one waits to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// hyper's default of 100 headers is below what 2 KiB of user metadata can be (D8).
const HEADERS_MAX: usize = 1024;

/// How long a new or kept-alive connection may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);

/// What is still taken in after an early error, in bytes and in time.
const DRAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long running requests may go on after the end has been asked for.
const GRACE: Duration = Duration::from_secs(10);

/// The pause after a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The number of a request, as its response and its error body name it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Accepts and serves until `shutdown` is done and the running requests have ended.
pub(super) async fn serve(
    service: S3Service,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((slot, listener.accept().await?.0))
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = next => accepted,
        };
        let (slot, stream) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the embedded store could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(%error, "no TCP_NODELAY");
        }
        let service = service.clone();
        let handler = service_fn(move |request| handle(service.clone(), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), handler);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that goes away is not worth a line.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to the embedded store ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("the embedded store stopped while requests were still running");
    }
    Ok(())
}

async fn handle(
    service: S3Service,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let id = format!("{:016X}", fastrand::u64(..));
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.insert(RequestId(id.clone()));
    let expects_continue = parts.headers.contains_key(header::EXPECT);
    let (body, rest) = if incoming.is_end_stream() {
        (Body::empty(), None)
    } else {
        let source = Arc::new(Source {
            incoming: Mutex::new(incoming),
            asked_for: AtomicBool::new(!expects_continue),
        });
        let payload = parts.headers.get("x-amz-content-sha256");
        let payload = payload.map(HeaderValue::as_bytes);
        let framing =
            payload.filter(|payload| payload.starts_with(b"STREAMING-")).map(Framing::new);
        let body = Watched { source: Arc::clone(&source), framing, queue: VecDeque::new() };
        (Body::http_body(body), Some(source))
    };
    let answer = service.call(Request::from_parts(parts, body)).await;
    let mut response = answer.unwrap_or_else(|error| {
        // Only a response that could not be written as XML comes here.
        tracing::error!(?error, "the embedded store could not answer");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if let (true, Some(source)) = (failed, rest)
        && !source.drain().await
    {
        // hyper closes such a connection, but does not say so.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    Ok(response)
}

/// A request body as hyper gives it, for `s3s` first and for draining afterwards.
struct Source {
    incoming: Mutex<Incoming>,
    /// The client is sending, or has been told to: false only while it waits for "100 Continue",
    /// which hyper sends at the first poll.
    asked_for: AtomicBool,
}

impl Source {
    /// The lock is never waited for: `s3s` and [`Source::drain`] read one after the other.
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.asked_for.store(true, Ordering::Relaxed);
        Pin::new(&mut *self.incoming()).poll_frame(cx)
    }

    /// Takes in and forgets the rest of the body, within limits. Returns whether all of it came.
    async fn drain(&self) -> bool {
        if !self.asked_for.load(Ordering::Relaxed) {
            return false;
        }
        let read = async {
            let mut drained = 0;
            while drained < DRAIN_BYTES_MAX {
                match poll_fn(|cx| self.poll(cx)).await {
                    Some(Ok(frame)) => {
                        drained += frame.data_ref().map_or(0, |data| data.len() as u64);
                    }
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
            false
        };
        timeout(DRAIN_TIMEOUT, read).await.unwrap_or(false)
    }
}

/// A request body on its way into `s3s`.
struct Watched {
    source: Arc<Source>,
    framing: Option<Framing>,
    queue: VecDeque<Bytes>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.queue.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let frame = ready!(this.source.poll(cx)).transpose()?;
            let Some(framing) = &mut this.framing else {
                return Poll::Ready(frame.map(Ok));
            };
            match frame.map(Frame::into_data) {
                Some(Ok(bytes)) => framing.feed(bytes, &mut this.queue)?,
                // HTTP trailers are not the trailers of aws-chunked.
                Some(Err(_)) => {}
                None => return Poll::Ready(framing.end().err().map(|error| Err(error.into()))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            // Cutting chunks changes the encoded length; nobody asks for it.
            Some(_) => SizeHint::default(),
            None => self.source.incoming().size_hint(),
        }
    }
}

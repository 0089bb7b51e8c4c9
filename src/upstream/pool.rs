//! Connections to one service, kept for the next request to the same host.
//!
//! A connection is driven by whoever uses it: the future that waits for a response, then the
//! body that is being read. There is no task per connection, so that a request wakes nobody but
//! itself, and dropping it closes its connection.
//!
//! # Limits
//! As many connections as requests are under way; [`IDLE_MAX`] idle ones, each for [`IDLE_TIME`].
//! Hosts are few: the service's own and those it has redirected buckets to.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::Service as _;

use super::body::{Body, BoxError};
use super::{SendError, describe};
use crate::s3::headers::HEADERS_MAX;

/// S3 services close idle connections after some five seconds; a shorter time of our own makes
/// it rare that a request meets a connection that is just being closed.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// Idle connections kept: as many as ordinary bursts have requests under way.
const IDLE_MAX: usize = 512;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A pool; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    scheme: Scheme,
    idle: Arc<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one used last at the back.
    links: Mutex<VecDeque<(Instant, Link)>>,
}

/// A connection and the end of it that takes requests.
struct Link {
    host: Authority,
    requests: SendRequest<Body>,
    connection: Box<Connection<Io, Body>>,
}

/// Why a request brought no response.
pub(super) struct Failed {
    pub(super) error: SendError,
    /// Was the connection an old one, which may have been closed before it got the request?
    pub(super) stale: bool,
}

impl Pool {
    /// A pool without connections yet.
    pub(super) fn new(connector: HttpsConnector<HttpConnector>, scheme: Scheme) -> Self {
        Self { connector, scheme, idle: Arc::default() }
    }

    /// The same service, connections of its own.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.connector.clone(), self.scheme.clone())
    }

    /// Sends a request in origin form to a host; resolves with the head of the response.
    pub(super) async fn request(
        &self,
        host: &Authority,
        mut request: Request<Body>,
    ) -> Result<Response<Received>, Failed> {
        while let Some(link) = self.idle.take(host) {
            match self.exchange(link, request).await {
                Ok(response) => return Ok(response),
                Err(Broken { unsent: Some(unsent), .. }) => request = unsent,
                Err(Broken { error, .. }) => return Err(Failed { error, stale: true }),
            }
        }
        let fresh = |error| Failed { error, stale: false };
        // Rare, and large.
        let link = Box::pin(self.connect(host)).await.map_err(fresh)?;
        self.exchange(link, request).await.map_err(|broken| fresh(broken.error))
    }

    async fn connect(&self, host: &Authority) -> Result<Link, SendError> {
        let target = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(host.clone())
            .path_and_query("/")
            .build()
            .map_err(|_| SendError::Target)?;
        let mut connector = self.connector.clone();
        let failed = |error: BoxError| SendError::Connect(describe(&*error));
        std::future::poll_fn(|context| connector.poll_ready(context)).await.map_err(failed)?;
        let io = connector.call(target).await.map_err(failed)?;
        let (requests, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await
            .map_err(|error| SendError::Connect(describe(&error)))?;
        Ok(Link { host: host.clone(), requests, connection: Box::new(connection) })
    }

    async fn exchange(
        &self,
        mut link: Link,
        request: Request<Body>,
    ) -> Result<Response<Received>, Broken> {
        let mut answer = std::pin::pin!(link.requests.try_send_request(request));
        let connection = &mut link.connection;
        let mut ended = false;
        let answered = std::future::poll_fn(|context| {
            if !ended {
                // Its end comes to light in the answer too.
                ended = Pin::new(&mut *connection).poll(context).is_ready();
            }
            answer.as_mut().poll(context)
        })
        .await;
        match answered {
            Ok(response) => {
                let link = (!ended).then_some(link);
                let idle = Arc::downgrade(&self.idle);
                Ok(response.map(|incoming| Received::new(incoming, link, idle)))
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err(Broken { error: SendError::Connection(describe(failed.error())), unsent })
            }
        }
    }
}

/// An exchange that failed.
struct Broken {
    error: SendError,
    /// The request, if nothing of it was sent.
    unsent: Option<Request<Body>>,
}

impl Idle {
    fn links(&self) -> MutexGuard<'_, VecDeque<(Instant, Link)>> {
        // Nothing inside can be left half-changed by a panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a host that was used last, if it is still open.
    fn take(&self, host: &Authority) -> Option<Link> {
        loop {
            let mut links = self.links();
            let at = links.iter().rposition(|(_, link)| link.host == *host)?;
            let (since, mut link) = links.remove(at)?;
            drop(links);
            if since.elapsed() < IDLE_TIME && link.open(&mut Context::from_waker(Waker::noop())) {
                return Some(link);
            }
        }
    }

    fn put(self: &Arc<Self>, link: Link) {
        let now = Instant::now();
        let mut links = self.links();
        if links.is_empty() {
            // Nobody else closes connections when requests cease.
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        if links.len() == IDLE_MAX {
            links.pop_front();
        }
        links.push_back((now, link));
    }
}

/// Closes connections that have been idle for too long, until there are none.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIME / 4).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut links = idle.links();
        while links.front().is_some_and(|(since, _)| since.elapsed() >= IDLE_TIME) {
            links.pop_front();
        }
        if links.is_empty() {
            return;
        }
    }
}

impl Link {
    /// Is it open, with nothing under way?
    fn open(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut *self.connection).poll(context).is_pending() && self.requests.is_ready()
    }
}

/// The body of a response. Its connection is kept for the next request once all of it has been
/// read.
pub struct Received {
    incoming: Incoming,
    link: Option<Link>,
    idle: Weak<Idle>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Received")
    }
}

impl Received {
    fn new(incoming: Incoming, link: Option<Link>, idle: Weak<Idle>) -> Self {
        let mut received = Self { incoming, link, idle };
        if received.incoming.is_end_stream() {
            received.release();
        }
        received
    }

    /// Keeps the connection, if it is in a state to be used again.
    fn release(&mut self) {
        if let Some(mut link) = self.link.take()
            && let Some(idle) = self.idle.upgrade()
            && (link.requests.is_ready() || link.open(&mut Context::from_waker(Waker::noop())))
        {
            idle.put(link);
        }
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(link) = &mut self.link
            && Pin::new(&mut *link.connection).poll(context).is_ready()
        {
            self.link = None;
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                this.drive(context);
                ready!(Pin::new(&mut this.incoming).poll_frame(context))
            }
        };
        if frame.is_none() || this.incoming.is_end_stream() {
            this.release();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

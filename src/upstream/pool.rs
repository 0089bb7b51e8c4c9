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
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use http::Response;
use http::uri::{Authority, Scheme, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::Instant;
use tower::Service as _;

use super::body::BoxError;
use super::wire::{Broken, Limits, Link, Message, Received, WireError};
use super::{SendError, describe};

/// From looking up the name to the end of the TLS handshake, which a peer that takes connections and
/// says nothing would never end.
const CONNECTED_TIMEOUT: Duration = Duration::from_secs(15);
/// S3 services close idle connections after some five seconds; a shorter time of our own makes
/// it rare that a request meets a connection that is just being closed.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// Idle connections kept: as many as ordinary bursts have requests under way.
const IDLE_MAX: usize = 512;

/// A pool; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    scheme: Scheme,
    idle: Arc<Idle>,
    /// How long the other side is waited for.
    pub(super) limits: Limits,
}

/// Connections that wait for a request.
#[derive(Default)]
pub(super) struct Idle {
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// The one used last at the back.
    queue: VecDeque<(Instant, Box<Link>)>,
    /// Is somebody looking after those that nobody uses? Most of the time the queue is empty between
    /// two requests, so that alone does not tell.
    swept: bool,
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
        Self { connector, scheme, idle: Arc::default(), limits: Limits::USUAL }
    }

    /// The same service, connections of its own.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.connector.clone(), self.scheme.clone())
    }

    /// Sends a request to a host; resolves with the head of the response.
    pub(super) async fn request(
        &self,
        host: &Authority,
        mut message: Message,
    ) -> Result<Response<Received>, Failed> {
        while let Some(link) = self.idle.take(host) {
            match pin!(link.exchange(message, Arc::downgrade(&self.idle))).await {
                Ok(response) => return Ok(response),
                Err(Broken { unsent: Some(unsent), .. }) => message = unsent,
                Err(Broken { error, .. }) => {
                    // What was waited for in vain is not waited for twice.
                    let stale = !matches!(error, WireError::Slow(_));
                    return Err(Failed { error: error.into(), stale });
                }
            }
        }
        let fresh = |error| Failed { error, stale: false };
        // Rare, and large.
        let link = Box::pin(self.connect(host)).await.map_err(fresh)?;
        let answered = Box::pin(link.exchange(message, Arc::downgrade(&self.idle))).await;
        answered.map_err(|broken| fresh(broken.error.into()))
    }

    async fn connect(&self, host: &Authority) -> Result<Box<Link>, SendError> {
        let target = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(host.clone())
            .path_and_query("/")
            .build()
            .map_err(|_| SendError::Target)?;
        let mut connector = self.connector.clone();
        let failed = |error: BoxError| SendError::Connect(describe(&*error));
        std::future::poll_fn(|context| connector.poll_ready(context)).await.map_err(failed)?;
        let io = tokio::time::timeout(CONNECTED_TIMEOUT, connector.call(target)).await;
        let io = io
            .map_err(|_| SendError::Connect("the connection is not set up in time".into()))?
            .map_err(failed)?;
        Ok(Box::new(Link::new(host.clone(), io.into(), self.limits)))
    }
}

impl Idle {
    fn links(&self) -> MutexGuard<'_, Links> {
        // Nothing inside can be left half-changed by a panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a host that was used last, if it is still open.
    fn take(&self, host: &Authority) -> Option<Box<Link>> {
        loop {
            let mut links = self.links();
            let at = links.queue.iter().rposition(|(_, link)| is_same(&link.host, host))?;
            let (since, mut link) = links.queue.remove(at)?;
            drop(links);
            if since.elapsed() < IDLE_TIME && link.open(&mut Context::from_waker(Waker::noop())) {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, link: Box<Link>) {
        let now = Instant::now();
        let mut links = self.links();
        if !links.swept {
            links.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        if links.queue.len() == IDLE_MAX {
            links.queue.pop_front();
        }
        links.queue.push_back((now, link));
    }
}

/// Are these the same host? Mostly they are the very same text; otherwise case does not count.
fn is_same(one: &Authority, other: &Authority) -> bool {
    one.as_str() == other.as_str() || one == other
}

/// Closes connections that have been idle for too long, until there are none.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIME / 4).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut links = idle.links();
        while links.queue.front().is_some_and(|(since, _)| since.elapsed() >= IDLE_TIME) {
            links.queue.pop_front();
        }
        if links.queue.is_empty() {
            links.swept = false;
            return;
        }
    }
}

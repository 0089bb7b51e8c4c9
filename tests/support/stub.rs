//! An S3 that stores nothing and is as fast as HTTP allows: the counterpart for measurements.
//!
//! It checks no signature. `/bucket/<size>/anything` is an object of that many zero bytes, so an
//! upload to such a path agrees with what a later `HEAD` or `GET` tells; every object has the
//! same `ETag`, media type and time. `PUT` and `POST` discard their body. As a mirror it says of every
//! object that it is not there, because otherwise nothing would be copied to it. Paths below `/-/`, which
//! cannot be a bucket, control it: `/-/hold` and `/-/release` stop and continue all answers,
//! `/-/counts` tells what it has seen. Memory: one read buffer per connection.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What one frame of an object is cut from.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// The `ETag` of every object.
const ETAG: HeaderValue = HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\"");
const LAST_MODIFIED: HeaderValue = HeaderValue::from_static("Wed, 01 Jan 2025 00:00:00 GMT");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Requests and bytes of bodies, by method: `GET` counts bytes sent, the others bytes received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub requests: u64,
    pub bytes: u64,
}

/// Everything that was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub get: Count,
    pub put: Count,
    pub post: Count,
    pub head: Count,
    pub delete: Count,
}

/// What a stub says when it is asked (`HEAD`) whether it has an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Every object is there.
    Main,
    /// None is.
    Mirror,
}

#[derive(Default)]
struct Counter {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn read(&self) -> Count {
        Count {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

struct Shared {
    role: Role,
    counters: [Counter; 5],
    held: watch::Sender<bool>,
}

impl Shared {
    fn counter(&self, method: &Method) -> &Counter {
        let at = match *method {
            Method::GET => 0,
            Method::PUT => 1,
            Method::POST => 2,
            Method::HEAD => 3,
            _ => 4,
        };
        &self.counters[at]
    }

    fn counts(&self) -> Counts {
        let [get, put, post, head, delete] = self.counters.each_ref().map(Counter::read);
        Counts { get, put, post, head, delete }
    }
}

/// A running stub; it ends with this handle.
pub struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Stub {
    /// Serves on an address (port 0: any) in tasks of the present runtime.
    pub async fn start(address: SocketAddr, role: Role) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (held, _) = watch::channel(false);
        let shared = Arc::new(Shared { role, counters: Default::default(), held });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Holds every answer back, or lets them go again.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.max_headers(256);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files is the only cause met in practice; closing ones make room.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let shared = shared.clone();
        let service = service_fn(move |request| answer(shared.clone(), request));
        let connection = server.serve_connection(TokioIo::new(stream), service);
        // A client that goes away ends its connection with an error nobody needs.
        tokio::spawn(async move { connection.await.ok() });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(command) = parts.uri.path().strip_prefix("/-/") {
        return Ok(control(&shared, command));
    }
    let received = discard(body).await;
    let counter = shared.counter(&parts.method);
    counter.requests.fetch_add(1, Ordering::Relaxed);
    counter.bytes.fetch_add(received, Ordering::Relaxed);
    if *shared.held.borrow() {
        // The sender lives in `shared`, so this cannot fail.
        shared.held.subscribe().wait_for(|held| !held).await.ok();
    }
    let size = announced_size(parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let mut response = match parts.method {
        Method::GET => object(size, parts.headers.get(header::RANGE), counter),
        Method::HEAD if shared.role == Role::Mirror => status(StatusCode::NOT_FOUND),
        Method::HEAD => {
            let mut response = object(size, None, &Counter::default());
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            *response.body_mut() = Answer::Zeros(0);
            response
        }
        Method::DELETE => status(StatusCode::NO_CONTENT),
        Method::POST => document(query),
        _ => status(StatusCode::OK),
    };
    response.headers_mut().insert(header::ETAG, ETAG);
    Ok(response)
}

/// Reads a body to its end and forgets it; returns its length, or what came before it broke off.
async fn discard(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| as_u64(data.len()));
    }
    bytes
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// `/bucket/<size>/...`; 0 where there is no number.
fn announced_size(path: &str) -> u64 {
    path.split('/').nth(2).and_then(|size| size.parse().ok()).unwrap_or(0)
}

fn object(size: u64, range: Option<&HeaderValue>, counter: &Counter) -> Response<Answer> {
    let range =
        range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let range = range.and_then(|(first, last)| {
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last < size).then_some((first, last))
    });
    let length = range.map_or(size, |(first, last)| last - first + 1);
    counter.bytes.fetch_add(length, Ordering::Relaxed);
    let mut response = Response::new(Answer::Zeros(length));
    let headers = response.headers_mut();
    headers.insert(header::LAST_MODIFIED, LAST_MODIFIED);
    headers.insert(header::CONTENT_TYPE, OCTETS);
    if let Some((first, last)) = range {
        let text = format!("bytes {first}-{last}/{size}");
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Answers to `POST ?uploads` and `POST ?uploadId=`; any other `POST` gets an empty one.
fn document(query: &str) -> Response<Answer> {
    let text = if query.split('&').any(|pair| pair == "uploads" || pair == "uploads=") {
        "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    } else if query.contains("uploadId=") {
        "<CompleteMultipartUploadResult><ETag>\"0123456789abcdef0123456789abcdef\"</ETag>\
         </CompleteMultipartUploadResult>"
    } else {
        ""
    };
    Response::new(Answer::Text(Some(Bytes::from_static(text.as_bytes()))))
}

fn status(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Zeros(0));
    *response.status_mut() = status;
    response
}

fn control(shared: &Shared, command: &str) -> Response<Answer> {
    match command {
        "hold" | "release" => {
            shared.held.send_replace(command == "hold");
            status(StatusCode::NO_CONTENT)
        }
        "counts" => {
            let text = format!("{:?}\n", shared.counts());
            Response::new(Answer::Text(Some(Bytes::from(text))))
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// A body: a text, or so many zeros.
enum Answer {
    Text(Option<Bytes>),
    Zeros(u64),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Text(text) => text.take(),
            Self::Zeros(0) => None,
            Self::Zeros(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(ZEROS.len());
                *left -= as_u64(length);
                Some(Bytes::from_static(&ZEROS[..length]))
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(None) | Self::Zeros(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(as_u64(text.as_ref().map_or(0, Bytes::len))),
            Self::Zeros(left) => SizeHint::with_exact(*left),
        }
    }
}

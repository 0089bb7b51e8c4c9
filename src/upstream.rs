//! Talking to an S3: pooled connections, signed requests, streaming both ways.
//!
//! # Retries
//! None, except one: a request without body that cannot change anything is sent again when a
//! pooled connection turns out to have been closed by the other side. A body that has been
//! streamed is never replayed. A request without body that was redirected is sent once more, to
//! where it belongs ([`redirect`]).
//!
//! # Cancellation
//! Dropping the future of [`Upstream::send`], or the body of its response before its end, closes
//! the connection that was used.
//!
//! # Cost
//! What is awaited is pinned where it is made, and what it carries is boxed early: `await` alone moves a
//! future into its place, with all the room inside it.

pub mod ask;
mod body;
pub mod credentials;
pub mod payload;
mod pool;
pub mod post;
mod quirks;
pub mod read;
pub mod redirect;
pub mod sign;
#[cfg(test)]
mod tests;
mod tls;
pub mod trace;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

use crate::config::{Endpoint, Quirk};
pub use body::{Body, BoxError, copied, empty, full, moving, sized, stream};
use credentials::{Credentials, NoCredentials, Provider};
use pool::{Failed, Pool};
use redirect::{Elsewhere, Learnt, Site, Sites};
use sign::{Unsigned, UnusableCredentials};
use wire::Message;
pub use wire::{Received, WireError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When TCP begins to ask whether the other side is still there, how often it asks again, and after
/// how many unanswered questions it is not.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;
/// Longest path and query: as much as fits into a URI of the `http` crate. Keys have a tenth of it.
const TARGET_BYTES_MAX: usize = 65_534;
/// Room for an ordinary head. Allocators keep pieces up to 1 KiB at hand, and search for larger ones.
const HEAD_BYTES: usize = 1024;

/// One S3 service.
pub struct Upstream {
    endpoint: Endpoint,
    /// The endpoint itself, and where single buckets are served instead.
    home: Arc<Site>,
    elsewhere: Arc<Sites>,
    provider: Arc<Provider>,
    pool: Pool,
}

/// A request to be signed and sent.
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// Canonical path.
    pub path: String,
    /// Canonical query, empty for none.
    pub query: String,
    /// Its headers. `Host`, `Content-Length` and signature are made here; what belongs to another
    /// connection or signature is left out ([`stripped_from_request`](crate::s3::headers::stripped_from_request)).
    pub headers: HeaderMap,
    /// `x-amz-content-sha256`.
    pub payload: HeaderValue,
    /// The body; its exact size hint becomes `Content-Length`.
    pub body: Body,
    /// Keys to sign with instead of this service's own.
    pub keys: Option<Arc<Credentials>>,
}

/// An [`Outgoing`] but for its body: what may be signed and sent again.
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    payload: HeaderValue,
    keys: Option<Arc<Credentials>>,
}

/// Why no response came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No credentials.
    #[error(transparent)]
    Credentials(#[from] NoCredentials),
    /// The credentials cannot be sent.
    #[error(transparent)]
    Signing(#[from] UnusableCredentials),
    /// The canonical target is not a URI, which means that it is too long.
    #[error("the request target is not a URI")]
    Target,
    /// The connection could not be made: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection failed under way.
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl From<WireError> for SendError {
    fn from(error: WireError) -> Self {
        Self::Connection(error.to_string())
    }
}

impl Upstream {
    /// Makes the client; connects to nothing yet.
    pub async fn new(endpoint: &Endpoint) -> Result<Self, std::io::Error> {
        let tls = tls::client_config(endpoint.ca_file.as_deref())?;
        let pool = Pool::new(connector(tls), endpoint.scheme.clone());
        Ok(Self {
            endpoint: endpoint.clone(),
            home: Arc::new(Site::new(endpoint.authority.clone(), &endpoint.region)?),
            elsewhere: Arc::default(),
            provider: Arc::new(Box::pin(Provider::new(endpoint)).await),
            pool,
        })
    }

    /// The same service with a connection pool of its own, for another core: a connection is
    /// driven by the runtime that opened it.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            home: self.home.clone(),
            elsewhere: self.elsewhere.clone(),
            provider: self.provider.clone(),
            pool: self.pool.sibling(),
        }
    }

    /// The endpoint it talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where its credentials come from.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// Signs and sends a request; resolves with the head of the response.
    pub fn send(
        &self,
        outgoing: Outgoing,
    ) -> impl Future<Output = Result<Response<Received>, SendError>> + Send {
        let Outgoing { method, path, query, headers, payload, body, keys } = outgoing;
        // Boxed here and not in the future, which would hold room for it twice.
        self.send_asked(Box::new(Asked { method, path, query, headers, payload, keys }), body)
    }

    async fn send_asked(
        &self,
        mut asked: Box<Asked>,
        body: Body,
    ) -> Result<Response<Received>, SendError> {
        trace::mark(&mut asked.headers);
        let bodyless = http_body::Body::is_end_stream(&body);
        let again = bodyless && matches!(asked.method, Method::GET | Method::HEAD);
        match pin!(self.send_once(&asked, body)).await {
            Err(Failed { stale: true, .. }) if again => {
                Box::pin(self.send_once(&asked, empty())).await
            }
            Ok(mut response) => {
                let told = Elsewhere::told_by(response.status(), response.headers());
                let learnt = told
                    .is_some_and(|told| self.elsewhere.learn(&self.endpoint, &asked.path, &told));
                if learnt && bodyless {
                    // It was refused where it went, so it had no effect there.
                    drop(response);
                    Box::pin(self.send_once(&asked, empty())).await
                } else {
                    if learnt {
                        response.extensions_mut().insert(Learnt);
                    }
                    Ok(response)
                }
            }
            failed => failed,
        }
        .map_err(|failed| failed.error)
    }

    async fn send_once(&self, asked: &Asked, body: Body) -> Result<Response<Received>, Failed> {
        let elsewhere = self.elsewhere.of(&asked.path);
        let site = elsewhere.as_deref().unwrap_or(&self.home);
        let credentials = match &asked.keys {
            Some(keys) => Ok(keys.clone()),
            None => pin!(self.provider.current()).await,
        };
        let message = credentials
            .map_err(SendError::from)
            .and_then(|credentials| self.signed(asked, body, site, &credentials))
            .map_err(|error| Failed { error, stale: false })?;
        let result = pin!(self.pool.request(&site.authority, message)).await;
        if elsewhere.is_some()
            && matches!(&result, Err(Failed { error: SendError::Connect(_), .. }))
        {
            self.elsewhere.forget(&asked.path);
        }
        result
    }

    /// Takes over what an error document tells about where the bucket of `path` is. True: the next
    /// request to it goes another way.
    pub fn learn(&self, path: &str, document: &[u8]) -> bool {
        let told = Elsewhere::told_in(document);
        told.is_some_and(|told| self.elsewhere.learn(&self.endpoint, path, &told))
    }

    /// The request as it is sent.
    fn signed(
        &self,
        asked: &Asked,
        body: Body,
        site: &Site,
        credentials: &Arc<Credentials>,
    ) -> Result<Message, SendError> {
        let Asked { method, path, query, headers, payload, .. } = asked;
        let quirks = self.endpoint.quirks;
        let (host, path) = quirks::address(quirks, &site.host, path);
        if path.len() + query.len() > TARGET_BYTES_MAX {
            return Err(SendError::Target);
        }
        // Rare: with other headers and another payload than were asked for.
        let framed = quirks.has(Quirk::SignedPayload).then(|| {
            let mut headers = headers.clone();
            let (payload, chunked) = payload::signed(payload.clone(), &body, &mut headers);
            (headers, payload, chunked)
        });
        let (headers, payload, chunked) = match &framed {
            Some((headers, payload, chunked)) => (headers, payload, *chunked),
            None => (headers, payload, false),
        };
        let now = SystemTime::now();
        let unsigned = Unsigned { method, path: &path, query, host: &host, payload, headers };
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        let refused = |name: &HeaderName| quirks::refuses(quirks, name);
        let signature = site.signer.write(credentials, now, &unsigned, refused, &mut head)?;
        let body = if chunked {
            let signer = site.signer.chunks(credentials, now, signature)?;
            payload::in_chunks(body, signer, headers)
        } else {
            body
        };
        let bodyless = http_body::Body::is_end_stream(&body);
        let length = if bodyless { Some(0) } else { http_body::Body::size_hint(&body).exact() };
        match length {
            // S3 demands it where a body could be (411).
            Some(0) if *method != Method::PUT && *method != Method::POST => {}
            Some(length) => {
                head.extend_from_slice(b"content-length: ");
                head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            None => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        head.extend_from_slice(b"\r\n");
        Ok(Message { head, body, length, bodyless_answer: *method == Method::HEAD })
    }
}

fn connector(tls: rustls::ClientConfig) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    // A machine that is gone is noticed within two minutes; one that thinks is left alone.
    http.set_keepalive(Some(KEEPALIVE_IDLE));
    http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    http.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http)
}

/// An error with its causes in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The HTTP client the AWS crates use: the same TLS provider as everything else.
pub fn sdk_http_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
    aws_smithy_http_client::Builder::new().tls_provider(Tls::Rustls(CryptoMode::Ring)).build_https()
}

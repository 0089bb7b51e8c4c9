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

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

use crate::config::{Endpoint, Quirk};
pub use body::{Body, BoxError, empty, full, sized, stream};
use credentials::{Credentials, NoCredentials, Provider};
pub use pool::Received;
use pool::{Failed, Pool};
use redirect::{Elsewhere, Learnt, Site, Sites};
use sign::{Unsigned, UnusableCredentials};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Headers without hop-by-hop ones, `Host`, `Content-Length` and signature.
    pub headers: HeaderMap,
    /// `x-amz-content-sha256`.
    pub payload: HeaderValue,
    /// The body; its exact size hint becomes `Content-Length`.
    pub body: Body,
    /// Keys to sign with instead of this service's own.
    pub keys: Option<Arc<Credentials>>,
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
    pub async fn send(&self, outgoing: Outgoing) -> Result<Response<Received>, SendError> {
        let mut outgoing = outgoing;
        let bodyless = http_body::Body::is_end_stream(&outgoing.body);
        if bodyless && (outgoing.method == Method::PUT || outgoing.method == Method::POST) {
            // hyper leaves it out for an empty body, and S3 demands it (411).
            outgoing.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let again = outgoing.method == Method::GET || outgoing.method == Method::HEAD;
        let repeat = bodyless.then(|| Outgoing {
            method: outgoing.method.clone(),
            path: outgoing.path.clone(),
            query: outgoing.query.clone(),
            headers: outgoing.headers.clone(),
            payload: outgoing.payload.clone(),
            body: empty(),
            keys: outgoing.keys.clone(),
        });
        // Where it may have been redirected from; a repetition knows it too.
        let path = repeat.is_none().then(|| outgoing.path.clone());
        match (self.send_once(outgoing).await, repeat) {
            (Err(Failed { stale: true, .. }), Some(repeat)) if again => {
                self.send_once(repeat).await
            }
            (Ok(mut response), repeat) => {
                let told = Elsewhere::told_by(response.status(), response.headers());
                let path = path.as_deref().or(repeat.as_ref().map(|repeat| repeat.path.as_str()));
                let learnt = told.is_some_and(|told| {
                    self.elsewhere.learn(&self.endpoint, path.unwrap_or_default(), &told)
                });
                match repeat {
                    _ if !learnt => Ok(response),
                    // It was refused where it went, so it had no effect there.
                    Some(repeat) => self.send_once(repeat).await,
                    None => {
                        response.extensions_mut().insert(Learnt);
                        Ok(response)
                    }
                }
            }
            (result, _) => result,
        }
        .map_err(|failed| failed.error)
    }

    async fn send_once(&self, outgoing: Outgoing) -> Result<Response<Received>, Failed> {
        let elsewhere = self.elsewhere.of(&outgoing.path);
        let path = elsewhere.as_ref().map_or_else(String::new, |_| outgoing.path.clone());
        let site = elsewhere.as_deref().unwrap_or(&self.home);
        let request = self.signed(outgoing, site).await;
        let request = request.map_err(|error| Failed { error, stale: false })?;
        let result = self.pool.request(&site.authority, request).await;
        if elsewhere.is_some()
            && matches!(&result, Err(Failed { error: SendError::Connect(_), .. }))
        {
            self.elsewhere.forget(&path);
        }
        result
    }

    /// Takes over what an error document tells about where the bucket of `path` is. True: the next
    /// request to it goes another way.
    pub fn learn(&self, path: &str, document: &[u8]) -> bool {
        let told = Elsewhere::told_in(document);
        told.is_some_and(|told| self.elsewhere.learn(&self.endpoint, path, &told))
    }

    async fn signed(&self, outgoing: Outgoing, site: &Site) -> Result<Request<Body>, SendError> {
        let Outgoing { method, path, query, mut headers, payload, body, keys } = outgoing;
        let credentials = match keys {
            Some(keys) => keys,
            None => self.provider.current().await?,
        };
        let quirks = self.endpoint.quirks;
        quirks::strip(quirks, &mut headers);
        let (payload, chunked) = if quirks.has(Quirk::SignedPayload) {
            payload::signed(payload, &body, &mut headers)
        } else {
            (payload, false)
        };
        let (host, changed) = match quirks::address(quirks, &site.host, &path) {
            (host, Cow::Owned(path)) => (host, Some(path)),
            (host, Cow::Borrowed(_)) => (host, None),
        };
        let path = changed.unwrap_or(path);
        headers.insert(header::HOST, host);
        let now = SystemTime::now();
        let unsigned = Unsigned { method: &method, path: &path, query: &query, payload };
        site.signer.sign(&credentials, now, unsigned, &mut headers)?;
        let body = if chunked {
            payload::in_chunks(body, site.signer.chunks(&credentials, now, &headers)?, &headers)
        } else {
            body
        };
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let target = PathAndQuery::from_maybe_shared(target).map_err(|_| SendError::Target)?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn connector(tls: rustls::ClientConfig) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
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

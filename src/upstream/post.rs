//! Posting small documents to somebody who is no S3: a webhook, for one.
//!
//! # Limits
//! One document in memory, as the caller has it; of an answer its head and its first
//! 64 KiB; one timeout over all of it. Redirects are not followed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::uri::Uri;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::{connector, describe, tls};

/// What is read of an answer: enough for an error to be understood, and for its connection to be
/// used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A client; cheap to clone.
#[derive(Clone, Debug)]
pub struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Poster {
    /// Makes the client; connects to nothing yet. It trusts the certificates of the system.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, std::io::Error> {
        let connector = connector(tls::client_config(None)?);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Posts a document; the answer's body is cut off where it is too long.
    ///
    /// # Errors
    /// Nobody answered in time, in words without the address.
    pub async fn post(
        &self,
        address: &Uri,
        headers: HeaderMap,
        document: Bytes,
        timeout: Duration,
    ) -> Result<Response<Bytes>, String> {
        let mut request = Request::new(Full::new(document));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address.clone();
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.client.request(request).await;
            let (head, mut body) = response.map_err(|error| describe(&error))?.into_parts();
            let mut read = BytesMut::new();
            while read.len() < ANSWER_BYTES_MAX
                && let Some(frame) = body.frame().await
            {
                let frame = frame.map_err(|error| describe(&error))?;
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(data);
                }
            }
            Ok(Response::from_parts(head, read.freeze()))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} seconds", timeout.as_secs())),
        }
    }
}

//! Talking to the running service over its admin port.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::config::Environment;
use crate::upstream::describe;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the service is, and what lets a person change something there.
#[derive(Args, Debug, Clone)]
pub(super) struct ServiceArgs {
    /// Admin port of the running service [default: `ADMIN_ADDR`, or <http://127.0.0.1:9090>]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// File with the admin token [default: `ADMIN_TOKEN` or `ADMIN_TOKEN_FILE`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The service.
pub(super) struct Service {
    base: String,
    token: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why there is no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    /// The token cannot be read, or the address is none.
    #[error("{0}")]
    Settings(String),
    /// Nobody answers.
    #[error("the service at {0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// It wants another token, or has none itself.
    #[error("the service refuses: {0}")]
    Forbidden(String),
    /// It says no.
    #[error("the service refuses: {1}")]
    Refused(u16, String),
}

impl ServiceError {
    /// Exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Settings(_) => super::CONFIG_FAULT,
            // Nobody is there, or somebody who cannot answer now.
            Self::Unreachable(..) | Self::Refused(500.., _) => super::CANNOT_START,
            Self::Forbidden(_) => super::FORBIDDEN,
            Self::Refused(..) => super::FAILED,
        }
    }
}

impl Service {
    /// Reads where it is.
    pub(super) fn new(args: &ServiceArgs) -> Result<Self, ServiceError> {
        let environment = Environment::read().map_err(ServiceError::Settings)?;
        let Environment { admin_addr, admin_token, admin_token_file, .. } = environment;
        let file = args
            .token_file
            .clone()
            .or_else(|| admin_token.is_none().then_some(admin_token_file)?.map(PathBuf::from));
        let token = match file {
            Some(path) => Some(std::fs::read_to_string(&path).map_err(|error| {
                ServiceError::Settings(format!("cannot read {}: {error}", path.display()))
            })?),
            None => admin_token,
        };
        let base = args.admin.clone().or(admin_addr);
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            base: base_url(base.as_deref().unwrap_or("127.0.0.1:9090")),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            client,
        })
    }

    /// Asks.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ServiceError> {
        self.call(Method::GET, path, None).await
    }

    /// Changes something.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ServiceError> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ServiceError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ServiceError::Settings("the address or the token is not valid".into()))?;
        let unreachable = |why: String| ServiceError::Unreachable(self.base.clone(), why);
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|e| unreachable(describe(&e)))?;
            let status = response.status().as_u16();
            #[allow(clippy::disallowed_methods, reason = "it has a limit")]
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            let value = serde_json::from_slice(&body);
            match (status, value) {
                (200..300, Ok(value)) => Ok(value),
                (401 | 403 | 429, value) => Err(ServiceError::Forbidden(said(&value, &body))),
                (_, value) => Err(ServiceError::Refused(status, said(&value, &body))),
            }
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable("no answer in time".into())))
    }
}

/// `ADMIN_ADDR` says where to listen; whoever calls needs an address that leads there.
fn base_url(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.contains("://") {
        return text.to_owned();
    }
    let text = text.replacen("0.0.0.0", "127.0.0.1", 1).replacen("[::]", "[::1]", 1);
    if text.starts_with(':') { format!("http://127.0.0.1{text}") } else { format!("http://{text}") }
}

fn said(value: &Result<Value, serde_json::Error>, body: &[u8]) -> String {
    let reason = value.as_ref().ok().and_then(|value| value.get("error")?.as_str());
    reason.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_listens_becomes_where_it_is_called() {
        assert_eq!(base_url("0.0.0.0:9090"), "http://127.0.0.1:9090");
        assert_eq!(base_url(":9"), "http://127.0.0.1:9");
        assert_eq!(base_url("http://admin.test:1/"), "http://admin.test:1");
        assert_eq!(base_url("[::]:9"), "http://[::1]:9");
    }
}

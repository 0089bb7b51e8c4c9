//! The way to the collector: the same HTTP client and TLS as everything else, on the process's own
//! runtime, because the exporting thread has none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::config::Traces;
use crate::metrics::Metrics;
use crate::upstream::post::Poster;

/// How long the collector may take for one export.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The collector.
#[derive(Debug)]
pub(super) struct Collector {
    poster: Poster,
    runtime: Handle,
    headers: HeaderMap,
    metrics: Metrics,
    failing: AtomicBool,
}

impl Collector {
    pub(super) fn new(traces: &Traces, metrics: Metrics) -> Result<Self, std::io::Error> {
        Ok(Self {
            poster: Poster::new()?,
            runtime: Handle::current(),
            headers: traces.headers.clone(),
            metrics,
            failing: AtomicBool::new(false),
        })
    }

    fn ended(&self, fault: Option<&str>) {
        let Some(error) = fault else {
            if self.failing.swap(false, Ordering::Relaxed) {
                tracing::info!("spans are exported again");
            }
            return;
        };
        self.metrics.span_export_errors.inc();
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "spans cannot be exported");
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        for (name, value) in &self.headers {
            head.headers.insert(name, value.clone());
        }
        let poster = self.poster.clone();
        let posting = self
            .runtime
            .spawn(async move { poster.post(&head.uri, head.headers, body, TIMEOUT).await });
        let answer = posting.await.unwrap_or_else(|_| Err("the process ends".to_owned()));
        match &answer {
            Ok(response) if response.status().is_success() => self.ended(None),
            Ok(response) => {
                self.ended(Some(&format!("the collector answered {}", response.status().as_u16())));
            }
            Err(error) => self.ended(Some(error)),
        }
        Ok(answer?)
    }
}

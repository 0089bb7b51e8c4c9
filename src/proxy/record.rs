//! The one log line and the metrics of a request, written when its response has ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::s3::address::path_style;
use crate::s3::operation::{Effect, Operation};
use crate::s3::trace::TraceParent;
use crate::spans::{Begun, Details, Spans};

/// What a request is counted and logged as whose client left before there was an answer, as nginx does.
const UNANSWERED: u16 = 499;

/// What is known of a request; written once, when dropped.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Metrics,
    started: Instant,
    /// Identifies the request in every line about it.
    pub(super) id: Arc<str>,
    pub(super) method: Method,
    pub(super) bucket: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) operation: Option<Operation>,
    /// None: nothing has been answered yet.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the object that were received or sent.
    pub(super) bytes: u64,
    /// Error code or cause, if the request failed here.
    pub(super) error: Option<String>,
    /// The trace it belongs to: the client's, or one that begins here.
    trace_id: Option<Box<str>>,
    /// Its span, where requests are traced.
    span: Option<Box<(Spans, Begun)>>,
}

impl Record {
    pub(super) fn new(
        metrics: Metrics,
        spans: Option<&Spans>,
        method: Method,
        headers: &HeaderMap,
    ) -> Box<Self> {
        let parent = TraceParent::of(headers);
        let span = spans.map(|spans| Box::new((spans.clone(), spans.begin(parent))));
        let trace = span.as_ref().map(|span| span.1.context).or(parent);
        Box::new(Self {
            metrics,
            started: Instant::now(),
            id: request_id(),
            method,
            bucket: None,
            key: None,
            operation: None,
            status: None,
            bytes: 0,
            error: None,
            trace_id: trace.map(|trace| trace.trace_id().into()),
            span,
        })
    }

    /// What the request is about, as error documents name it. Only errors need it.
    pub(super) fn resource(&self) -> String {
        path_style(self.bucket.as_deref(), self.key.as_deref())
    }

    /// Its span, sampled or not, as the mirror's worker is told of it.
    pub(super) fn traceparent(&self) -> Option<TraceParent> {
        self.span.as_ref().map(|span| span.1.context)
    }

    fn end_span(&mut self, operation: &'static str) {
        let Some((spans, begun)) = self.span.take().map(|span| *span) else { return };
        if !begun.context.sampled {
            return;
        }
        let mut details = Details::request(operation);
        details.text("http.request.method", self.method.as_str());
        let status = self.status();
        details.number("http.response.status_code", u64::from(status.as_u16()));
        if let Some(bucket) = &self.bucket {
            details.text("aws.s3.bucket", &**bucket);
        }
        if let Some(key) = &self.key {
            details.text("aws.s3.key", &**key);
        }
        details.text("s3_mirror.request_id", &*self.id);
        details.number("s3_mirror.size", self.bytes);
        details.text("s3_mirror.mirror_status", self.mirror_status());
        if status.is_server_error() {
            details.text("error.type", status.as_str());
            details.failed(self.error.clone().unwrap_or_default());
        }
        spans.end(begun, details);
    }

    /// What the client was answered; [`UNANSWERED`] where it left before.
    fn status(&self) -> StatusCode {
        self.status.or_else(|| StatusCode::from_u16(UNANSWERED).ok()).unwrap_or_default()
    }

    /// A write that main accepted is pending until the mirror confirms it; nothing else is
    /// mirrored.
    fn mirror_status(&self) -> &'static str {
        let mutates = self.operation.is_some_and(|operation| {
            matches!(operation.effect, Effect::Key(_) | Effect::Keys | Effect::Bucket)
        });
        // A form upload may ask to be answered by a redirect.
        let status = self.status();
        let accepted = status.is_success() || status == StatusCode::SEE_OTHER;
        if mutates && accepted { "pending" } else { "none" }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took: Duration = self.started.elapsed();
        let status = self.status();
        self.metrics.request(&self.method, status, took);
        if self.status.is_none() {
            self.error.get_or_insert_with(|| "the client left before an answer".to_owned());
        }
        let operation = self.operation.map_or("Unknown", |operation| operation.name);
        self.end_span(operation);
        tracing::info!(
            bucket = self.bucket.as_deref().unwrap_or_default(),
            key = self.key.as_deref().unwrap_or_default(),
            method = self.method.as_str(),
            size = self.bytes,
            mirror_status = self.mirror_status(),
            operation,
            status = status.as_u16(),
            duration_ms = milliseconds(took),
            request_id = &*self.id,
            trace_id = self.trace_id.as_deref(),
            error = self.error.as_deref().unwrap_or_default(),
            message = "request",
        );
    }
}

/// To the microsecond: more digits only cost time and room.
fn milliseconds(took: Duration) -> f64 {
    f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1e3
}

/// 16 upper-case hexadecimal digits, like those of S3.
pub(super) fn request_id() -> Arc<str> {
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'A' - 10 };
    let mut digits = [0; 16];
    let (pairs, _) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(fastrand::u64(..).to_ne_bytes()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    std::str::from_utf8(&digits).unwrap_or_default().into()
}

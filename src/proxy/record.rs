//! The one log line and the metrics of a request, written when its response has ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::s3::address::path_style;
use crate::s3::operation::{Effect, Operation};
use crate::s3::trace::trace_id;

/// What is known of a request; written once, when dropped.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Metrics,
    started: Instant,
    /// Identifies the request in every line about it.
    pub(super) id: Arc<str>,
    pub(super) method: Method,
    pub(super) bucket: Option<String>,
    pub(super) key: Option<String>,
    pub(super) operation: Option<Operation>,
    pub(super) status: StatusCode,
    /// Bytes of the object that were received or sent.
    pub(super) bytes: u64,
    /// Error code or cause, if the request failed here.
    pub(super) error: Option<String>,
    /// The trace it belongs to, if the client says so.
    trace_id: Option<Box<str>>,
}

impl Record {
    pub(super) fn new(metrics: Metrics, method: Method, headers: &HeaderMap) -> Box<Self> {
        Box::new(Self {
            metrics,
            started: Instant::now(),
            id: request_id(),
            method,
            bucket: None,
            key: None,
            operation: None,
            status: StatusCode::OK,
            bytes: 0,
            error: None,
            trace_id: trace_id(headers).map(Into::into),
        })
    }

    /// What the request is about, as error documents name it. Only errors need it.
    pub(super) fn resource(&self) -> String {
        path_style(self.bucket.as_deref(), self.key.as_deref())
    }

    /// A write that main accepted is pending until the mirror confirms it; nothing else is
    /// mirrored.
    fn mirror_status(&self) -> &'static str {
        let mutates = self.operation.is_some_and(|operation| {
            matches!(operation.effect, Effect::Key(_) | Effect::Keys | Effect::Bucket)
        });
        // A form upload may ask to be answered by a redirect.
        let accepted = self.status.is_success() || self.status == StatusCode::SEE_OTHER;
        if mutates && accepted { "pending" } else { "none" }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took: Duration = self.started.elapsed();
        self.metrics.request(&self.method, self.status, took);
        tracing::info!(
            bucket = self.bucket.as_deref().unwrap_or_default(),
            key = self.key.as_deref().unwrap_or_default(),
            method = self.method.as_str(),
            size = self.bytes,
            mirror_status = self.mirror_status(),
            operation = self.operation.map_or("Unknown", |operation| operation.name),
            status = self.status.as_u16(),
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
fn request_id() -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut random = fastrand::u64(..);
    let digits: [u8; 16] = std::array::from_fn(|_| {
        let digit = DIGITS[usize::from(random.to_le_bytes()[0] & 15)];
        random >>= 4;
        digit
    });
    std::str::from_utf8(&digits).unwrap_or_default().into()
}

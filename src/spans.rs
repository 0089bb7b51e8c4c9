//! Spans of requests and copies, for an OpenTelemetry collector.
//!
//! # Promises
//! - Without a collector there is no [`Spans`], and nothing is made, kept or sent.
//! - **P5** Ending a span never waits: it goes into a queue of 2048 that a thread of its own empties.
//!   When the queue is full, or the collector away, spans are dropped.
//! - **P9** Names, keys, figures and our own reasons only: no header, query or signature.
//!
//! A span is built when it ends, from the few bytes its beginning left ([`Begun`]): there is no
//! context that follows a request around.

mod collector;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};

use crate::config::{Sampler, Traces};
use crate::metrics::Metrics;
use crate::s3::trace::TraceParent;
use collector::Collector;

/// How long a stopping process waits for the last spans to be taken.
const FINISH: Duration = Duration::from_secs(2);

/// Where spans go; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spans {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    processor: BatchSpanProcessor,
    sampler: Sampler,
    scope: InstrumentationScope,
}

/// A span under way.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// Itself, as others are told of it.
    pub context: TraceParent,
    parent: Option<[u8; 8]>,
    since: SystemTime,
}

/// What a span is about.
#[derive(Debug)]
pub struct Details {
    name: &'static str,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Details {
    /// A request we answer.
    pub fn request(name: &'static str) -> Self {
        Self::new(name, SpanKind::Server)
    }

    /// Work of our own.
    pub fn work(name: &'static str) -> Self {
        Self::new(name, SpanKind::Internal)
    }

    fn new(name: &'static str, kind: SpanKind) -> Self {
        Self { name, kind, attributes: Vec::with_capacity(8), status: Status::Unset }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.attributes.push(KeyValue::new(name, value.into()));
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: u64) {
        self.attributes.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// It went wrong.
    pub fn failed(&mut self, reason: impl Into<String>) {
        self.status = Status::error(reason.into());
    }
}

impl Spans {
    /// Sets the export up; connects to nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up, or a variable of OpenTelemetry's own is wrong.
    pub fn open(traces: &Traces, metrics: Metrics) -> Result<Self, std::io::Error> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(traces, metrics)?)
            .with_endpoint(traces.address.expose().to_string())
            .build()
            // The address is in its text, and may be secret.
            .map_err(|_| std::io::Error::other("the OTEL_ variables cannot be used"))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder()
            .with_service_name(traces.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("s3-mirror")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { inner: Arc::new(Inner { processor, sampler: traces.sampler, scope }) })
    }

    /// Begins a span below `parent`, or a trace. Its context tells whether it is sampled.
    pub fn begin(&self, parent: Option<TraceParent>) -> Begun {
        let trace = parent.map_or_else(|| random().to_be_bytes(), |parent| parent.trace);
        let span = u64::try_from(random() >> 64).unwrap_or(1).max(1).to_be_bytes();
        let sampled = sampled(self.inner.sampler, parent, &trace);
        Begun {
            context: TraceParent { trace, span, sampled },
            parent: parent.map(|parent| parent.span),
            since: SystemTime::now(),
        }
    }

    /// Ends a sampled span and hands it on.
    pub fn end(&self, begun: Begun, details: Details) {
        let Begun { context, parent, since } = begun;
        let (trace, span) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
        let state = TraceState::default();
        self.inner.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state),
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: parent.is_some(),
            span_kind: details.kind,
            name: details.name.into(),
            start_time: since,
            end_time: SystemTime::now(),
            attributes: details.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: details.status,
            instrumentation_scope: self.inner.scope.clone(),
        });
    }

    /// Has the last spans exported, for two seconds at most.
    pub async fn finish(self) {
        let inner = self.inner;
        // It waits for its thread.
        let finished =
            tokio::task::spawn_blocking(move || inner.processor.shutdown_with_timeout(FINISH));
        if !matches!(finished.await, Ok(Ok(()))) {
            tracing::debug!("the last spans were not exported");
        }
    }
}

/// Not zero, which no ID may be.
fn random() -> u128 {
    fastrand::u128(1..)
}

/// Is a span to be made? The caller's choice counts where it shall; of the others a share, which
/// every service that knows the ratio picks alike, by the last half of the trace ID.
fn sampled(sampler: Sampler, parent: Option<TraceParent>, trace: &[u8; 16]) -> bool {
    if sampler.parent
        && let Some(parent) = parent
    {
        return parent.sampled;
    }
    let last = u128::from_be_bytes(*trace) & u128::from(u64::MAX >> 1);
    #[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
    let place = last as f64 / (u64::MAX >> 1) as f64;
    sampler.ratio >= 1.0 || place < sampler.ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Sampler = Sampler { parent: true, ratio: 1.0 };
    const NEVER: Sampler = Sampler { parent: true, ratio: 0.0 };

    fn parent(sampled: bool) -> TraceParent {
        TraceParent { trace: [7; 16], span: [1; 8], sampled }
    }

    #[test]
    fn the_caller_decides_where_it_may() {
        assert!(!sampled(ALWAYS, Some(parent(false)), &[7; 16]));
        assert!(sampled(NEVER, Some(parent(true)), &[7; 16]));
        let alone = Sampler { parent: false, ratio: 1.0 };
        assert!(sampled(alone, Some(parent(false)), &[7; 16]));
    }

    #[test]
    fn without_a_caller_a_share_is_sampled() {
        let some = Sampler { parent: true, ratio: 0.25 };
        let count = (0..4000).filter(|_| sampled(some, None, &random().to_be_bytes())).count();
        assert!((700..1300).contains(&count), "{count} of 4000");
        assert!(sampled(ALWAYS, None, &[255; 16]) && !sampled(NEVER, None, &[0; 16]));
    }
}

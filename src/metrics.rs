//! Every metric of the process. Labels are small closed sets; nothing a client sends becomes a
//! label. Lag and backlog are not counted here: they are read from the journal when asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Method and status class of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: &'static str,
}

/// Main or mirror.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

/// Which program this is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What the last whole verification came to.
#[derive(Clone, Debug, Default)]
pub struct VerifyGauges {
    /// `s3_proxy_verify_finished_timestamp_seconds`
    pub finished: Gauge,
    /// `s3_proxy_verify_differences`
    pub differences: Gauge,
}

/// Room on the disk of `DATA_DIR`.
#[derive(Clone, Debug, Default)]
pub struct DiskGauges {
    /// `s3_proxy_data_dir_free_bytes`
    pub free: Gauge,
    /// `s3_proxy_data_dir_size_bytes`
    pub size: Gauge,
}

/// Handles to the series; cheap to clone, as every request does.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Series>);

impl std::ops::Deref for Metrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.0
    }
}

/// The series.
#[derive(Debug)]
pub struct Series {
    /// By method and status class, in the order of `METHODS` and `STATUSES`: looking a label up
    /// costs more than to count.
    requests: [[Counter; STATUSES.len()]; METHODS.len()],
    duration: Histogram,
    /// Failed tries to mirror a key.
    pub mirror_errors: Counter,
    /// Reads the mirror served because main did not answer.
    pub fallback_reads: Counter,
    /// Failed tries to write the inventory.
    pub db_errors: Counter,
    /// Events the receiver has taken.
    pub events_delivered: Counter,
    /// Failed tries to deliver events.
    pub event_errors: Counter,
    /// Failed exports of spans.
    pub span_export_errors: Counter,
    /// Accepted by main to confirmed by the mirror.
    pub mirror_latency: Latency,
    /// Bytes sent to the mirror.
    pub mirror_bytes: Counter,
    /// Set when metrics are read.
    pub disk: DiskGauges,
    /// Set when metrics are read.
    pub verify: VerifyGauges,
    credentials_end: Family<ServiceLabels, Gauge<f64, AtomicU64>>,
    credentials_failing: Family<ServiceLabels, Gauge>,
    /// Gauges that are set from the journal when metrics are read.
    pub journal: JournalGauges,
}

/// A histogram that can say how often it was told.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram,
    count: Arc<AtomicU64>,
}

impl Latency {
    /// Takes one value, in seconds.
    pub fn observe(&self, seconds: f64) {
        self.histogram.observe(seconds);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Values so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// What operators watch; values come from the journal.
#[derive(Clone, Debug, Default)]
pub struct JournalGauges {
    /// `s3_proxy_mirror_pending_operations`
    pub pending_operations: Gauge,
    /// `s3_proxy_mirror_pending_bytes`
    pub pending_bytes: Gauge,
    /// `s3_proxy_mirror_oldest_pending_seconds`
    pub oldest_pending_seconds: Gauge<f64, AtomicU64>,
    /// `s3_proxy_mirror_parked`
    pub parked: Gauge,
    /// `s3_proxy_mirror_held_deletes`
    pub held_deletes: Gauge,
    /// `s3_proxy_mirror_delete_brakes`
    pub delete_brakes: Gauge,
    /// `s3_proxy_inventory_pending_rows`
    pub pending_rows: Gauge,
    /// `s3_proxy_inventory_parked_rows`
    pub parked_rows: Gauge,
    /// `s3_proxy_unsettled_intents`
    pub unsettled_intents: Gauge,
    /// `s3_proxy_journal_failing`
    pub failing: Gauge,
    /// `s3_proxy_mirror_paused`
    pub paused: Gauge,
    /// `s3_proxy_mirror_unreachable`
    pub unreachable: Gauge,
    /// `s3_proxy_events_pending`
    pub events_pending: Gauge,
    /// `s3_proxy_events_refused`
    pub events_refused: Gauge,
    /// `s3_proxy_events_oldest_pending_seconds`
    pub events_oldest_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let of = |method| {
            STATUSES.map(|status| requests.get_or_create(&RequestLabels { method, status }).clone())
        };
        let metrics = Series {
            requests: METHODS.map(of),
            // 0.5 ms to 4 min
            duration: Histogram::new(exponential_buckets(0.0005, 2.0, 20)),
            mirror_errors: Counter::default(),
            fallback_reads: Counter::default(),
            db_errors: Counter::default(),
            events_delivered: Counter::default(),
            event_errors: Counter::default(),
            span_export_errors: Counter::default(),
            // 1 ms to 4.6 h: RTC's 15 minutes lie well inside.
            mirror_latency: Latency {
                histogram: Histogram::new(exponential_buckets(0.001, 2.0, 25)),
                count: Arc::default(),
            },
            mirror_bytes: Counter::default(),
            disk: DiskGauges::default(),
            verify: VerifyGauges::default(),
            credentials_end: Family::default(),
            credentials_failing: Family::default(),
            journal: JournalGauges::default(),
        };
        for service in ["main", "mirror"] {
            metrics.set_credentials(service, None, false);
        }
        let prefixed = registry.sub_registry_with_prefix("s3_proxy");
        prefixed.register("requests", "S3 requests answered", requests);
        prefixed.register_with_unit(
            "request_duration",
            "Arrival of a request to the end of its response",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        prefixed.register(
            "mirror_errors",
            "Failed tries to mirror a key",
            metrics.mirror_errors.clone(),
        );
        prefixed.register(
            "fallback_reads",
            "Reads served from the mirror because main did not answer",
            metrics.fallback_reads.clone(),
        );
        prefixed.register(
            "db_errors",
            "Failed tries to write the inventory",
            metrics.db_errors.clone(),
        );
        metrics.register_told(prefixed);
        metrics.register_ground(prefixed);
        prefixed.register_with_unit(
            "mirror_latency",
            "Acceptance by main to confirmation by the mirror",
            Unit::Seconds,
            metrics.mirror_latency.histogram.clone(),
        );
        prefixed.register(
            "mirror_copied_bytes",
            "Bytes sent to the mirror",
            metrics.mirror_bytes.clone(),
        );
        let gauges = &metrics.journal;
        let plain: [(&str, &str, &Gauge); 13] = [
            (
                "mirror_pending_operations",
                "Writes the mirror has not confirmed",
                &gauges.pending_operations,
            ),
            (
                "mirror_pending_bytes",
                "Bytes of those writes, as far as known",
                &gauges.pending_bytes,
            ),
            ("mirror_parked", "Keys stopped by a permanent error", &gauges.parked),
            ("mirror_held_deletes", "Deletes that wait: delayed or braked", &gauges.held_deletes),
            (
                "mirror_delete_brakes",
                "Buckets whose deletes wait for a person",
                &gauges.delete_brakes,
            ),
            ("inventory_pending_rows", "Rows the inventory has not written", &gauges.pending_rows),
            ("inventory_parked_rows", "Rows the inventory can never store", &gauges.parked_rows),
            ("unsettled_intents", "Writes whose outcome is not known", &gauges.unsettled_intents),
            ("journal_failing", "1 while the journal cannot be written", &gauges.failing),
            ("events_pending", "Events the webhook has not taken", &gauges.events_pending),
            ("events_refused", "Events the webhook refuses by themselves", &gauges.events_refused),
            ("mirror_paused", "1 while an operator has paused mirroring", &gauges.paused),
            ("mirror_unreachable", "1 while copies meet silence", &gauges.unreachable),
        ];
        for (name, help, gauge) in plain {
            prefixed.register(name, help, gauge.clone());
        }
        prefixed.register(
            "mirror_oldest_pending_seconds",
            "Age of the oldest write the mirror has not confirmed",
            gauges.oldest_pending_seconds.clone(),
        );
        Self(Arc::new(metrics))
    }
}

impl Series {
    /// Says until when the credentials of main or mirror serve, and whether renewing them failed.
    pub fn set_credentials(&self, service: &'static str, end: Option<SystemTime>, failing: bool) {
        let labels = ServiceLabels { service };
        let since = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        let seconds = since.map_or(0.0, |since| since.as_secs_f64());
        self.credentials_end.get_or_create(&labels).set(seconds);
        self.credentials_failing.get_or_create(&labels).set(i64::from(failing));
    }

    /// Series about comparisons, and about the program itself.
    fn register_verify(&self, prefixed: &mut Registry) {
        prefixed.register(
            "verify_finished_timestamp_seconds",
            "When the last verification of everything ended, 0 where none is known",
            self.verify.finished.clone(),
        );
        prefixed.register(
            "verify_differences",
            "What it left out of step, keys that it could not compare included",
            self.verify.differences.clone(),
        );
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        prefixed.register("build_info", "1, with the version as its label", build);
    }

    /// Series about what the service stands on.
    fn register_ground(&self, prefixed: &mut Registry) {
        self.register_verify(prefixed);
        prefixed.register(
            "span_export_errors",
            "Exports of spans the collector has not taken",
            self.span_export_errors.clone(),
        );
        let Self { disk, credentials_end, credentials_failing, .. } = self;
        prefixed.register(
            "data_dir_free_bytes",
            "Room left on the disk of DATA_DIR",
            disk.free.clone(),
        );
        prefixed.register("data_dir_size_bytes", "Size of the disk of DATA_DIR", disk.size.clone());
        prefixed.register(
            "credentials_expire_timestamp_seconds",
            "When the present credentials end, 0 where they do not",
            credentials_end.clone(),
        );
        prefixed.register(
            "credentials_failing",
            "1 while credentials cannot be renewed",
            credentials_failing.clone(),
        );
    }

    /// Series about other programs that are told of things.
    fn register_told(&self, prefixed: &mut Registry) {
        prefixed.register(
            "events_delivered",
            "Events the webhook has taken",
            self.events_delivered.clone(),
        );
        prefixed.register(
            "event_errors",
            "Failed tries to deliver events",
            self.event_errors.clone(),
        );
        prefixed.register(
            "events_oldest_pending_seconds",
            "Age of the oldest event the webhook has not taken",
            self.journal.events_oldest_seconds.clone(),
        );
    }

    /// Counts one answered request.
    pub fn request(&self, method: &Method, status: StatusCode, took: Duration) {
        self.requests[method_index(method)][status_index(status)].inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Requests answered so far, and those among them that were answered with 5xx.
    pub fn requests_and_failures(&self) -> (u64, u64) {
        let count = |at: usize| self.requests.iter().map(|of| of[at].get()).sum::<u64>();
        ((0..STATUSES.len()).map(count).sum(), count(STATUSES.len() - 1))
    }
}

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "other"];
const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

fn method_index(method: &Method) -> usize {
    let other = METHODS.len() - 1;
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(other)
}

fn status_index(status: StatusCode) -> usize {
    match status.as_u16() {
        0..300 => 0,
        300..400 => 1,
        400..500 => 2,
        _ => 3,
    }
}

//! The admin port: probes, metrics, status. Separate from the S3 port, where `metrics` is a legal
//! bucket name.
//!
//! Nothing here shows a secret, and changes need the admin token (`guard`). Figures come from the
//! journal.

mod answer;
mod buckets;
mod configuration;
mod explain;
pub mod guard;
mod history;
mod jobs;
mod names;
mod page;
mod parked;
mod room;
mod saved;
mod serve;
mod status;
mod untold;
mod verdict;
mod verified;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::config::env::Shown;
use crate::events::Receiver;
use crate::inventory::browse::Browser;
use crate::inventory::trouble::Trouble;
use crate::journal::events::EventFigures;
use crate::journal::operator::{BucketFigures, Reason};
use crate::journal::{Counted, Journal, now_ms};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::reconcile::jobs::Jobs;
use crate::upstream::Upstream;
use guard::Guard;
use room::Room;
use saved::Saved;

/// Requests answered at a time; more wait.
const CONCURRENCY: usize = 32;
/// How long the journal may take to tell what it holds. Its disk may hang.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);
/// What the admin port tells about.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

/// What it is made of.
pub struct Parts {
    /// Where the figures come from.
    pub journal: Journal,
    /// The workers.
    pub mirror: Arc<Mirror>,
    /// Main, to be asked about a key.
    pub main: Arc<Upstream>,
    /// The mirror, to be asked about a key.
    pub mirror_service: Arc<Upstream>,
    /// Mirror bucket = prefix + bucket.
    pub mirror_bucket_prefix: String,
    /// The inventory, if there is one.
    pub browser: Option<Arc<Browser>>,
    /// Series to set before they are read.
    pub metrics: Metrics,
    /// All series.
    pub registry: Registry,
    /// The directory of the journal.
    pub data_dir: PathBuf,
    /// Not ready while the journal fails?
    pub journal_required: bool,
    /// Who may change something.
    pub guard: Guard,
    /// What was set, secrets masked.
    pub settings: Shown,
    /// How the receiver of events does, if there is one.
    pub events: Option<Receiver>,
    /// What keeps rows from being written, if there is an inventory.
    pub rows: Option<Trouble>,
    /// Backfills and verifications.
    pub jobs: Jobs,
}

struct Inner {
    parts: Parts,
    started_ms: i64,
    ready: AtomicBool,
    history: history::History,
    knocked: tokio::sync::Mutex<Option<status::Knocked>>,
    reasons: Saved<Vec<Reason>>,
    waiting: Saved<Vec<BucketFigures>>,
    counted: ArcSwap<buckets::Counted>,
    counting: tokio::sync::Mutex<()>,
}

impl Admin {
    /// Puts it together; not ready yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                started_ms: now_ms(),
                ready: AtomicBool::new(false),
                history: history::History::default(),
                knocked: tokio::sync::Mutex::new(None),
                reasons: Saved::default(),
                waiting: Saved::default(),
                counted: ArcSwap::default(),
                counting: tokio::sync::Mutex::new(()),
            }),
        }
    }

    fn jobs(&self) -> &Jobs {
        &self.inner.parts.jobs
    }

    /// Says whether traffic is wanted.
    pub fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.inner.ready.load(Ordering::Relaxed)
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        // One for all of them; probes are never kept waiting by who asks for more.
        let limits = GlobalConcurrencyLimitLayer::new(CONCURRENCY);
        let guard = &self.inner.parts.guard;
        let api = Router::new()
            .route("/status", get(status::status))
            .route("/health", get(status::health))
            .route("/history", get(history::history))
            .route("/buckets", get(buckets::buckets))
            .route("/config", get(configuration::configuration))
            .route("/inventory", get(explain::inventory))
            .route("/explain", get(explain::explain))
            .route("/parked", get(parked::parked))
            .route("/parked/retry", post(parked::retry))
            .route("/parked/discard", post(parked::discard))
            .route("/pause", post(parked::pause))
            .route("/resume", post(parked::resume))
            .route("/release", post(parked::release))
            .merge(untold::routes())
            .merge(jobs::routes());
        let router = Router::new()
            .nest("/api/v1", api)
            .layer(middleware::from_fn_with_state(guard.clone(), guard::stand))
            .route("/metrics", get(metrics))
            // The page itself is free: a link to it may be on another page.
            .merge(page::routes())
            .layer(limits)
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .layer(DefaultBodyLimit::max(serve::BODY_BYTES_MAX))
            .layer(middleware::map_response(page::harden))
            .with_state(self);
        serve::serve(listener, router).await;
    }

    /// What the journal holds now; cheap, however much that is.
    async fn figures(&self) -> Result<Counted, Unavailable> {
        let journal = &self.inner.parts.journal;
        if journal.health().hangs() {
            return Err(Unavailable);
        }
        let counted = tokio::time::timeout(COUNT_TIMEOUT, journal.counted()).await;
        let Ok(counted) = counted else {
            tracing::error!("the journal does not tell what it holds");
            return Err(Unavailable);
        };
        let (figures, events) = counted.map_err(|error| {
            tracing::error!(%error, "cannot count the journal");
            Unavailable
        })?;
        // Where nobody is told of events any more, those of before are nobody's matter.
        let told = self.inner.parts.events.is_some();
        Ok((figures, if told { events } else { EventFigures::default() }))
    }

    /// The gauges of what the journal holds.
    fn set_gauges(&self, (figures, events): &Counted) {
        let parts = &self.inner.parts;
        let gauges = &parts.metrics.journal;
        gauges.pending_operations.set(figures.pending_operations);
        gauges.pending_bytes.set(figures.pending_bytes);
        gauges.oldest_pending_seconds.set(age_seconds(figures.oldest_pending_ms));
        gauges.parked.set(figures.parked);
        gauges.held_deletes.set(figures.held_deletes);
        let brakes = parts.mirror.brakes().len();
        gauges.delete_brakes.set(i64::try_from(brakes).unwrap_or(i64::MAX));
        gauges.events_pending.set(events.pending);
        gauges.events_oldest_seconds.set(age_seconds(events.oldest_pending_ms));
        gauges.events_refused.set(events.refused);
        gauges.pending_rows.set(figures.pending_rows);
        gauges.parked_rows.set(figures.parked_rows);
        gauges.unsettled_intents.set(figures.unsettled_intents);
    }

    async fn room(&self) -> Option<Room> {
        Room::of(self.inner.parts.data_dir.clone()).await
    }
}

/// The journal cannot be read.
#[derive(Debug)]
pub struct Unavailable;

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be read\n").into_response()
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let parts = &admin.inner.parts;
    if !admin.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response();
    }
    if parts.journal_required && parts.journal.health().ails() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written\n")
            .into_response();
    }
    "ok\n".into_response()
}

fn age_seconds(oldest_ms: Option<i64>) -> f64 {
    oldest_ms.map_or(0.0, crate::journal::operator::age_seconds)
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let parts = &admin.inner.parts;
    match admin.figures().await {
        Ok(counted) => admin.set_gauges(&counted),
        // That it cannot be counted must be told, and with it all that is no matter of the journal.
        Err(Unavailable) if parts.journal.health().ails() => {}
        Err(unavailable) => return Err(unavailable),
    }
    let gauges = &parts.metrics.journal;
    if let Some(room) = admin.room().await {
        parts.metrics.disk.free.set(i64::try_from(room.free_bytes).unwrap_or(i64::MAX));
        parts.metrics.disk.size.set(i64::try_from(room.size_bytes).unwrap_or(i64::MAX));
    }
    for (service, upstream) in [("main", &parts.main), ("mirror", &parts.mirror_service)] {
        let (end, failing) = upstream.provider().prospects();
        parts.metrics.set_credentials(service, end, failing);
    }
    gauges.failing.set(i64::from(parts.journal.health().ails()));
    gauges.paused.set(i64::from(parts.mirror.paused().is_some()));
    gauges.unreachable.set(i64::from(parts.mirror.unreachable()));
    if let Some((finished_ms, left)) = verified::last_of_everything(&parts.jobs.list()) {
        parts.metrics.verify.finished.set(finished_ms / 1000);
        parts.metrics.verify.differences.set(left);
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &parts.registry)
        .map_err(|_| Unavailable)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

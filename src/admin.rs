//! The admin port: probes, metrics, status. Separate from the S3 port, where `metrics` is a legal
//! bucket name.
//!
//! Nothing here shows a secret, and changes need the admin token (`guard`). Figures come from the
//! journal.

pub mod guard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::ServiceBuilder;
use tower::limit::ConcurrencyLimitLayer;

use crate::journal::{Figures, Journal, now_ms};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use guard::Guard;

/// Requests answered at a time; more wait.
const CONCURRENCY: usize = 32;
/// For metrics, figures are counted anew unless counting is expensive: then for this many times the time it
/// took, so that a large backlog and an eager scraper cannot keep the disk busy.
const FIGURES_SHARE: u32 = 10;
/// Counting that is cheaper than this is never saved up.
const FIGURES_CHEAP: Duration = Duration::from_millis(20);

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
    /// Series to set before they are read.
    pub metrics: Metrics,
    /// All series.
    pub registry: Registry,
    /// Not ready while the journal fails?
    pub journal_required: bool,
    /// Who may change something.
    pub guard: Guard,
}

struct Inner {
    parts: Parts,
    ready: AtomicBool,
    saved: tokio::sync::Mutex<Option<(Figures, Instant)>>,
}

impl Admin {
    /// Puts it together; not ready yet.
    pub fn new(parts: Parts) -> Self {
        let ready = AtomicBool::new(false);
        let saved = tokio::sync::Mutex::new(None);
        Self { inner: Arc::new(Inner { parts, ready, saved }) }
    }

    /// Says whether traffic is wanted.
    pub fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Relaxed);
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let limits = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(CONCURRENCY));
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/api/v1/status", get(status))
            .layer(middleware::from_fn_with_state(self.inner.parts.guard.clone(), guard::stand))
            .layer(limits)
            .with_state(self);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the admin port has stopped");
        }
    }

    /// The journal's figures, counted now.
    pub async fn figures(&self) -> Result<Figures, Unavailable> {
        self.inner.parts.journal.figures().await.map_err(|error| {
            tracing::error!(%error, "cannot count the journal");
            Unavailable
        })
    }

    /// The journal's figures, perhaps saved up from a moment ago when counting is expensive.
    async fn figures_for_scraping(&self) -> Result<Figures, Unavailable> {
        let mut saved = self.inner.saved.lock().await;
        let begun = Instant::now();
        if let Some((figures, until)) = &*saved
            && begun < *until
        {
            return Ok(figures.clone());
        }
        let figures = self.figures().await?;
        let took = begun.elapsed();
        *saved = (took > FIGURES_CHEAP)
            .then(|| (figures.clone(), Instant::now() + took * FIGURES_SHARE));
        Ok(figures)
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
    let inner = &admin.inner;
    if !inner.ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response();
    }
    let parts = &inner.parts;
    if parts.journal_required && parts.journal.health().failing() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written\n")
            .into_response();
    }
    "ok\n".into_response()
}

fn age_seconds(oldest_ms: Option<i64>) -> f64 {
    let age_ms = oldest_ms.map_or(0, |oldest| now_ms().saturating_sub(oldest).max(0));
    Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64()
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let figures = admin.figures_for_scraping().await?;
    let gauges = &admin.inner.parts.metrics.journal;
    gauges.pending_operations.set(figures.pending_operations);
    gauges.pending_bytes.set(figures.pending_bytes);
    gauges.oldest_pending_seconds.set(age_seconds(figures.oldest_pending_ms));
    gauges.parked.set(figures.parked);
    gauges.held_deletes.set(figures.held_deletes);
    let brakes = admin.inner.parts.mirror.brakes().len();
    gauges.delete_brakes.set(i64::try_from(brakes).unwrap_or(i64::MAX));
    gauges.pending_rows.set(figures.pending_rows);
    gauges.parked_rows.set(figures.parked_rows);
    gauges.unsettled_intents.set(figures.unsettled_intents);
    gauges.failing.set(i64::from(admin.inner.parts.journal.health().failing()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &admin.inner.parts.registry)
        .map_err(|_| Unavailable)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

async fn status(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let figures = admin.figures().await?;
    let (inner, parts) = (&admin.inner, &admin.inner.parts);
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": inner.ready.load(Ordering::Relaxed),
        "mirror": {
            "pending_operations": figures.pending_operations,
            "pending_bytes": figures.pending_bytes,
            "oldest_pending_seconds": age_seconds(figures.oldest_pending_ms),
            "parked": figures.parked,
            "deletes": parts.mirror.delete_policy().to_string(),
            "held_deletes": figures.held_deletes,
            "brakes": parts.mirror.brakes(),
            "unreachable": parts.mirror.unreachable(),
        },
        "inventory": {
            "pending_rows": figures.pending_rows,
            "parked_rows": figures.parked_rows,
        },
        "unsettled_intents": figures.unsettled_intents,
        "journal": { "failing": parts.journal.health().failing() },
    });
    Ok(Json(body).into_response())
}

//! How it stands: figures, pause, pace, and on request who can be reached and why keys wait.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::Fault;
use super::verdict::{self, Known};
use super::{Admin, age_seconds};
use crate::config::Endpoint;
use crate::events::Receiver;
use crate::inventory::trouble::Trouble;
use crate::journal::now_ms;
use crate::journal::operator::Reason;

/// The pace is that of the last minute.
const PACE_MS: i64 = 60_000;
/// How long one knock at a port may take.
const KNOCK: Duration = Duration::from_secs(2);
/// A knock serves for this long: enough for many pages that are open at a time, and short enough
/// that nobody reads "reachable" of what has just gone.
const KNOCK_KEPT: Duration = Duration::from_secs(1);
/// A change is late when it waits for longer than this, unless something else is said, in seconds.
const LATE_SECONDS: f64 = 60.0;
/// Reasons that are told, the most frequent first.
const REASONS_MAX: u32 = 5;

/// `GET /api/v1/status`
pub(super) async fn status(State(admin): State<Admin>) -> Result<Json<Value>, Fault> {
    let (figures, events) = admin.figures().await.map_err(|_| unreadable())?;
    let parts = &admin.inner.parts;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": admin.is_ready(),
        "now_ms": now_ms(),
        "started_ms": admin.inner.started_ms,
        "mirror": {
            "pending_operations": figures.pending_operations,
            "pending_bytes": figures.pending_bytes,
            "oldest_pending_seconds": age_seconds(figures.oldest_pending_ms),
            "parked": figures.parked,
            "deletes": parts.mirror.delete_policy().to_string(),
            "held_deletes": figures.held_deletes,
            "brakes": parts.mirror.brakes(),
            "unreachable": parts.mirror.unreachable(),
            "paused": parts.mirror.paused(),
        },
        "inventory": {
            "enabled": parts.browser.is_some(),
            "pending_rows": figures.pending_rows,
            "parked_rows": figures.parked_rows,
        },
        "events": {
            "enabled": parts.events.is_some(),
            "pending": events.pending,
            "oldest_pending_seconds": age_seconds(events.oldest_pending_ms),
            "refused": events.refused,
            "error": parts.events.as_ref().and_then(Receiver::error),
            "last_delivered_ms": parts.events.as_ref().and_then(Receiver::last_delivered_ms),
        },
        "unsettled_intents": figures.unsettled_intents,
        "journal": { "failing": parts.journal.health().ails() },
        "disk": admin.room().await,
        "changes_allowed": parts.guard.allows_changes(),
        "pace": admin.pace().await,
    })))
}

/// Averages per second over the last minute.
#[derive(Debug, Default, Serialize)]
struct Pace {
    /// What they are averages of, in seconds; 0 before the second sample.
    seconds: f64,
    requests: f64,
    failed_requests: f64,
    mirrored: f64,
    mirrored_bytes: f64,
    mirror_errors: f64,
    database_errors: f64,
}

impl Admin {
    async fn pace(&self) -> Pace {
        let Some(now) = self.sample().await else { return Pace::default() };
        let Some(then) = self.inner.history.before(now.at_ms - PACE_MS) else {
            return Pace::default();
        };
        let elapsed_ms = (now.at_ms - then.at_ms).max(0).unsigned_abs();
        let seconds = Duration::from_millis(elapsed_ms).as_secs_f64();
        if elapsed_ms == 0 {
            return Pace::default();
        }
        #[allow(clippy::cast_precision_loss, reason = "averages for a person")]
        let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        Pace {
            seconds,
            requests: per_second(now.requests, then.requests),
            failed_requests: per_second(now.failed_requests, then.failed_requests),
            mirrored: per_second(now.mirrored, then.mirrored),
            mirrored_bytes: per_second(now.mirrored_bytes, then.mirrored_bytes),
            mirror_errors: per_second(now.mirror_errors, then.mirror_errors),
            database_errors: per_second(now.database_errors, then.database_errors),
        }
    }
}

/// Whether somebody can be reached, as far as a connection tells.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reach {
    /// Where; without credentials.
    address: String,
    /// Did somebody accept a connection?
    reachable: bool,
    /// How long that took.
    connect_ms: u64,
    /// Why not.
    error: Option<String>,
}

/// What was found out about the peers, and when.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Knocked {
    main: Reach,
    mirror: Reach,
    /// None without an inventory.
    database: Option<Reach>,
    #[serde(skip)]
    until: Instant,
}

/// `GET /api/v1/health`: knocks at the ports of main, mirror and database, which costs no request,
/// and tells why keys wait.
pub(super) async fn health(
    State(admin): State<Admin>,
    query: Result<Query<Late>, QueryRejection>,
) -> Result<Json<Value>, Fault> {
    let late_seconds = query?.late_seconds.unwrap_or(LATE_SECONDS);
    let journal = &admin.inner.parts.journal;
    let reasons = if journal.health().hangs() {
        Vec::new()
    } else {
        admin.inner.reasons.or(journal.reasons(REASONS_MAX)).await?
    };
    let knocked = admin.knock().await;
    let known = admin.known(&knocked, &reasons).await?;
    let findings = verdict::findings(&known, late_seconds);
    Ok(Json(json!({
        "state": verdict::state(&findings),
        "findings": findings,
        "main": knocked.main,
        "mirror": knocked.mirror,
        "database": knocked.database,
        "mirror_unreachable": admin.inner.parts.mirror.unreachable(),
        "reasons": reasons,
    })))
}

/// From when on a change is late.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Late {
    late_seconds: Option<f64>,
}

impl Admin {
    async fn known(&self, knocked: &Knocked, reasons: &[Reason]) -> Result<Known, Fault> {
        let parts = &self.inner.parts;
        let (figures, events) = match self.figures().await {
            Ok(figures) => figures,
            // That is what is to be told.
            Err(_) if parts.journal.health().ails() => Default::default(),
            Err(_) => return Err(unreadable()),
        };
        let error = |reach: &Reach| reach.error.as_ref().map(|e| format!("{}: {e}", reach.address));
        let most = |state: &str| {
            let first = reasons.iter().find(|reason| reason.state == state)?;
            Some(format!("{} ({} keys, such as {})", first.reason, first.keys, first.example))
        };
        let brakes = parts.mirror.brakes().into_iter();
        let room = self.room().await;
        Ok(Known {
            short_of_room: room.filter(|room| room.is_short()).map(|room| room.free_bytes),
            ready: self.is_ready(),
            journal_failing: parts.journal.health().ails(),
            paused: parts.mirror.paused().map(|p| (age_seconds(Some(p.since_ms)), p.reason)),
            brakes: brakes.map(|brake| (brake.bucket, brake.reason)).collect(),
            pending: figures.pending_operations,
            oldest_seconds: age_seconds(figures.oldest_pending_ms),
            parked: figures.parked,
            parked_rows: figures.parked_rows,
            pending_rows: figures.pending_rows,
            events_pending: events.pending,
            events_seconds: age_seconds(events.oldest_pending_ms),
            events_error: parts.events.as_ref().and_then(Receiver::error),
            events_refused: (events.refused, events.error),
            unreachable: parts.mirror.unreachable(),
            main_error: error(&knocked.main),
            mirror_error: error(&knocked.mirror),
            database_error: knocked.database.as_ref().and_then(error),
            rows_error: parts
                .rows
                .as_ref()
                .and_then(Trouble::longest)
                .map(|(since_ms, reason)| (age_seconds(Some(since_ms)), reason)),
            retrying: most("retrying"),
            parking: most("parked"),
        })
    }

    async fn knock(&self) -> Knocked {
        let mut kept = self.inner.knocked.lock().await;
        if let Some(knocked) = &*kept
            && Instant::now() < knocked.until
        {
            return knocked.clone();
        }
        let parts = &self.inner.parts;
        let (main, mirror, database) = tokio::join!(
            knock_at(parts.main.endpoint()),
            knock_at(parts.mirror_service.endpoint()),
            self.knock_at_database(),
        );
        let knocked = Knocked { main, mirror, database, until: Instant::now() + KNOCK_KEPT };
        *kept = Some(knocked.clone());
        knocked
    }

    async fn knock_at_database(&self) -> Option<Reach> {
        let browser = self.inner.parts.browser.as_ref()?;
        let begun = Instant::now();
        let answer = tokio::time::timeout(KNOCK, browser.ping()).await;
        let error = match answer {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let address = browser.kind().to_owned();
        Some(Reach { address, reachable: error.is_none(), connect_ms: elapsed_ms(begun), error })
    }
}

async fn knock_at(endpoint: &Endpoint) -> Reach {
    let secure = endpoint.scheme == http::uri::Scheme::HTTPS;
    let port = endpoint.authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = endpoint.authority.host().trim_start_matches('[').trim_end_matches(']');
    let begun = Instant::now();
    let error = match tokio::time::timeout(KNOCK, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    let reachable = error.is_none();
    Reach { address: endpoint.url(), reachable, connect_ms: elapsed_ms(begun), error }
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn unreadable() -> Fault {
    Fault::unavailable("the journal cannot be read")
}

//! Events that the receiver has not taken: listed, sent again, given up.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::Fault;
use super::parked::{Chosen, checked};
use crate::journal::events::{Say, Untold};
use crate::journal::operator::{Handled, PAGE_MAX, Selection, last_of_full};

/// Events of a page when nothing is said.
const PAGE: u32 = 100;

/// Below `/api/v1`.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/events", get(listed))
        .route("/events/retry", post(retry))
        .route("/events/discard", post(discard))
}

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    bucket: Option<String>,
    key: Option<String>,
    /// Those that wait too, not only those that are refused.
    #[serde(default)]
    waiting: bool,
    /// `next` of the page before.
    after: Option<i64>,
    limit: Option<u32>,
}

/// `GET /api/v1/events`
#[derive(Debug, Serialize)]
struct Listed {
    events: Vec<Untold>,
    /// Where the next page begins; none: this is the last.
    next: Option<i64>,
}

async fn listed(
    State(admin): State<Admin>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Listed>, Fault> {
    let Query(page) = query?;
    let selection = checked(Selection { bucket: page.bucket, key: page.key })?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let journal = &admin.inner.parts.journal;
    let after = page.after.unwrap_or(0);
    let events = journal.events_untold(&selection, page.waiting, after, limit).await?;
    let next = last_of_full(&events, limit).map(|last| last.id);
    Ok(Json(Listed { events, next }))
}

async fn retry(
    State(admin): State<Admin>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Handled>, Fault> {
    let (selection, after) = chosen?.0.stopped()?;
    let journal = &admin.inner.parts.journal;
    let handled = journal.handle_events(&selection, Say::Retry, after.as_ref()).await?;
    tracing::info!(entries = handled.entries, ?selection, "an operator retries refused events");
    Ok(Json(handled))
}

async fn discard(
    State(admin): State<Admin>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Handled>, Fault> {
    let chosen = chosen?.0;
    let waiting = chosen.waiting;
    let (selection, after) = chosen.selection()?;
    let say = if waiting { Say::DiscardWaiting } else { Say::Discard };
    let journal = &admin.inner.parts.journal;
    let handled = journal.handle_events(&selection, say, after.as_ref()).await?;
    tracing::warn!(entries = handled.entries, waiting, ?selection, "an operator gave events up");
    Ok(Json(handled))
}

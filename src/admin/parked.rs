//! What a person says about keys that stand still, and about mirroring as a whole.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Admin;
use super::answer::Fault;
use crate::journal::operator::{After, Handled, PAGE_MAX, Parked, Selection, last_of_full};

/// Entries of a page when nothing is said.
const PAGE: u32 = 100;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    bucket: Option<String>,
    key: Option<String>,
    /// The three parts of `next` of the page before.
    after_bucket: Option<String>,
    after_key: Option<String>,
    after_sequence: Option<i64>,
    limit: Option<u32>,
}

/// `GET /api/v1/parked`
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    parked: Vec<Parked>,
    /// Where the next page begins; none: this is the last.
    next: Option<After>,
}

/// `GET /api/v1/parked`
pub(super) async fn parked(
    State(admin): State<Admin>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Listed>, Fault> {
    let Query(page) = query?;
    let selection = checked(Selection { bucket: page.bucket, key: page.key })?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let after = match (page.after_bucket, page.after_key, page.after_sequence) {
        (Some(bucket), Some(key), Some(sequence)) => Some(After { bucket, key, sequence }),
        (None, None, None) => None,
        _ => return Err(Fault::request("after_bucket, after_key, after_sequence: all or none")),
    };
    let parked = admin.inner.parts.journal.parked(&selection, after.as_ref(), limit).await?;
    let next = last_of_full(&parked, limit).map(Parked::position);
    Ok(Json(Listed { parked, next }))
}

/// One key, one bucket, or all; all has to be said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    #[serde(default)]
    bucket: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    all: bool,
    /// Those that wait too. Only events can be given up that early.
    #[serde(default)]
    pub(super) waiting: bool,
    /// `next` of the answer before.
    #[serde(default)]
    after: Option<After>,
}

impl Chosen {
    /// What the change is about, and where it goes on.
    pub(super) fn selection(self) -> Result<(Selection, Option<After>), Fault> {
        if self.all == self.bucket.is_some() {
            return Err(Fault::request("say either which bucket, or \"all\": true"));
        }
        Ok((checked(Selection { bucket: self.bucket, key: self.key })?, self.after))
    }

    /// The same, of what does not wait.
    pub(super) fn stopped(self) -> Result<(Selection, Option<After>), Fault> {
        if self.waiting {
            return Err(Fault::request("those that wait are tried by themselves"));
        }
        self.selection()
    }
}

pub(super) fn checked(selection: Selection) -> Result<Selection, Fault> {
    if selection.key.is_some() && selection.bucket.is_none() {
        return Err(Fault::request("a key needs its bucket"));
    }
    Ok(selection)
}

/// `POST /api/v1/parked/retry`
pub(super) async fn retry(
    State(admin): State<Admin>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Handled>, Fault> {
    let (selection, after) = chosen?.0.stopped()?;
    let handled = admin.inner.parts.journal.retry_parked(&selection, after.as_ref()).await?;
    tracing::info!(entries = handled.entries, ?selection, "an operator retries parked keys");
    Ok(Json(handled))
}

/// `POST /api/v1/parked/discard`
pub(super) async fn discard(
    State(admin): State<Admin>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Handled>, Fault> {
    let (selection, after) = chosen?.0.stopped()?;
    let handled = admin.inner.parts.journal.discard(&selection, after.as_ref()).await?;
    tracing::warn!(
        entries = handled.entries,
        bytes = handled.bytes,
        left = handled.left,
        ?selection,
        "an operator gave parked keys up"
    );
    Ok(Json(handled))
}

/// Why mirroring is stopped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default)]
    reason: Option<String>,
}

/// Longest reason, in bytes; it is shown on one line.
const REASON_BYTES_MAX: usize = 500;

/// `POST /api/v1/pause`
pub(super) async fn pause(
    State(admin): State<Admin>,
    why: Result<Json<Why>, JsonRejection>,
) -> Result<Json<Value>, Fault> {
    let reason = why?.0.reason.filter(|reason| !reason.trim().is_empty());
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        return Err(Fault::request("the reason is too long"));
    }
    let paused = admin.inner.parts.mirror.pause(reason).await?;
    Ok(Json(json!({ "paused": paused })))
}

/// Which brake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Braked {
    bucket: String,
}

/// `POST /api/v1/release`
pub(super) async fn release(
    State(admin): State<Admin>,
    braked: Result<Json<Braked>, JsonRejection>,
) -> Result<Json<Value>, Fault> {
    let bucket = braked?.0.bucket;
    if !admin.inner.parts.mirror.release(&bucket).await {
        return Err(Fault::missing(format!("the deletes of {bucket} are not held back")));
    }
    tracing::warn!(bucket, "an operator released the held deletes of a bucket");
    Ok(Json(json!({ "released": bucket })))
}

/// `POST /api/v1/resume`
pub(super) async fn resume(State(admin): State<Admin>) -> Result<Json<Value>, Fault> {
    let resumed = admin.inner.parts.mirror.resume().await?;
    Ok(Json(json!({ "paused": null, "resumed": resumed })))
}

//! Buckets: what the inventory counts and what the journal still has to do.
//!
//! Counting looks at every row of the inventory, so a count serves for a while: half a minute, and
//! twenty times as long as it took.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Admin;
use super::answer::Fault;
use crate::inventory::browse::Totals;
use crate::journal::operator::BucketFigures;
use crate::journal::{now_ms, operator};

/// A count serves at least this long.
const KEPT: Duration = Duration::from_secs(30);
/// And this many times the time it took.
const KEPT_SHARE: u32 = 20;
/// The first count is waited for this long; then the answer comes without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The counts of the inventory.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    totals: Vec<Totals>,
    at_ms: Option<i64>,
    error: Option<String>,
    until: Option<Instant>,
}

/// `GET /api/v1/buckets`
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// By name; the busiest thousand if there are more.
    buckets: Vec<Bucket>,
    /// When the inventory was counted, milliseconds since 1970.
    counted_ms: Option<i64>,
    /// Why it could not be counted.
    error: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Bucket {
    /// None: not counted.
    objects: Option<i64>,
    bytes: Option<i64>,
    not_mirrored: Option<i64>,
    row_written: Option<String>,
    #[serde(flatten)]
    waiting: BucketFigures,
}

/// How much is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Are objects and bytes to be counted?
    #[serde(default = "yes")]
    count: bool,
}

fn yes() -> bool {
    true
}

/// `GET /api/v1/buckets`
pub(super) async fn buckets(
    State(admin): State<Admin>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Answer>, Fault> {
    let figures = admin.inner.waiting.or(admin.inner.parts.journal.bucket_figures()).await?;
    let mut buckets: BTreeMap<String, Bucket> = BTreeMap::new();
    let counted = if query?.count {
        admin.count().await
    } else {
        if let Some(browser) = &admin.inner.parts.browser {
            buckets
                .extend(browser.names().await?.into_iter().map(|name| (name, Bucket::default())));
        }
        Counted::default()
    };
    for totals in counted.totals {
        let bucket = buckets.entry(totals.bucket.clone()).or_default();
        bucket.objects = Some(totals.objects);
        bucket.bytes = Some(totals.bytes);
        bucket.not_mirrored = Some(totals.not_mirrored);
        bucket.row_written = totals.updated_at;
    }
    for figures in figures {
        let bucket = buckets.entry(figures.bucket.clone()).or_default();
        bucket.waiting = figures;
    }
    let buckets = buckets.into_iter().map(|(name, mut bucket)| {
        bucket.waiting.bucket = name;
        bucket
    });
    let most = usize::try_from(operator::BUCKETS_MAX).unwrap_or(usize::MAX);
    Ok(Json(Answer {
        buckets: buckets.take(most).collect(),
        counted_ms: counted.at_ms,
        error: counted.error,
    }))
}

impl Admin {
    /// The last count; a new one is begun when it is old, and the first one waited for.
    async fn count(&self) -> Counted {
        let Some(browser) = &self.inner.parts.browser else { return Counted::default() };
        let known = self.inner.counted.load();
        if known.until.is_some_and(|until| Instant::now() < until) {
            return Counted::clone(&known);
        }
        let (admin, browser) = (self.clone(), browser.clone());
        let counting = tokio::spawn(async move {
            // One at a time; who comes second finds it done.
            let _one = admin.inner.counting.lock().await;
            if admin.inner.counted.load().until.is_some_and(|until| Instant::now() < until) {
                return;
            }
            let begun = Instant::now();
            let result = browser.totals().await;
            let until = Some(Instant::now() + KEPT.max(begun.elapsed() * KEPT_SHARE));
            let counted = match result {
                Ok(totals) => Counted { totals, at_ms: Some(now_ms()), error: None, until },
                Err(error) => Counted {
                    error: Some(error.to_string()),
                    until: Some(Instant::now() + PATIENCE),
                    ..Counted::clone(&admin.inner.counted.load())
                },
            };
            admin.inner.counted.store(counted.into());
        });
        if tokio::time::timeout(PATIENCE, counting).await.is_err() {
            tracing::debug!("counting the inventory takes its time");
        }
        Counted::clone(&self.inner.counted.load())
    }
}

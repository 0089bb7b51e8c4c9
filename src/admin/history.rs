//! The last hours in figures: a ring of samples in memory, one every ten seconds, six hours long,
//! some 300 KiB. A restart empties it; Prometheus is for longer times.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use serde::{Deserialize, Serialize};

use super::answer::Fault;
use super::{Admin, age_seconds};
use crate::journal::now_ms;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(10);
/// Samples kept: six hours of them.
const SAMPLES_MAX: usize = 6 * 360;
/// Points in one answer, at most; older ones are thinned out.
const POINTS_MAX: usize = 720;

/// One moment. Counters count from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Keys the mirror has not confirmed.
    pub pending_operations: i64,
    /// Their bytes, as far as known.
    pub pending_bytes: i64,
    /// Age of the oldest of them, in seconds.
    pub oldest_pending_seconds: f64,
    /// Keys and rows stopped by a permanent error.
    pub parked: i64,
    /// Rows the inventory has not written.
    pub pending_rows: i64,
    /// Counter: requests answered.
    pub requests: u64,
    /// Counter: requests answered with 5xx.
    pub failed_requests: u64,
    /// Counter: keys the mirror has confirmed.
    pub mirrored: u64,
    /// Counter: bytes sent to the mirror.
    pub mirrored_bytes: u64,
    /// Counter: failed tries to mirror a key.
    pub mirror_errors: u64,
    /// Counter: failed tries to write the inventory.
    pub database_errors: u64,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

impl History {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The newest sample that is at least this old, or the oldest there is.
    pub(super) fn before(&self, at_ms: i64) -> Option<Sample> {
        let samples = self.lock();
        let older = samples.iter().rev().find(|sample| sample.at_ms <= at_ms);
        older.or_else(|| samples.front()).copied()
    }

    /// Samples behind a moment, thinned out evenly.
    fn since(&self, since_ms: i64) -> Vec<Sample> {
        let samples = self.lock();
        let wanted: Vec<Sample> =
            samples.iter().filter(|sample| sample.at_ms > since_ms).copied().collect();
        let step = wanted.len().div_ceil(POINTS_MAX).max(1);
        // Counted from the end: the newest is always there.
        let mut thin: Vec<Sample> = wanted.into_iter().rev().step_by(step).collect();
        thin.reverse();
        thin
    }
}

impl Admin {
    /// Takes samples until it is dropped.
    pub async fn watch(self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(sample) = self.sample().await {
                self.inner.history.push(sample);
            }
        }
    }

    /// This moment; `None` while the journal cannot be read.
    pub(super) async fn sample(&self) -> Option<Sample> {
        let (figures, _) = self.figures().await.ok()?;
        let metrics = &self.inner.parts.metrics;
        let (requests, failed_requests) = metrics.requests_and_failures();
        Some(Sample {
            at_ms: now_ms(),
            pending_operations: figures.pending_operations,
            pending_bytes: figures.pending_bytes,
            oldest_pending_seconds: age_seconds(figures.oldest_pending_ms),
            parked: figures.parked + figures.parked_rows,
            pending_rows: figures.pending_rows,
            requests,
            failed_requests,
            mirrored: metrics.mirror_latency.count(),
            mirrored_bytes: metrics.mirror_bytes.get(),
            mirror_errors: metrics.mirror_errors.get(),
            database_errors: metrics.db_errors.get(),
        })
    }
}

/// Which samples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// Behind this moment, milliseconds since 1970.
    #[serde(default)]
    since_ms: i64,
}

/// `GET /api/v1/history`
pub(super) async fn history(
    State(admin): State<Admin>,
    query: Result<axum::extract::Query<Since>, QueryRejection>,
) -> Result<Json<Vec<Sample>>, Fault> {
    Ok(Json(admin.inner.history.since(query?.since_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: i64) -> Sample {
        Sample {
            at_ms,
            pending_operations: 0,
            pending_bytes: 0,
            oldest_pending_seconds: 0.0,
            parked: 0,
            pending_rows: 0,
            requests: 0,
            failed_requests: 0,
            mirrored: 0,
            mirrored_bytes: 0,
            mirror_errors: 0,
            database_errors: 0,
        }
    }

    #[test]
    fn the_ring_is_bounded_and_an_answer_is_thinned_out_with_the_newest_kept() {
        let history = History::default();
        for at_ms in 0..5000 {
            history.push(sample(at_ms));
        }
        assert_eq!(history.lock().len(), SAMPLES_MAX);
        let points = history.since(0);
        assert!(points.len() <= POINTS_MAX && points.len() > POINTS_MAX / 2);
        assert_eq!(points.last().unwrap().at_ms, 4999);
        assert_eq!(history.since(4989).len(), 10);
    }

    #[test]
    fn the_sample_before_a_moment_is_the_newest_that_old() {
        let history = History::default();
        assert_eq!(history.before(10), None);
        for at_ms in [10, 20, 30] {
            history.push(sample(at_ms));
        }
        assert_eq!(history.before(25).unwrap().at_ms, 20);
        assert_eq!(history.before(5).unwrap().at_ms, 10, "the oldest there is");
    }
}

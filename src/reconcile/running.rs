//! A job that runs, as others see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::World;
use super::job::{Counts, Progress, Spec, State, View};

/// See the module.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) spec: Spec,
    view: Mutex<View>,
    cancel: Notify,
}

impl Running {
    pub(super) fn new(id: String, spec: Spec, started_ms: i64) -> Arc<Self> {
        let view = View {
            id: id.clone(),
            spec: spec.clone(),
            state: State::Running,
            started_ms,
            finished_ms: None,
            scanned: 0,
            total: None,
            queued: 0,
            bytes: 0,
            differences: 0,
            errors: 0,
            eta_seconds: None,
            message: "starting".into(),
            counts: Counts::default(),
            report: None,
        };
        Arc::new(Self { id, spec, view: Mutex::new(view), cancel: Notify::new() })
    }

    /// Tells how far the job is.
    pub(super) fn publish(
        &self,
        progress: &Progress,
        total: Option<u64>,
        eta_seconds: Option<u64>,
        message: String,
        stuck: usize,
    ) {
        let counts = progress.counts.clone();
        let mut view = self.lock();
        view.scanned = counts.scanned;
        view.total = total;
        view.queued = counts.queued;
        view.bytes = counts.bytes;
        view.differences = counts.differences();
        view.errors = counts.errors + counts.parked + u64::try_from(stuck).unwrap_or(0);
        view.eta_seconds = eta_seconds;
        view.message = message;
        view.counts = counts;
    }

    /// Keeps the progress for a restart.
    pub(super) async fn save(&self, world: &World, progress: &Progress) {
        let text = serde_json::to_string(progress).unwrap_or_default();
        let name = format!("job/{}", self.id);
        if let Err(error) = world.journal.set_note(&name, Some(&text)).await {
            tracing::warn!(job = self.id, %error, "the progress of a job was not kept");
        }
    }

    /// How it stands.
    pub(super) fn view(&self) -> View {
        self.lock().clone()
    }

    /// Ends it, wherever it is.
    pub(super) fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// Resolves when it is to end.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Whether the journal's disk works, for those who have to know.

use std::sync::atomic::{AtomicBool, Ordering};

/// Does the disk take what it is given?
#[derive(Debug, Default)]
pub struct Health {
    failing: AtomicBool,
}

impl Health {
    /// Is the journal unable to write right now?
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, error: &sqlx::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the journal cannot be written; writes are kept in memory");
        }
    }

    pub(super) fn recovered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!("the journal can be written again; what was kept in memory is on disk");
        }
    }
}

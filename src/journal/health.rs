//! Whether the journal's disk works, for those who have to know.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A write that has not ended after this time hangs. Disks of a cloud may pause for some seconds.
const HANGS_AFTER: Duration = Duration::from_secs(20);

/// Does the disk take what it is given?
#[derive(Debug)]
pub struct Health {
    failing: AtomicBool,
    opened: Instant,
    /// When the write under way began, in milliseconds since then; [`IDLE`] while there is none.
    writing: AtomicU64,
    /// Has it been told that it hangs?
    told: AtomicBool,
}

const IDLE: u64 = u64::MAX;

impl Health {
    pub(super) fn new() -> Self {
        Self {
            failing: AtomicBool::new(false),
            opened: Instant::now(),
            writing: AtomicU64::new(IDLE),
            told: AtomicBool::new(false),
        }
    }

    /// Did the last write of the database fail?
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Has a write not come to an end for so long that it may never? Nobody is answered then who waits
    /// for the journal, and there is nothing that could be done about it but to mend the disk.
    pub fn hangs(&self) -> bool {
        let since = self.writing.load(Ordering::Relaxed);
        let hangs = is_stuck(since, self.now());
        if hangs && !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!("the journal's disk does not answer; writes wait for it");
        }
        hangs
    }

    /// Is the journal unable to write right now?
    pub fn ails(&self) -> bool {
        self.failing() || self.hangs()
    }

    /// Runs a write of the journal.
    pub(super) fn watched<T>(&self, write: impl FnOnce() -> T) -> T {
        self.begin();
        let written = write();
        self.end();
        written
    }

    /// A write begins.
    pub(super) fn begin(&self) {
        self.writing.store(self.now(), Ordering::Relaxed);
    }

    /// It has ended, well or not.
    pub(super) fn end(&self) {
        self.writing.store(IDLE, Ordering::Relaxed);
        if self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::Relaxed) {
            tracing::warn!("the journal's disk answers again");
        }
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

    fn now(&self) -> u64 {
        milliseconds(self.opened.elapsed())
    }
}

/// Has a write that began then, if there is one, lasted too long by now?
fn is_stuck(since: u64, now: u64) -> bool {
    since != IDLE && now >= since.saturating_add(milliseconds(HANGS_AFTER))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(IDLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_does_not_end_hangs_and_one_that_ends_does_not() {
        let limit = milliseconds(HANGS_AFTER);
        assert!(!is_stuck(IDLE, IDLE - 1), "nothing is written");
        assert!(!is_stuck(7, 7 + limit - 1) && is_stuck(7, 7 + limit));
        let health = Health::new();
        assert!(!health.watched(|| health.writing.load(Ordering::Relaxed) == IDLE));
        assert!(health.writing.load(Ordering::Relaxed) == IDLE && !health.ails());
    }
}

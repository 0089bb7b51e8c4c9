//! What must never end begins again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

/// Pause before it begins again, so that one fault does not fill a log.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task of the service for ever. One that panics is told of and begun anew, for a service that copies
/// nothing any more and seems well is worse than one that fails aloud. What it had in hand waits for the
/// next start: the journal knows of it.
pub(super) async fn again<F: Future>(what: &'static str, task: impl Fn() -> F) {
    loop {
        // Nothing shared is left half-changed: locks are not held across calls that can fail, and what
        // they guard says so where it is locked.
        if AssertUnwindSafe(task()).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(task = what, "a task of the service failed unexpectedly and begins again");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_begins_again_and_one_that_ends_does_not() {
        let begun = AtomicU32::new(0);
        let task = || async {
            assert!(begun.fetch_add(1, Ordering::Relaxed) > 0, "the first one fails");
        };
        again("test", task).await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }
}

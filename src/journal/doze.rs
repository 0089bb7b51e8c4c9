//! Company for keys that come one by one.
//!
//! Waking a thread that sleeps costs more than all else that is done for a small object, and takes the
//! core from requests. So a worker that finds nothing right after a claim dozes for a moment before it
//! waits to be woken, and while it does nobody is woken: what comes meanwhile is found together. A key
//! that comes alone is taken at once.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a key may wait for company.
pub(super) const COMPANY: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Doze {
    is_on: AtomicBool,
    began: Instant,
    /// Microseconds from then to the last claim.
    claimed: AtomicI64,
}

/// A worker dozes. The end of it, however it comes, lets others be woken again.
#[derive(Debug)]
pub(super) struct Dozing<'a> {
    doze: &'a Doze,
    ready: &'a Notify,
}

impl Doze {
    pub(super) fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            began: Instant::now(),
            claimed: AtomicI64::new(i64::MIN / 2),
        }
    }

    /// Does somebody doze, who will look before anybody need be woken?
    pub(super) fn is_on(&self) -> bool {
        // Whoever offers has put the key into the lane before, under its lock, and whoever has dozed
        // looks into the lane afterwards: one of them sees the other.
        self.is_on.load(Ordering::SeqCst)
    }

    /// A key has been claimed.
    pub(super) fn claimed(&self) {
        self.claimed.store(self.now(), Ordering::Relaxed);
    }

    /// Begins to doze, if a key was claimed a moment ago and nobody does yet.
    pub(super) fn begin<'a>(&'a self, ready: &'a Notify) -> Option<Dozing<'a>> {
        let since = self.now() - self.claimed.load(Ordering::Relaxed);
        let is_busy = u128::try_from(since).is_ok_and(|since| since < COMPANY.as_micros());
        (is_busy && !self.is_on.swap(true, Ordering::SeqCst)).then(|| Dozing { doze: self, ready })
    }

    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 2)
    }
}

impl Drop for Dozing<'_> {
    fn drop(&mut self) {
        self.doze.is_on.store(false, Ordering::SeqCst);
        // It may have been cancelled, and others have not been told of what came.
        self.ready.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_dozes_and_only_right_after_a_claim() {
        let (doze, ready) = (Doze::new(), Notify::new());
        assert!(doze.begin(&ready).is_none(), "nothing was ever claimed");
        doze.claimed();
        let dozing = doze.begin(&ready).unwrap();
        assert!(doze.is_on() && doze.begin(&ready).is_none());
        drop(dozing);
        assert!(!doze.is_on());
        ready.notified().await;
        tokio::time::sleep(COMPANY * 2).await;
        assert!(doze.begin(&ready).is_none());
    }
}

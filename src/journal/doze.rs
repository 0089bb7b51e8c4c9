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
const COMPANY: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Doze {
    is_on: AtomicBool,
    began: Instant,
    /// Microseconds from then to the last claim.
    claimed: AtomicI64,
}

/// A worker dozes. However that ends, others can be woken again.
#[derive(Debug)]
struct Dozing<'a> {
    doze: &'a Doze,
    ready: &'a Notify,
    is_over: bool,
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

    /// Waits for company, if a key was claimed a moment ago and nobody does yet; true: so it was, and it is
    /// time to look. Cancel-safe: `ready` tells others of what was not looked for.
    pub(super) async fn wait(&self, ready: &Notify) -> bool {
        let Some(mut dozing) = self.begin(ready) else { return false };
        tokio::time::sleep(COMPANY).await;
        dozing.is_over = true;
        true
    }

    fn begin<'a>(&'a self, ready: &'a Notify) -> Option<Dozing<'a>> {
        let since = self.now() - self.claimed.load(Ordering::Relaxed);
        let is_busy = u128::try_from(since).is_ok_and(|since| since < COMPANY.as_micros());
        let begins = is_busy && !self.is_on.swap(true, Ordering::SeqCst);
        begins.then(|| Dozing { doze: self, ready, is_over: false })
    }

    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 2)
    }
}

impl Drop for Dozing<'_> {
    fn drop(&mut self) {
        self.doze.is_on.store(false, Ordering::SeqCst);
        // Who has dozed to the end looks himself: nobody else need be woken.
        if !self.is_over {
            self.ready.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_dozes_and_only_right_after_a_claim() {
        let (doze, ready) = (Doze::new(), Notify::new());
        assert!(!doze.wait(&ready).await, "nothing was ever claimed");
        doze.claimed();
        let dozing = doze.begin(&ready).unwrap();
        assert!(doze.is_on() && doze.begin(&ready).is_none());
        drop(dozing);
        assert!(!doze.is_on());
        assert!(ready.notified().now_or_never().is_some(), "it was cancelled");
        doze.claimed();
        assert!(doze.wait(&ready).await && !doze.is_on());
        assert!(ready.notified().now_or_never().is_none());
        assert!(!doze.wait(&ready).await, "the claim is no longer fresh");
    }
}

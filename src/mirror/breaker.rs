//! A circuit breaker: when nobody answers, one worker knocks from time to time and the others
//! rest, so that a dead mirror is neither hammered nor does it wear out the retries of a million
//! keys.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that open it.
const FAILURES: u32 = 8;
/// First rest, doubled while knocking fails.
const REST: Duration = Duration::from_millis(500);
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    knocking: bool,
}

impl Breaker {
    /// Waits until a try is allowed. Cancel-safe.
    pub(super) async fn pass(&self) {
        loop {
            let until = {
                let mut state = self.lock();
                let Some(until) = state.open_until else {
                    return;
                };
                let now = Instant::now();
                if now >= until && !state.knocking {
                    state.knocking = true;
                    return;
                }
                until.max(now + REST / 2)
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Whoever was let through has not tried after all.
    pub(super) fn stood_back(&self) {
        self.lock().knocking = false;
    }

    /// Somebody answered. True: the breaker was open and is closed now.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.lock();
        let was_open = state.open_until.is_some();
        *state = State::default();
        was_open
    }

    /// Nobody answered. True: the breaker has just opened.
    pub(super) fn silent(&self) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        let doublings = (state.failures - FAILURES).min(10);
        let rest = REST.saturating_mul(2u32.saturating_pow(doublings)).min(REST_MAX);
        let opened = state.open_until.is_none();
        if opened || state.knocking {
            state.open_until = Some(Instant::now() + rest);
            state.knocking = false;
        } else {
            // A try that was under way when it opened tells nothing new.
            state.failures -= 1;
        }
        opened
    }

    /// Is it open?
    pub(super) fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_breaker_lets_one_knock_at_a_time_and_closes_at_an_answer() {
        let breaker = Breaker::default();
        for at in 1..=FAILURES {
            assert_eq!(breaker.silent(), at == FAILURES);
        }
        let begun = Instant::now();
        breaker.pass().await;
        assert!(begun.elapsed() >= REST, "the first knock waits");
        let second = tokio::time::timeout(REST * 2, breaker.pass()).await;
        assert!(second.is_err(), "one knock at a time");
        assert!(breaker.answered());
        breaker.pass().await;
        assert!(!breaker.is_open() && !breaker.answered());
    }
}

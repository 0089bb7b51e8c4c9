//! A circuit breaker: when nobody answers, one worker knocks from time to time and the other keys
//! rest, so that a dead mirror is neither hammered nor does it wear out the retries of a million
//! keys.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Consecutive failures that open it.
const FAILURES: u32 = 8;
/// First rest, doubled while knocking fails.
const REST: Duration = Duration::from_millis(500);
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(15);
/// While somebody knocks, it is looked this often whether he has ended.
const KNOCK: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    knocking: bool,
}

impl State {
    /// How long is rested after so many failures?
    fn rest(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FAILURES).min(10);
        REST.saturating_mul(2u32.saturating_pow(doublings)).min(REST_MAX)
    }
}

/// Leave to try once. Dropped: nothing was heard, and somebody else may knock.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    knocks: bool,
}

impl Breaker {
    /// Leave to try `now`, or until when to rest.
    pub(super) fn pass(&self, now: Instant) -> Result<Pass<'_>, Instant> {
        let mut state = self.lock();
        let Some(until) = state.open_until else {
            return Ok(Pass { breaker: self, knocks: false });
        };
        if now < until {
            return Err(until);
        }
        if state.knocking {
            return Err(now + state.rest().min(KNOCK));
        }
        state.knocking = true;
        Ok(Pass { breaker: self, knocks: true })
    }

    /// For what is likely to be done without asking the mirror.
    pub(super) fn bypass(&self) -> Pass<'_> {
        Pass { breaker: self, knocks: false }
    }

    /// Waits until then, or until somebody has answered. Cancel-safe.
    pub(super) async fn rest(&self, until: Instant) {
        let closed = self.closed.notified();
        if self.is_open() {
            drop(tokio::time::timeout_at(until, closed).await);
        }
    }

    /// Is it open?
    pub(super) fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Do all others wait for what comes of this try?
    pub(super) fn knocks(&self) -> bool {
        self.knocks
    }

    /// Somebody answered. True: the breaker was open and is closed now.
    pub(super) fn answered(mut self) -> bool {
        self.knocks = false;
        let was_open = {
            let mut state = self.breaker.lock();
            let was_open = state.open_until.is_some();
            *state = State::default();
            was_open
        };
        if was_open {
            self.breaker.closed.notify_waiters();
        }
        was_open
    }

    /// Nobody answered until `now`. True: the breaker has just opened.
    pub(super) fn silent(mut self, now: Instant) -> bool {
        let mut state = self.breaker.lock();
        let opened = state.open_until.is_none();
        // A try that was under way when it opened tells nothing new.
        if !opened && !self.knocks {
            return false;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        state.open_until = Some(now + state.rest());
        state.knocking = false;
        drop(state);
        self.knocks = false;
        opened
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.knocks {
            self.breaker.lock().knocking = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for at in 1..=FAILURES {
            assert_eq!(breaker.pass(now).unwrap().silent(now), at == FAILURES);
        }
        breaker
    }

    #[test]
    fn an_open_breaker_lets_one_knock_at_a_time_and_closes_at_an_answer() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.pass(now).unwrap_err(), now + REST, "the first knock waits");
        let knock = breaker.pass(now + REST).unwrap();
        assert_eq!(breaker.pass(now + REST).unwrap_err(), now + REST * 2, "one knock at a time");
        assert!(knock.answered());
        assert!(!breaker.is_open() && !breaker.pass(now).unwrap().answered());
    }

    #[test]
    fn rests_double_while_knocks_fail_and_nobody_else_s_failure_counts() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for rest in [REST * 2, REST * 4, REST * 8, REST * 16, REST_MAX, REST_MAX] {
            now = breaker.pass(now).unwrap_err();
            let knock = breaker.pass(now).unwrap();
            assert!(!breaker.bypass().silent(now));
            assert!(breaker.pass(now).is_err(), "somebody knocks still");
            assert!(!knock.silent(now));
            assert_eq!(breaker.pass(now).unwrap_err(), now + rest);
        }
    }

    #[test]
    fn who_hears_nothing_leaves_the_knock_to_the_next() {
        let now = Instant::now();
        let breaker = opened(now);
        let due = now + REST;
        drop(breaker.pass(due).unwrap());
        let knock = breaker.pass(due).unwrap();
        drop(breaker.bypass());
        assert!(breaker.pass(due).is_err(), "only who knocks can leave it");
        drop(knock);
        assert!(breaker.pass(due).is_ok() && breaker.is_open());
    }

    #[tokio::test]
    async fn an_answer_ends_every_rest() {
        let now = Instant::now();
        let breaker = opened(now);
        let until = now + Duration::from_hours(1);
        let ((), closed) = tokio::join!(breaker.rest(until), async { breaker.bypass().answered() });
        assert!(closed && Instant::now() < until);
        breaker.rest(until).await;
    }
}

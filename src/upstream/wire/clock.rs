//! How long the other side may keep a request waiting.
//!
//! S3 services take their time: completing an upload or copying five gibibytes may take minutes
//! before the first byte of an answer. So silence alone is given up only after a quarter of an hour,
//! by when nobody waits any more; dead machines are noticed much earlier, by TCP itself. What has
//! begun must go on: a head that does not end or a body of known length that drips would otherwise
//! hold its request, and the intent of a change, for ever.
//!
//! Only the time spent waiting for the other side counts, not what the client takes to send its body
//! or to read an answer. A body of unknown length is a document, which services keep alive by white
//! space: any byte of it is a sign of life, and so is an interim answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::upstream::WireError;

/// What of a body of known length must come within its limit: with five minutes 55 bytes a second.
const BODY_BYTES: u64 = 16 * 1024;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Any byte, or room for one.
    Sign,
    /// The end of a head that has begun.
    Head,
    /// More of a body of known length.
    Body,
}

/// The most that is waited for each.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Limits {
    pub(in super::super) sign: Duration,
    pub(in super::super) head: Duration,
    /// Until so many bytes have come.
    pub(in super::super) body: Duration,
}

impl Limits {
    pub(in super::super) const USUAL: Self = Self {
        sign: Duration::from_mins(15),
        head: Duration::from_mins(1),
        body: Duration::from_mins(5),
    };

    const fn of(self, what: For) -> (Duration, u64) {
        match what {
            For::Sign => (self.sign, 1),
            For::Head => (self.head, u64::MAX),
            For::Body => (self.body, BODY_BYTES),
        }
    }
}

/// Measures the waiting on one connection.
#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    waits: Waits,
    /// Made at the first wait. It goes off at the end of the present wait or before, and is set forward
    /// only then: nearly all waits are over much earlier.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, waits: Waits::NONE, timer: None }
    }

    /// The other side is not waited for any more, or not now.
    pub(super) fn pause(&mut self) {
        if self.waits.since.is_some() {
            self.waits.pause(Instant::now());
        }
    }

    /// Waiting begins anew.
    pub(super) fn restart(&mut self) {
        self.waits.restart();
    }

    /// The other side is waited for, `moved` bytes having moved so far in either direction. Ready
    /// when it has taken too long.
    pub(super) fn poll_lost(
        &mut self,
        what: For,
        moved: u64,
        context: &mut Context<'_>,
    ) -> Poll<WireError> {
        let (limit, enough) = self.limits.of(what);
        self.waits.count(what, moved, enough);
        let deadline = self.waits.begin(limit, Instant::now);
        let sleep = || Box::pin(tokio::time::sleep_until(deadline));
        let timer = self.timer.get_or_insert_with(sleep);
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(lost(what, limit, enough));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn lost(what: For, limit: Duration, enough: u64) -> WireError {
    let seconds = limit.as_secs();
    WireError::Slow(match what {
        For::Sign => format!("nothing came or was taken for {seconds} seconds"),
        For::Head => format!("the head of the answer took more than {seconds} seconds"),
        For::Body => {
            format!("less than {enough} bytes came in {seconds} seconds of waiting for them")
        }
    })
}

/// The arithmetic of it.
#[derive(Debug)]
struct Waits {
    what: For,
    /// Bytes that had moved when the present limit began to count.
    moved: u64,
    /// Waited since then, but for the present wait.
    waited: Duration,
    /// When the present wait began.
    since: Option<Instant>,
}

impl Waits {
    const NONE: Self = Self { what: For::Sign, moved: 0, waited: Duration::ZERO, since: None };

    /// Something else is waited for, or enough has moved: counting begins anew.
    fn count(&mut self, what: For, moved: u64, enough: u64) {
        if what != self.what || moved.saturating_sub(self.moved) >= enough {
            (self.what, self.moved) = (what, moved);
            self.restart();
        }
    }

    /// A wait begins or goes on; yields when it has lasted too long.
    fn begin(&mut self, limit: Duration, now: impl FnOnce() -> Instant) -> Instant {
        *self.since.get_or_insert_with(now) + limit.saturating_sub(self.waited)
    }

    fn pause(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    fn restart(&mut self) {
        (self.since, self.waited) = (None, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// One wait for `what` of so many minutes, `moved` bytes having moved before it: did it last too
    /// long?
    fn lasted(waits: &mut Waits, now: &mut Instant, what: For, moved: u64, minutes: u32) -> bool {
        let (limit, enough) = Limits::USUAL.of(what);
        waits.count(what, moved, enough);
        let deadline = waits.begin(limit, || *now);
        *now += minutes * MINUTE;
        waits.pause(*now);
        *now >= deadline
    }

    #[test]
    fn any_sign_of_life_starts_the_time_anew() {
        let (mut waits, mut now) = (Waits::NONE, Instant::now());
        for moved in 0..10 {
            assert!(!lasted(&mut waits, &mut now, For::Sign, moved, 14));
        }
        assert!(lasted(&mut waits, &mut now, For::Sign, 9, 1));
    }

    #[test]
    fn a_head_that_has_begun_ends_within_its_time_however_it_drips() {
        let (mut waits, mut now) = (Waits::NONE, Instant::now());
        assert!(!lasted(&mut waits, &mut now, For::Sign, 0, 14));
        assert!(!lasted(&mut waits, &mut now, For::Head, 1, 0));
        assert!(lasted(&mut waits, &mut now, For::Head, 100_000, 1));
    }

    #[test]
    fn a_body_that_drips_is_given_up_and_a_slow_one_is_not() {
        let (mut drips, mut slow, start) = (Waits::NONE, Waits::NONE, Instant::now());
        let (mut now, mut then) = (start, start);
        for minute in 0..4 {
            assert!(!lasted(&mut drips, &mut now, For::Body, minute, 1));
            assert!(!lasted(&mut slow, &mut then, For::Body, minute * BODY_BYTES, 4));
        }
        assert!(lasted(&mut drips, &mut now, For::Body, 4, 1));
    }

    #[test]
    fn the_time_the_client_takes_is_not_counted() {
        let (mut waits, mut now) = (Waits::NONE, Instant::now());
        for _ in 0..4 {
            assert!(!lasted(&mut waits, &mut now, For::Body, 1, 1));
            now += 60 * MINUTE;
        }
        assert!(lasted(&mut waits, &mut now, For::Body, 1, 1));
    }
}

//! How long a client may keep the proxy waiting for its body, or with its answer.
//!
//! Only the time spent waiting for the client counts, not the time main takes; and a client that
//! sends or takes a byte now and then to hold its place is not slow but hostile: it has to move so
//! many bytes within the time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// What a client must move within the limit, unless that is the end: with the default of 75 seconds
/// 220 bytes a second, less than any line that can carry an object at all.
const PROGRESS_BYTES: usize = 16 * 1024;

/// Measures the waiting for one body, or for one connection's client to read.
#[derive(Debug)]
pub(super) struct Patience {
    waits: Waits,
    /// Made at the first wait: bodies that are here at once need none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Patience for so long.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            waits: Waits { limit, waited: Duration::ZERO, received: 0, since: None },
            timer: None,
        }
    }

    /// So many bytes came, or were taken.
    pub(super) fn received(&mut self, bytes: usize) {
        if self.timer.is_some() {
            self.waits.end(Instant::now(), bytes);
        }
    }

    /// Nothing came or was taken yet. Ready when the time is up.
    pub(super) fn poll_lost(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waits.since.is_none() {
            let deadline = self.waits.begin(Instant::now());
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(deadline),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(context))
    }
}

/// The arithmetic of it.
#[derive(Debug)]
struct Waits {
    limit: Duration,
    /// Waited since the client last made progress, but for the present wait.
    waited: Duration,
    received: usize,
    /// When the present wait began.
    since: Option<Instant>,
}

impl Waits {
    /// A wait begins; yields when it has lasted too long.
    fn begin(&mut self, now: Instant) -> Instant {
        self.since = Some(now);
        now + self.limit.saturating_sub(self.waited)
    }

    /// Bytes came, after a wait or at once.
    fn end(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.received = self.received.saturating_add(bytes);
        if self.received >= PROGRESS_BYTES {
            (self.received, self.waited) = (0, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits() -> (Waits, Instant) {
        let limit = 10 * SECOND;
        (Waits { limit, waited: Duration::ZERO, received: 0, since: None }, Instant::now())
    }

    #[test]
    fn a_client_that_drips_has_only_the_rest_of_its_time() {
        let (mut waits, start) = waits();
        assert_eq!(waits.begin(start), start + 10 * SECOND);
        waits.end(start + 6 * SECOND, 1);
        assert_eq!(waits.begin(start + 6 * SECOND), start + 10 * SECOND);
    }

    #[test]
    fn progress_starts_the_time_anew() {
        let (mut waits, start) = waits();
        waits.begin(start);
        waits.end(start + 9 * SECOND, PROGRESS_BYTES);
        assert_eq!(waits.begin(start + 9 * SECOND), start + 19 * SECOND);
    }

    #[test]
    fn the_time_main_takes_is_not_the_clients() {
        let (mut waits, start) = waits();
        waits.begin(start);
        waits.end(start + SECOND, 1);
        // Nobody asked the client for more in this minute.
        assert_eq!(waits.begin(start + 61 * SECOND), start + 70 * SECOND);
    }
}

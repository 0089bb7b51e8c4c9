//! When deletes of a bucket are too many to be followed unseen. Pure.
//!
//! Counts different keys, so that a few keys which come and go all day are a few. Counts what main
//! has deleted, not what the mirror was told, so that a delay does not blind it.

use std::collections::{HashSet, VecDeque};

use crate::config::DeleteBrake;

/// Keys counted per bucket; beyond that the oldest are forgotten, which can only happen where no
/// number of keys is set that would have ended the counting before.
const KEYS_MAX: usize = 1_000_000;
/// A share of a bucket is judged from so many deleted keys on: of three keys two are no disaster.
const SHARE_KEYS_MIN: u64 = 10;

/// What one more delete means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing out of the ordinary.
    Pass,
    /// Too many keys: this many within the window.
    Trip(u64),
    /// Too many if the bucket had fewer keys than `enough` when the window began.
    Ask {
        /// Deleted within the window.
        deleted: u64,
        /// Number of keys that makes it bearable.
        enough: u64,
    },
}

/// Keys of one bucket that were deleted lately.
#[derive(Debug, Default)]
pub(super) struct Window {
    keys: HashSet<u64>,
    order: VecDeque<(i64, u64)>,
    /// Count from which the share is looked at again.
    ask_at: u64,
}

impl Window {
    /// Counts the delete of a key, given as its hash, at `now_ms`.
    pub(super) fn count(&mut self, limits: &DeleteBrake, key: u64, now_ms: i64) -> Verdict {
        self.forget(limits, now_ms);
        if self.keys.insert(key) {
            self.order.push_back((now_ms, key));
            if self.order.len() > KEYS_MAX
                && let Some((_, oldest)) = self.order.pop_front()
            {
                self.keys.remove(&oldest);
            }
        }
        let deleted = u64::try_from(self.keys.len()).unwrap_or(u64::MAX);
        if limits.keys > 0 && deleted > limits.keys {
            return Verdict::Trip(deleted);
        }
        if limits.percent == 0 || deleted < self.ask_at.max(SHARE_KEYS_MIN) {
            return Verdict::Pass;
        }
        // The database is asked each time the number has grown by a twentieth.
        self.ask_at = deleted + (deleted / 20).max(1);
        Verdict::Ask { deleted, enough: (deleted * 100).div_ceil(limits.percent) }
    }

    /// Keys counted now.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Drops what is older than the window; true when nothing is left.
    pub(super) fn forget(&mut self, limits: &DeleteBrake, now_ms: i64) -> bool {
        let window_ms = i64::try_from(limits.window.as_millis()).unwrap_or(i64::MAX);
        while let Some((at, key)) = self.order.front().copied()
            && at <= now_ms.saturating_sub(window_ms)
        {
            self.order.pop_front();
            self.keys.remove(&key);
        }
        if self.keys.is_empty() {
            self.ask_at = 0;
        }
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(keys: u64, percent: u64) -> DeleteBrake {
        DeleteBrake { keys, percent, window: Duration::from_secs(10) }
    }

    #[test]
    fn more_different_keys_than_the_limit_within_the_window_trip_it() {
        let (limits, mut window) = (limits(3, 0), Window::default());
        for key in [1, 2, 3, 3, 2, 1] {
            assert_eq!(window.count(&limits, key, 0), Verdict::Pass, "the same keys again");
        }
        assert_eq!(window.count(&limits, 4, 9_999), Verdict::Trip(4));
        // The first three are ten seconds old now.
        assert_eq!(window.count(&limits, 5, 10_000), Verdict::Pass);
        assert!(!window.forget(&limits, 15_000) && window.forget(&limits, 20_000));
    }

    #[test]
    fn a_share_is_asked_about_as_the_number_grows_and_never_for_a_handful() {
        let (limits, mut window) = (limits(0, 50), Window::default());
        let asked: Vec<u64> = (1..=60)
            .filter_map(|key| match window.count(&limits, key, 0) {
                Verdict::Ask { deleted, enough } => {
                    assert_eq!(enough, deleted * 2);
                    Some(deleted)
                }
                verdict => {
                    assert_eq!(verdict, Verdict::Pass);
                    None
                }
            })
            .collect();
        assert_eq!(asked.first(), Some(&10));
        assert!(
            asked.len() > 20 && asked.windows(2).all(|pair| pair[1] <= pair[0] * 105 / 100 + 2)
        );
    }

    #[test]
    fn without_limits_nothing_trips() {
        let (limits, mut window) = (limits(0, 0), Window::default());
        assert!((0..20_000).all(|key| window.count(&limits, key, 0) == Verdict::Pass));
    }
}

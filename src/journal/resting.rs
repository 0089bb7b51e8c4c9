//! Buckets whose rows rest: their table takes none for now, or main does not tell what they should say.
//!
//! Rows of such a bucket are left to the disk and not read from there, so that however many there are
//! those of other buckets pass. When the rest is over they are read again, from the first one that was
//! left, and doubted: what was written behind them meanwhile is not known any more.
//!
//! P6: [`BUCKETS_MAX`] buckets rest at a time; rows of further ones are handed back as they were.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::entry::Sequence;
use super::{Journal, RowWork, lock};

/// Buckets that rest at a time, and that are remembered to have rested.
const BUCKETS_MAX: usize = 10_000;

/// Which buckets rest.
#[derive(Default)]
pub(super) struct Resting {
    state: Mutex<State>,
    /// Does any? Rows of others pay no more than this.
    any: AtomicBool,
}

#[derive(Default)]
struct State {
    resting: HashMap<Box<str>, Rest>,
    /// Up to where rows from disk are doubted, of buckets that have rested.
    rested: HashMap<Box<str>, Sequence>,
    /// Of all buckets, after there were too many.
    all_rested: Sequence,
}

struct Rest {
    until: Instant,
    /// All that was left is behind this.
    from: Sequence,
}

impl Resting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a bucket rest; false: there are too many.
    fn begin(&self, bucket: &str, until: Instant) -> bool {
        let mut state = self.lock();
        if let Some(rest) = state.resting.get_mut(bucket) {
            rest.until = until;
        } else if state.resting.len() < BUCKETS_MAX {
            state.resting.insert(bucket.into(), Rest { until, from: Sequence::MAX });
        } else {
            return false;
        }
        self.any.store(true, Ordering::Relaxed);
        true
    }

    /// Leaves a row to the disk if its bucket rests. Under the lock, so that a rest that ends now ends
    /// before, and the row stays, or after, and the row is read again.
    fn leave(&self, bucket: &str, sequence: Sequence, leave: impl FnOnce()) -> bool {
        let mut state = self.lock();
        let Some(rest) = state.resting.get_mut(bucket) else { return false };
        rest.from = rest.from.min(sequence - 1);
        leave();
        true
    }

    /// Ends what is over: yields from where on rows are read again. `position`: rows from before it are
    /// doubted.
    pub(super) fn wake(&self, now: Instant, position: Sequence) -> Option<Sequence> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let over: Vec<(Box<str>, Rest)> =
            state.resting.extract_if(|_, rest| rest.until <= now).collect();
        self.any.store(!state.resting.is_empty(), Ordering::Relaxed);
        let mut from = None;
        for (bucket, rest) in over {
            if rest.from < Sequence::MAX {
                from = Some(from.map_or(rest.from, |from: Sequence| from.min(rest.from)));
            }
            if state.rested.len() >= BUCKETS_MAX {
                state.rested.clear();
                state.all_rested = position;
            }
            state.rested.insert(bucket, position);
        }
        from
    }

    /// The buckets that rest, whose rows behind `from` are passed over.
    pub(super) fn pass_over(&self, from: Sequence) -> Vec<Box<str>> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut state = self.lock();
        for rest in state.resting.values_mut() {
            rest.from = rest.from.min(from);
        }
        state.resting.keys().cloned().collect()
    }

    /// Is this row from disk of a bucket that has rested since it was new?
    pub(super) fn is_doubtful(&self, bucket: &str, sequence: Sequence) -> bool {
        let state = self.lock();
        sequence < *state.rested.get(bucket).unwrap_or(&state.all_rested)
    }
}

impl Journal {
    /// These rows of a bucket cannot be written now, nor can others of it: all rest for so long.
    pub async fn rows_rest(&self, bucket: &str, rows: Vec<RowWork>, pause: Duration) {
        if self.shared.rows_resting.begin(bucket, Instant::now() + pause) {
            let rest = self.without_resting(rows).await;
            self.rows_back(rest).await;
        } else {
            self.rows_back(rows).await;
        }
    }

    /// Those of claimed rows whose buckets do not rest; the others are left to the disk.
    pub async fn without_resting(&self, rows: Vec<RowWork>) -> Vec<RowWork> {
        let resting = &self.shared.rows_resting;
        if !resting.any.load(Ordering::Relaxed) {
            return rows;
        }
        let mut others = Vec::new();
        for row in rows {
            let (bucket, sequence) = (row.object.bucket.clone(), row.sequence);
            let mut row = Some(row);
            let mut offered = None;
            let left = resting.leave(&bucket, sequence, || {
                offered = row.take().map(|row| lock(&self.shared.rows).set_aside(row));
            });
            if let Some(offered) = offered {
                self.row_offered(offered).await;
            }
            if !left {
                others.extend(row);
            }
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_read_again_from_the_first_on_when_the_rest_is_over() {
        let (resting, now) = (Resting::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        assert!(!resting.leave("b", 7, || unreachable!("it does not rest")));
        assert!(resting.begin("b", later));
        let mut left = 0;
        assert!(resting.leave("b", 9, || left += 1) && resting.leave("b", 7, || left += 1));
        assert!(!resting.leave("other", 3, || left += 1));
        assert_eq!(left, 2);
        assert_eq!(resting.wake(now, 20), None);
        assert_eq!(resting.pass_over(8), [Box::<str>::from("b")]);
        assert_eq!(resting.wake(later, 20), Some(6));
        assert!(resting.pass_over(8).is_empty());
        assert!(resting.is_doubtful("b", 19) && !resting.is_doubtful("b", 20));
        assert!(!resting.is_doubtful("other", 1));
    }

    #[test]
    fn rows_that_were_passed_over_are_read_again_though_none_was_in_hand() {
        let (resting, now) = (Resting::default(), Instant::now());
        assert!(resting.begin("b", now));
        assert_eq!(resting.pass_over(4), [Box::<str>::from("b")]);
        assert_eq!(resting.wake(now, 20), Some(4));
    }
}

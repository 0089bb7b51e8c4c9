//! What the writer of rows has in hand beside a batch: rows put aside, and how long buckets rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Trouble;
use crate::journal::RowWork;

/// Rows put aside; the rest wait in the journal.
const ASIDE_MAX: usize = 1000;
/// Buckets whose last pause is remembered; when there are more all begin anew.
const BUCKETS_MAX: usize = 10_000;
/// First and longest pause of a bucket.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// See the module.
#[derive(Default)]
pub(super) struct Hands {
    /// Rows that wait for their own reason, each with the time of its next try.
    aside: Vec<(Instant, RowWork)>,
    /// The last pause of buckets that are not well.
    pauses: HashMap<Arc<str>, Duration>,
    trouble: Trouble,
}

impl Hands {
    /// Empty ones, that tell of trouble there.
    pub(super) fn new(trouble: Trouble) -> Self {
        Self { trouble, ..Self::default() }
    }

    /// Takes out what is due, `count` at most.
    pub(super) fn due(&mut self, now: Instant, count: usize) -> Vec<RowWork> {
        let mut due = Vec::new();
        let mut later = Vec::with_capacity(self.aside.len());
        for (at, row) in std::mem::take(&mut self.aside) {
            if at <= now && due.len() < count {
                due.push(row);
            } else {
                later.push((at, row));
            }
        }
        self.aside = later;
        due
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.aside.iter().map(|(at, _)| *at).min()
    }

    /// Puts rows aside until then; yields those there is no room for.
    pub(super) fn keep(&mut self, mut rows: Vec<RowWork>, until: Instant) -> Vec<RowWork> {
        let room = ASIDE_MAX.saturating_sub(self.aside.len());
        let left = rows.split_off(room.min(rows.len()));
        self.aside.extend(rows.into_iter().map(|row| (until, row)));
        left
    }

    /// A row of the bucket was written.
    pub(super) fn well(&mut self, bucket: &str) {
        if !self.pauses.is_empty() && self.pauses.remove(bucket).is_some() {
            self.trouble.ends(bucket);
        }
    }

    /// The bucket has to rest; yields how long.
    pub(super) fn unwell(&mut self, bucket: &str, reason: &str) -> Duration {
        self.trouble.begins(bucket, reason);
        if self.pauses.len() >= BUCKETS_MAX {
            self.pauses.clear();
        }
        let last = self.pauses.get(bucket).copied();
        let pause = last.map_or(PAUSE.0, |last| (last * 2).min(PAUSE.1));
        self.pauses.insert(bucket.into(), pause);
        pause
    }
}

/// Rows of one batch that came to nothing.
#[derive(Default)]
pub(super) struct Troubles(HashMap<Arc<str>, (Vec<RowWork>, String)>);

impl Troubles {
    /// Adds a row; of the reasons of one bucket the last counts.
    pub(super) fn add(&mut self, row: RowWork, reason: String) {
        let bucket = row.object.bucket.clone();
        let (rows, last) = self.0.entry(bucket).or_default();
        rows.push(row);
        *last = reason;
    }

    /// The rows of each bucket, with a reason.
    pub(super) fn by_bucket(self) -> impl Iterator<Item = (Arc<str>, Vec<RowWork>, String)> {
        self.0.into_iter().map(|(bucket, (rows, reason))| (bucket, rows, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Trust;
    use crate::journal::entry::{Facts, ObjectKey};
    use crate::s3::operation::Change;

    fn row(sequence: i64) -> RowWork {
        RowWork {
            sequence,
            object: ObjectKey::new("b", &sequence.to_string()),
            change: Change::Put,
            facts: Arc::new(Facts::default()),
            trust: Trust::Told,
            mirrored: false,
            error: None,
            second_look: false,
        }
    }

    #[test]
    fn what_is_put_aside_is_bounded_and_leaves_room_for_what_is_new() {
        let (mut hands, now) = (Hands::default(), Instant::now());
        assert!(hands.keep((0..900).map(row).collect(), now).is_empty());
        assert_eq!(hands.keep((900..1200).map(row).collect(), now).len(), 200);
        assert_eq!(hands.due(now, 500).len(), 500);
        assert_eq!(hands.due(now, 501).len(), 500);
        assert!(hands.next().is_none());
    }

    #[test]
    fn a_bucket_rests_longer_and_longer_until_it_is_well() {
        let mut hands = Hands::default();
        let seconds = |hands: &mut Hands| hands.unwell("b", "reason").as_secs();
        assert_eq!([(); 4].map(|()| seconds(&mut hands)), [2, 4, 8, 10]);
        hands.well("other");
        assert_eq!(seconds(&mut hands), 10);
        hands.well("b");
        assert_eq!(seconds(&mut hands), 2);
    }
}

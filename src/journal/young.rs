//! Entries that are on disk in a line of the log ([`super::log`]) and have no row of their own yet.
//!
//! Nearly every entry is settled, mirrored and written to the inventory within moments of its
//! intent. Making a row of it, with its indexes and counts, and taking the row out again would be
//! most of what a write costs the journal. So the intents that come together are written as one line,
//! and what is said of them is kept here: those that are over soon leave without ever having been
//! a row, and a line that nobody needs any more is written over.
//!
//! An entry becomes a row as soon as there is something to remember of it that a crash must not
//! take (a failed try, a delete that is held, what a newer entry took over), after [`AGE`], and
//! whenever somebody is about to read the file.
//!
//! Pure bookkeeping, no I/O.
//!
//! # Promises
//! - **P6** At most [`YOUNG_MAX`] entries and those of one transaction more.
//!
//! # Crash
//! The recovery makes rows of all lines that are left: intents whose outcome nobody knows, so that
//! main is asked. That may be entries of the last [`AGE`] that were over already, and repeats
//! idempotent work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;

use super::entry::{NewIntent, Sequence};
use super::pending::Fate;

/// After this time an entry becomes a row: long enough for nearly all to be over, short enough that
/// a crash repeats little.
pub(super) const AGE: Duration = Duration::from_secs(1);
/// Entries kept without a row, some 8 MiB with what has been said of them.
const YOUNG_MAX: usize = 8192;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Young {
    entries: HashMap<Sequence, Member>,
    /// The oldest first; their numbers follow one another.
    lines: VecDeque<Line>,
    /// Members of whom something has been said since they were last looked at.
    touched: Vec<Sequence>,
    /// Lines up to this one can be taken away, since then.
    gone: Option<(i64, Instant)>,
}

#[derive(Debug)]
struct Member {
    intent: Arc<NewIntent>,
    fate: Option<Box<Fate>>,
    line: i64,
}

#[derive(Debug)]
struct Line {
    number: i64,
    written: Instant,
    members: Vec<Sequence>,
    /// Members that are still here.
    left: usize,
}

/// A member that is to become a row, with what was said of it.
pub(super) type Grown = (Sequence, Arc<NewIntent>, Option<Box<Fate>>);

impl Young {
    /// Members of whom something new has been said.
    pub(super) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Is there neither an entry nor a line to be taken away?
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.gone.is_none()
    }

    /// The next line is on disk, with these members. `said` takes out what was said of one before.
    pub(super) fn line_written(
        &mut self,
        number: i64,
        intents: Vec<(Sequence, Arc<NewIntent>)>,
        now: Instant,
        mut said: impl FnMut(Sequence) -> Option<Box<Fate>>,
    ) {
        let mut members = Vec::with_capacity(intents.len());
        for (sequence, intent) in intents {
            members.push(sequence);
            let fate = said(sequence);
            if fate.is_some() {
                self.touched.push(sequence);
            }
            self.entries.insert(sequence, Member { intent, fate, line: number });
        }
        self.lines.push_back(Line { number, written: now, left: members.len(), members });
    }

    /// What has been said of an entry, if it is a member.
    pub(super) fn fate(&mut self, sequence: Sequence) -> Option<&mut Fate> {
        let member = self.entries.get_mut(&sequence)?;
        self.touched.push(sequence);
        Some(member.fate.get_or_insert_default())
    }

    /// Lets go who is over, and hands out who is to become a row: `everything` all of them.
    pub(super) fn ripen(&mut self, now: Instant, everything: bool, inventory: bool) -> Vec<Grown> {
        let mut grown = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        for sequence in touched.drain(..) {
            let Some(fate) = self.entries.get(&sequence).and_then(|member| member.fate.as_ref())
            else {
                continue;
            };
            let over = fate.over(inventory);
            if (over || !fate.can_wait())
                && let Some((intent, fate)) = self.leave(sequence)
                && !over
            {
                grown.push((sequence, intent, fate));
            }
        }
        self.touched = touched;
        while let Some(line) = self.lines.front()
            && (line.left == 0
                || everything
                || self.entries.len() > YOUNG_MAX
                || now.saturating_duration_since(line.written) >= AGE)
        {
            let Some(Line { number, members, .. }) = self.lines.pop_front() else { break };
            for sequence in members {
                if let Some(Member { intent, fate, .. }) = self.entries.remove(&sequence) {
                    grown.push((sequence, intent, fate));
                }
            }
            let since = self.gone.map_or(now, |(_, since)| since);
            self.gone = Some((number, since));
        }
        grown
    }

    fn leave(&mut self, sequence: Sequence) -> Option<(Arc<NewIntent>, Option<Box<Fate>>)> {
        let Member { intent, fate, line } = self.entries.remove(&sequence)?;
        let first = self.lines.front().map_or(line, |line| line.number);
        let at = usize::try_from(line - first).unwrap_or(usize::MAX);
        if let Some(line) = self.lines.get_mut(at) {
            line.left -= 1;
        }
        Some((intent, fate))
    }

    /// The last of the lines that can be taken away.
    pub(super) fn gone(&self) -> Option<i64> {
        self.gone.map(|(number, _)| number)
    }

    /// Have lines been waiting for so long to be taken away that it is worth a transaction?
    pub(super) fn gone_for_long(&self, now: Instant) -> bool {
        self.gone.is_some_and(|(_, since)| now.saturating_duration_since(since) >= AGE)
    }

    /// They have been.
    pub(super) fn lines_taken(&mut self) {
        self.gone = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::ObjectKey;
    use super::super::pending::Written;
    use super::*;
    use crate::s3::operation::Change;

    fn intent() -> Arc<NewIntent> {
        Arc::new(NewIntent {
            object: ObjectKey::new("bucket", "key"),
            change: Change::Put,
            request_id: "R".into(),
            accepted_ms: 1,
            facts: None,
        })
    }

    /// Lines of so many entries each, numbered through from 1, all written at `now`.
    fn young(now: Instant, lines: &[i64]) -> Young {
        let (mut young, mut first) = (Young::default(), 1);
        for (number, count) in (0..).zip(lines) {
            let line = (first..first + count).map(|sequence| (sequence, intent())).collect();
            young.line_written(number, line, now, |_| None);
            first += count;
        }
        young
    }

    fn sequences(grown: &[Grown]) -> Vec<Sequence> {
        grown.iter().map(|(sequence, ..)| *sequence).collect()
    }

    fn mirrored(young: &mut Young, sequence: Sequence) {
        young.fate(sequence).unwrap().mirrored = Some((false, Arc::default()));
    }

    #[test]
    fn who_is_over_soon_never_becomes_a_row_and_lines_leave_from_the_front() {
        let now = Instant::now();
        let mut young = young(now, &[2, 1, 1]);
        for sequence in [1, 3] {
            mirrored(&mut young, sequence);
        }
        assert!(young.ripen(now, false, false).is_empty());
        assert_eq!(
            (young.entries.len(), young.gone()),
            (2, None),
            "the first line is still needed"
        );
        young.fate(2).unwrap().closed = true;
        assert!(young.ripen(now, false, false).is_empty());
        assert_eq!((young.entries.len(), young.gone()), (1, Some(1)));
        assert!(!young.gone_for_long(now) && young.gone_for_long(now + AGE));
        young.lines_taken();
        mirrored(&mut young, 4);
        assert!(young.ripen(now, false, false).is_empty());
        assert_eq!((young.entries.len(), young.gone()), (0, Some(2)));
    }

    #[test]
    fn with_an_inventory_the_row_is_waited_for() {
        let now = Instant::now();
        let mut young = young(now, &[1]);
        mirrored(&mut young, 1);
        let written = |level| Some(Written { level, error: None, reasoned: false });
        young.fate(1).unwrap().written = written(1);
        assert!(young.ripen(now, false, true).is_empty());
        assert_eq!(young.entries.len(), 1);
        young.fate(1).unwrap().written = written(2);
        assert!(young.ripen(now, false, true).is_empty());
        assert_eq!(young.entries.len(), 0);
    }

    #[test]
    fn what_a_crash_must_not_take_becomes_a_row_at_once() {
        let now = Instant::now();
        let mut young = young(now, &[3]);
        young.fate(1).unwrap().settled = Some((false, Arc::default()));
        young.fate(2).unwrap().merged = Some((1, false, Arc::default()));
        let grown = young.ripen(now, false, false);
        assert_eq!(sequences(&grown), [2]);
        assert!(grown[0].2.as_ref().unwrap().merged.is_some(), "with what was said of it");
        assert!(young.fate(2).is_none());
        assert_eq!(young.entries.len(), 2);
    }

    #[test]
    fn who_is_not_over_in_time_or_asked_for_becomes_a_row() {
        let now = Instant::now();
        let mut young = young(now, &[2, 1]);
        mirrored(&mut young, 1);
        assert!(young.ripen(now + AGE - Duration::from_millis(1), false, true).is_empty());
        assert_eq!(sequences(&young.ripen(now + AGE, false, true)), [1, 2, 3]);
        assert_eq!((young.entries.len(), young.gone()), (0, Some(1)));
        let mut young = super::tests::young(now, &[2, 1]);
        assert_eq!(sequences(&young.ripen(now, true, true)), [1, 2, 3]);
    }

    #[test]
    fn more_than_there_is_room_for_become_rows_the_oldest_first() {
        let now = Instant::now();
        let mut young = young(now, &[10, i64::try_from(YOUNG_MAX).unwrap(), 5]);
        let grown = young.ripen(now, false, false);
        assert_eq!(grown.len(), 10 + YOUNG_MAX);
        assert_eq!(young.entries.len(), 5);
    }

    #[test]
    fn what_was_said_before_the_line_was_written_is_not_lost() {
        let now = Instant::now();
        let mut young = Young::default();
        let said = || Some(Box::new(Fate { closed: true, ..Fate::default() }));
        young.line_written(0, vec![(7, intent())], now, |_| said());
        assert!(young.ripen(now, false, false).is_empty());
        assert_eq!((young.entries.len(), young.gone()), (0, Some(0)));
    }
}

//! What is to be written next: one line per entry, however many commands there were about it.
//!
//! Pure. Whoever waits for an append waits for it alone: everything else is kept here for a
//! moment, and an entry that is settled, mirrored and written meanwhile leaves without a trace
//! ([`super::young`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::entry::{Facts, NewIntent, ObjectKey, Sequence};
use super::events::{Aftermath, Event};
use super::held::HELD;
use super::now_ms;
use super::operator::Operation;
use super::uploads::MirrorUpload;
use super::writer::{Aside, Command};
use super::young::Young;

/// `entry.mirror` of what waits for its next try.
const WAITING: i64 = 2;
/// `entry.mirror` of what no retry can mend.
const PARKED: i64 = 3;

/// The size of one part of an upload.
#[derive(Debug)]
pub(super) struct PartSize {
    pub(super) upload_id: String,
    pub(super) number: u32,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) at_ms: i64,
}

/// Why the mirror does not have an entry yet.
#[derive(Debug)]
pub(super) struct Trouble {
    /// `entry.mirror`: waiting for its next try, parked or set aside.
    pub(super) level: i64,
    pub(super) attempts: u32,
    pub(super) due_ms: i64,
    pub(super) error: String,
    /// The mirror has the key's state all the same: its row is to be written once more.
    pub(super) row_anew: bool,
}

/// What became of the row of an entry.
#[derive(Debug)]
pub(super) struct Written {
    /// `entry.inventory`
    pub(super) level: i64,
    pub(super) error: Option<String>,
    /// Does the row hold the reason why the key is not mirrored?
    pub(super) reasoned: bool,
}

/// Everything that has been said of one entry since it was last written.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// `(unknown, facts)`
    pub(super) settled: Option<(bool, Arc<Facts>)>,
    /// `(since_ms, unknown, facts)`
    pub(super) merged: Option<(i64, bool, Arc<Facts>)>,
    pub(super) trouble: Option<Trouble>,
    /// `(is it a bucket?, facts)`
    pub(super) mirrored: Option<(bool, Arc<Facts>)>,
    /// The highest level counts.
    pub(super) written: Option<Written>,
    pub(super) closed: bool,
}

impl Fate {
    /// Does the entry leave, with nothing to be looked up first?
    pub(super) fn over(&self, inventory: bool) -> bool {
        let nothing_left = |is_bucket: bool| {
            let has_row = inventory && !is_bucket;
            !has_row || self.written.as_ref().is_some_and(|written| written.level == 2)
        };
        self.closed || self.mirrored.as_ref().is_some_and(|(is_bucket, _)| nothing_left(*is_bucket))
    }

    /// May a crash forget this, so that main is asked? Not what main could not tell.
    pub(super) fn can_wait(&self) -> bool {
        let settled = self.settled.as_ref();
        settled.is_none_or(|(unknown, facts)| !unknown && facts.event.is_none())
            && self.merged.is_none()
            && self.trouble.is_none()
            && self.written.as_ref().is_none_or(|written| written.level < 3 && !written.reasoned)
    }
}

/// Commands that have arrived and are not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// To be written as one line of the log.
    pub(super) appends: Vec<(Sequence, Arc<NewIntent>)>,
    /// To become rows.
    pub(super) grown: Vec<(Sequence, Arc<NewIntent>)>,
    /// On disk in a line.
    pub(super) young: Young,
    pub(super) later: Later,
    /// Intents that were refused and whose request does not know it yet.
    pub(super) refused: HashSet<Sequence>,
    /// May there be entries that failed, are parked or set aside? Only then are older ones of a key
    /// looked for that a newer one settles.
    pub(super) is_troubled: bool,
}

/// What nobody waits for; losing it repeats idempotent work.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) fates: foldhash::HashMap<Sequence, Box<Fate>>,
    /// Keys that have been mirrored, or whose absence is held, by an entry, so that older ones of
    /// them in trouble are settled with it.
    pub(super) relieved: HashMap<Sequence, ObjectKey>,
    /// Keys whose row has been settled, and with it parked rows of them that are older.
    pub(super) rows_relieved: HashMap<Sequence, ObjectKey>,
    pub(super) rechecks: Vec<(i64, ObjectKey)>,
    pub(super) rechecked: Vec<(i64, ObjectKey)>,
    pub(super) parts: Vec<PartSize>,
    pub(super) uploads_ended: Vec<String>,
    /// Uploads on the mirror, by their number; none: it is over.
    pub(super) mirror_uploads: HashMap<i64, Option<Box<MirrorUpload>>>,
    pub(super) unholds: Vec<(String, i64)>,
    /// What operators asked for; it comes last.
    pub(super) operations: Vec<Operation>,
    pub(super) hasten: bool,
    pub(super) events: Vec<Event>,
    pub(super) events_left: Vec<Aftermath>,
    pub(super) events_delivered: Vec<Sequence>,
}

impl Later {
    /// Lines it stands for.
    pub(super) fn len(&self) -> usize {
        self.fates.len()
            + self.relieved.len()
            + self.rows_relieved.len()
            + self.rechecks.len()
            + self.rechecked.len()
            + self.parts.len()
            + self.uploads_ended.len()
            + self.mirror_uploads.len()
            + self.unholds.len()
            + self.operations.len()
            + usize::from(self.hasten)
            + self.events.len()
            + self.events_left.len()
            + self.events_delivered.len()
    }
}

impl Pending {
    /// Entries and other changes that are in memory only: not those that are on disk in a line, which
    /// have a limit of their own.
    pub(super) fn len(&self) -> usize {
        self.appends.len() + self.grown.len() + self.later.len()
    }

    /// Is there nothing to do, now or later?
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.young.is_empty()
    }

    /// Nothing is kept of this command, nor of what will be said of its entries: while the disk fails
    /// refusals must not fill the memory that writes were refused for.
    pub(super) fn refuse(&mut self, command: &Command) {
        if let Command::Append { rows, .. } = command {
            self.refused.extend(rows.iter().map(|(sequence, _)| *sequence));
        }
    }

    fn was_refused(&mut self, sequence: Sequence) -> bool {
        !self.refused.is_empty() && self.refused.remove(&sequence)
    }

    /// How much has been said that nobody waits for.
    pub(super) fn said(&self) -> usize {
        self.later.len() + self.young.touched()
    }

    /// Gets ready for a transaction of all that there is: decides who leaves and who becomes a row,
    /// with `everything` all.
    pub(super) fn ripen(&mut self, now: Instant, everything: bool, inventory: bool) {
        for (sequence, intent, fate) in self.young.ripen(now, everything, inventory) {
            self.grown.push((sequence, intent));
            if let Some(fate) = fate {
                self.later.fates.insert(sequence, fate);
            }
        }
    }

    /// Is there something to be written, or, with `everything`, something to be taken from the log?
    pub(super) fn is_due(&self, now: Instant, everything: bool) -> bool {
        self.grown.len() + self.later.len() > 0
            || (everything && self.young.gone().is_some())
            || self.young.gone_for_long(now)
    }

    /// The appends are on disk as the line of this number.
    pub(super) fn logged(&mut self, number: i64, now: Instant) {
        let fates = &mut self.later.fates;
        let appends = std::mem::take(&mut self.appends);
        self.young.line_written(number, appends, now, |sequence| fates.remove(&sequence));
    }

    /// The appends become rows at once.
    pub(super) fn not_logged(&mut self) {
        self.grown.append(&mut self.appends);
    }

    /// Everything else is on disk.
    pub(super) fn written(&mut self) {
        self.grown.clear();
        self.later = Later::default();
        self.young.lines_taken();
    }

    fn fate(&mut self, sequence: Sequence) -> &mut Fate {
        match self.young.fate(sequence) {
            Some(fate) => fate,
            None => self.later.fates.entry(sequence).or_default(),
        }
    }

    fn relieve(&mut self, sequence: Sequence, object: ObjectKey) {
        if self.is_troubled {
            self.later.relieved.insert(sequence, object);
        }
    }

    /// Takes a command in. Of several about one entry the last of each kind counts.
    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Append { rows, .. } => self.appends.extend(rows),
            Command::Settle { sequence, unknown, facts } => {
                self.was_refused(sequence);
                self.fate(sequence).settled = Some((unknown, facts));
            }
            Command::Close { sequence } if self.was_refused(sequence) => {}
            Command::Close { sequence } => self.fate(sequence).closed = true,
            Command::Merge { sequence, since_ms, unknown, facts } => {
                self.fate(sequence).merged = Some((since_ms, unknown, facts));
            }
            Command::Retry { sequence, attempts, due_ms, error } => {
                let trouble = Trouble { level: WAITING, attempts, due_ms, error, row_anew: false };
                self.trouble(sequence, trouble);
            }
            Command::Park { sequence, attempts, error } => {
                // A parked entry is never due: its time says when it was parked.
                let due_ms = now_ms();
                let trouble = Trouble { level: PARKED, attempts, due_ms, error, row_anew: false };
                self.trouble(sequence, trouble);
            }
            Command::Hold { sequence, aside } => {
                let Aside { object, attempts, due_ms, error, row_anew } = *aside;
                self.trouble(sequence, Trouble { level: HELD, attempts, due_ms, error, row_anew });
                // What was written before is not what is to be written anew.
                let written = &mut self.fate(sequence).written;
                if row_anew && written.as_ref().is_some_and(|written| written.level == 1) {
                    *written = None;
                }
                if let Some(object) = object {
                    self.relieve(sequence, object);
                }
            }
            Command::Mirrored { sequence, object, facts, relieves } => {
                self.fate(sequence).mirrored = Some((object.is_bucket(), facts));
                if relieves {
                    self.relieve(sequence, object);
                }
            }
            Command::Written { sequence, level, error, reasoned } => {
                let written = &mut self.fate(sequence).written;
                if written.as_ref().is_none_or(|known| known.level <= level) {
                    *written = Some(Written { level, error, reasoned });
                }
            }
            rest => self.later.take(rest),
        }
    }

    fn trouble(&mut self, sequence: Sequence, trouble: Trouble) {
        self.is_troubled = true;
        self.fate(sequence).trouble = Some(trouble);
    }
}

impl Later {
    /// Takes in a command that is not about the fate of one entry.
    fn take(&mut self, command: Command) {
        let later = self;
        match command {
            Command::Unhold { bucket, delay_ms } => later.unholds.push((bucket, delay_ms)),
            Command::RowRelieved { sequence, object } => {
                later.rows_relieved.insert(sequence, object);
            }
            Command::Operate { operation, .. } => later.operations.push(operation),
            Command::Recheck { object, due_ms } => later.rechecks.push((due_ms, object)),
            Command::Rechecked { object, due_ms } => later.rechecked.push((due_ms, object)),
            Command::Part { upload_id, number, etag, size, at_ms } => {
                later.parts.push(PartSize { upload_id, number, etag, size, at_ms });
            }
            Command::UploadEnded { upload_id } => later.uploads_ended.push(upload_id),
            Command::MirrorUpload { number, upload } => {
                later.mirror_uploads.insert(number, upload);
            }
            Command::Hasten => later.hasten = true,
            Command::Event(event) => later.events.push(*event),
            Command::EventAftermath(left) => later.events_left.push(*left),
            Command::EventsDelivered { ids } => later.events_delivered.extend(ids),
            // The others are about entries, or only about when all is written.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::s3::operation::Change;

    fn object() -> ObjectKey {
        ObjectKey::new("bucket", "key")
    }

    fn mirrored(sequence: Sequence) -> Command {
        Command::Mirrored { sequence, object: object(), facts: Arc::default(), relieves: true }
    }

    fn written(sequence: Sequence, level: i64) -> Command {
        Command::Written { sequence, level, error: None, reasoned: false }
    }

    #[test]
    fn an_entry_is_over_when_the_mirror_and_the_inventory_have_it() {
        let mut pending = Pending::default();
        pending.take(mirrored(7));
        assert!(pending.later.fates[&7].over(false));
        assert!(!pending.later.fates[&7].over(true));
        pending.take(written(7, 2));
        pending.take(written(7, 1));
        assert!(pending.later.fates[&7].over(true));
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_row_the_inventory_refuses_keeps_its_entry() {
        let mut pending = Pending::default();
        pending.take(mirrored(7));
        pending.take(written(7, 2));
        pending.take(written(7, 3));
        assert!(!pending.later.fates[&7].over(true));
    }

    #[test]
    fn what_is_done_again_while_the_disk_fails_is_kept_once() {
        let mut pending = Pending { is_troubled: true, ..Pending::default() };
        for _ in 0..3 {
            pending.take(mirrored(7));
            pending.take(Command::RowRelieved { sequence: 7, object: object() });
        }
        assert_eq!(pending.len(), 3, "its fate, and what is settled with it");
    }

    #[test]
    fn nothing_is_kept_of_what_was_refused() {
        let mut pending = Pending::default();
        let intent = NewIntent {
            object: object(),
            change: Change::Put,
            request_id: "R".into(),
            accepted_ms: 1,
            facts: None,
        };
        let rows = smallvec![(1, Arc::new(intent))];
        pending.refuse(&Command::Append { rows, done: None });
        pending.take(Command::Close { sequence: 1 });
        assert!(pending.is_empty() && pending.refused.is_empty());
        // Another one may be a row.
        pending.take(Command::Close { sequence: 2 });
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_bucket_has_no_row_to_wait_for() {
        let mut pending = Pending::default();
        let object = ObjectKey::new("bucket", "");
        pending.take(Command::Mirrored {
            sequence: 1,
            object,
            facts: Arc::default(),
            relieves: true,
        });
        assert!(pending.later.fates[&1].over(true));
    }
}

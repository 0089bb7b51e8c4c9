//! What is to be written next: one line per entry, however many commands there were about it.
//!
//! Pure. Whoever waits for an append waits for it alone: everything else is kept here for a
//! moment, and an entry that is settled, mirrored and written meanwhile is one deletion.

use std::collections::HashMap;

use super::entry::{Facts, NewIntent, ObjectKey, Sequence};
use super::events::{Aftermath, Event};
use super::held::HELD;
use super::now_ms;
use super::operator::Operation;
use super::uploads::MirrorUpload;
use super::writer::{Aside, Command};

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
    pub(super) settled: Option<(bool, Facts)>,
    /// `(since_ms, unknown, facts)`
    pub(super) merged: Option<(i64, bool, Facts)>,
    pub(super) trouble: Option<Trouble>,
    /// It was set aside, which settles older entries of this key.
    pub(super) held: Option<ObjectKey>,
    pub(super) mirrored: Option<(ObjectKey, Facts)>,
    /// The highest level counts.
    pub(super) written: Option<Written>,
    /// Its row has been settled, and with it parked rows of this key that are older.
    pub(super) row_relieved: Option<ObjectKey>,
    pub(super) closed: bool,
}

impl Fate {
    /// Does the entry leave, with nothing to be looked up first?
    pub(super) fn over(&self, inventory: bool) -> bool {
        let nothing_left = |object: &ObjectKey| {
            let has_row = inventory && !object.is_bucket();
            !has_row || self.written.as_ref().is_some_and(|written| written.level == 2)
        };
        self.closed || self.mirrored.as_ref().is_some_and(|(object, _)| nothing_left(object))
    }
}

/// Commands that have arrived and are not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) appends: Vec<(Sequence, NewIntent)>,
    pub(super) later: Later,
}

/// What nobody waits for; losing it repeats idempotent work.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) fates: HashMap<Sequence, Fate>,
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

    fn fate(&mut self, sequence: Sequence) -> &mut Fate {
        self.fates.entry(sequence).or_default()
    }
}

impl Pending {
    /// Lines it stands for.
    pub(super) fn len(&self) -> usize {
        self.appends.len() + self.later.len()
    }

    /// Takes a command in. Of several about one entry the last of each kind counts.
    pub(super) fn take(&mut self, command: Command) {
        let later = &mut self.later;
        match command {
            Command::Append { rows, .. } => self.appends.extend(rows),
            Command::Settle { sequence, unknown, facts } => {
                later.fate(sequence).settled = Some((unknown, facts));
            }
            Command::Close { sequence } => later.fate(sequence).closed = true,
            Command::Merge { sequence, since_ms, unknown, facts } => {
                later.fate(sequence).merged = Some((since_ms, unknown, facts));
            }
            Command::Retry { sequence, attempts, due_ms, error } => {
                later.fate(sequence).trouble =
                    Some(Trouble { level: WAITING, attempts, due_ms, error, row_anew: false });
            }
            Command::Park { sequence, attempts, error } => {
                // A parked entry is never due: its time says when it was parked.
                let due_ms = now_ms();
                later.fate(sequence).trouble =
                    Some(Trouble { level: PARKED, attempts, due_ms, error, row_anew: false });
            }
            Command::Hold { sequence, aside } => {
                let Aside { object, attempts, due_ms, error, row_anew } = aside;
                let fate = later.fate(sequence);
                fate.trouble = Some(Trouble { level: HELD, attempts, due_ms, error, row_anew });
                fate.held = object;
            }
            Command::Unhold { bucket, delay_ms } => later.unholds.push((bucket, delay_ms)),
            Command::Mirrored { sequence, object, facts } => {
                later.fate(sequence).mirrored = Some((object, facts));
            }
            Command::Written { sequence, level, error, reasoned } => {
                let written = &mut later.fate(sequence).written;
                if written.as_ref().is_none_or(|known| known.level <= level) {
                    *written = Some(Written { level, error, reasoned });
                }
            }
            Command::RowRelieved { sequence, object } => {
                later.fate(sequence).row_relieved = Some(object);
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
            Command::Flush { .. } | Command::Count { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectKey {
        ObjectKey::new("bucket", "key")
    }

    fn mirrored(sequence: Sequence) -> Command {
        Command::Mirrored { sequence, object: object(), facts: Facts::default() }
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
    fn a_bucket_has_no_row_to_wait_for() {
        let mut pending = Pending::default();
        let object = ObjectKey::new("bucket", "");
        pending.take(Command::Mirrored { sequence: 1, object, facts: Facts::default() });
        assert!(pending.later.fates[&1].over(true));
    }
}

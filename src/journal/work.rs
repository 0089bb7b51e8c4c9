//! What the workers of the two lanes are handed: an entry to be mirrored, a row to be written.

use std::sync::Arc;

use super::SECOND_LOOK;
use super::entry::{Entry, Facts, ObjectKey, Sequence};
use super::lane::Item;
use crate::s3::operation::Change;
use crate::tee::TeedBody;

/// An entry claimed for mirroring, with its body if it is still at hand.
#[derive(Debug)]
pub struct Work {
    /// The entry.
    pub entry: Entry,
    /// The body that made it, if it was kept.
    pub body: Option<TeedBody>,
}

impl Item for Work {
    /// Copying main's current state is right in any order.
    const ORDERED: bool = false;

    fn sequence(&self) -> Sequence {
        self.entry.sequence
    }
    fn object(&self) -> &ObjectKey {
        &self.entry.object
    }
    fn supersede(&mut self, older: &Self) {
        self.entry.supersede(&older.entry);
    }
    fn tells_more(&self, _: Option<&Self>) -> bool {
        // The one that is here may still have its body.
        false
    }
    fn doubt(&mut self) {}
}

/// A row the inventory should write.
#[derive(Debug, Clone)]
pub struct RowWork {
    /// Position of the newest entry it stands for.
    pub sequence: Sequence,
    /// The key.
    pub object: ObjectKey,
    /// How it changed.
    pub change: Change,
    /// What is known of the state; incomplete facts mean that main has to be asked.
    pub facts: Arc<Facts>,
    /// Can it be written as the facts say?
    pub trust: Trust,
    /// Has the mirror confirmed exactly this state?
    pub mirrored: bool,
    /// Why not, after a failed try.
    pub error: Option<String>,
    /// Is it a second look only, so that perhaps nothing happened to the key?
    pub second_look: bool,
}

/// How far a row can rely on what is known of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is what main answered, or what the mirror was given.
    Told,
    /// Nobody but main knows: it is asked before the row is written.
    Unknown,
    /// It may be older news than what another row of the key tells: main is asked behind the writing.
    Doubtful,
}

impl Item for RowWork {
    /// A row of what the mirror has confirmed tells what was, not what is.
    const ORDERED: bool = true;

    fn sequence(&self) -> Sequence {
        self.sequence
    }
    fn object(&self) -> &ObjectKey {
        &self.object
    }
    fn supersede(&mut self, older: &Self) {
        self.second_look &= older.second_look;
    }
    fn tells_more(&self, known: Option<&Self>) -> bool {
        let (mirrored, reasoned) =
            known.map_or((false, false), |known| (known.mirrored, known.error.is_some()));
        !mirrored && (self.mirrored || (self.error.is_some() && !reasoned))
    }
    fn doubt(&mut self) {
        if self.trust == Trust::Told {
            self.trust = Trust::Doubtful;
        }
    }
}

/// The row of an entry.
pub(super) fn row(entry: &Entry, mirrored: bool) -> RowWork {
    // Of writes that overlapped nobody but main knows which one is the state now.
    let trust = match mirrored {
        true if entry.facts.contended => Trust::Doubtful,
        false if entry.unknown || entry.overlapped => Trust::Unknown,
        _ => Trust::Told,
    };
    RowWork {
        sequence: entry.sequence,
        object: entry.object.clone(),
        change: entry.change,
        facts: entry.facts.clone(),
        trust,
        mirrored,
        error: None,
        second_look: *entry.request_id == *SECOND_LOOK,
    }
}

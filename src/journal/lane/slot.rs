//! What a lane carries, and what it holds of one key.

use tokio::time::Instant;

use crate::journal::entry::{ObjectKey, Sequence};

/// What a lane carries.
pub(in crate::journal) trait Item {
    /// Does it matter in which order the items of a key are done?
    const ORDERED: bool;
    fn sequence(&self) -> Sequence;
    fn object(&self) -> &ObjectKey;
    /// Takes over what must outlive an older item of the same key.
    fn supersede(&mut self, older: &Self);
    /// Does this tell more than an item of the same sequence that is already here?
    fn tells_more(&self, known: Option<&Self>) -> bool;
    /// A newer item of the same key is being done, or may have been already.
    fn doubt(&mut self);
}

/// What became of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::journal) enum Offered<T> {
    /// It waits; whoever claims should be woken.
    Ready,
    /// It waits and stands for this older item too, whose entry can be closed.
    Supersedes(T),
    /// An item of this key that is newer waits already and now stands for this one too.
    SupersededBy(T),
    /// It is already here.
    Known,
    /// No room: it stays on disk until a refill.
    Full,
}

/// What a lane holds of a key: at most one item claimed and one waiting.
pub(super) struct Slot<T> {
    pub(super) waiting: Option<T>,
    pub(super) claimed: Option<Sequence>,
    /// What waits is not to be claimed before.
    pub(super) resting: Option<Instant>,
    /// Has only a job asked for it?
    pub(super) background: bool,
}

impl<T: Item> Slot<T> {
    /// Offers an item of a key of which something is here.
    pub(super) fn offer(&mut self, mut item: T) -> Offered<T> {
        if self.claimed == Some(item.sequence()) && !item.tells_more(None) {
            return Offered::Known;
        }
        if self.claimed.is_some_and(|claimed| claimed > item.sequence()) {
            // It comes behind newer news.
            item.doubt();
        }
        match self.waiting.take() {
            None => {
                self.waiting = Some(item);
                Offered::Ready
            }
            Some(old) if old.sequence() == item.sequence() => {
                self.waiting = Some(if item.tells_more(Some(&old)) { item } else { old });
                Offered::Known
            }
            Some(old) if old.sequence() < item.sequence() => {
                item.supersede(&old);
                self.waiting = Some(item);
                Offered::Supersedes(old)
            }
            Some(mut newer) => {
                newer.supersede(&item);
                self.waiting = Some(newer);
                Offered::SupersededBy(item)
            }
        }
    }
}

//! A lane: the bounded window of work in memory, over the unbounded journal on disk.
//!
//! Pure bookkeeping, no I/O. Each key has at most one item claimed and one waiting; a newer item
//! supersedes a waiting one, because copying main's current state once serves both. When the
//! lane is full an item stays on disk only, and `refill_from` remembers where reading has to
//! start once there is room. So memory does not grow with the backlog, and a hot key cannot
//! crowd out others.
//!
//! Keys that a job brings (backfill, verify) wait in a line of their own: they are claimed when
//! no live key is ready, and never by all workers at once. A live item of such a key makes it
//! live.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use foldhash::HashMap;
use tokio::time::Instant;

use super::entry::{ObjectKey, Sequence};
use super::overtaken::Overtaken;
use slot::Slot;
pub(super) use slot::{Item, Offered};

pub(super) struct Lane<T> {
    slots: HashMap<ObjectKey, Slot<T>>,
    ready: VecDeque<ObjectKey>,
    /// Keys of jobs that can be claimed.
    background: VecDeque<ObjectKey>,
    /// How many keys of jobs are claimed, and may be.
    background_claimed: usize,
    background_max: usize,
    /// Keys that rest, by when they may be claimed; the number keeps equal times apart.
    resting: BTreeMap<(Instant, u64), ObjectKey>,
    rests: u64,
    capacity: usize,
    refill_from: Option<Sequence>,
    /// While disk is read: what was released meanwhile, and so is over although it was read.
    released: Option<HashMap<ObjectKey, Sequence>>,
    /// Keys of which items were done while older ones may have been on disk only, where order
    /// matters.
    done: Option<Overtaken>,
}

impl<T: Item> Lane<T> {
    /// A lane whose content on disk, if any, starts at the first sequence.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: HashMap::default(),
            ready: VecDeque::new(),
            background: VecDeque::new(),
            background_claimed: 0,
            background_max: 1,
            resting: BTreeMap::new(),
            rests: 0,
            capacity,
            refill_from: Some(Sequence::MIN),
            released: None,
            done: None,
        }
    }

    /// Bounds how many keys of jobs are claimed at a time.
    pub(super) fn limit_background(&mut self, claims: usize) {
        self.background_max = claims.max(1);
    }

    /// Offers an item that can wait until no live one is ready.
    pub(super) fn offer_background(&mut self, item: T) -> Offered<T> {
        let key = item.object().clone();
        let is_new = !self.slots.contains_key(&key);
        let offered = self.offer(item);
        if is_new
            && matches!(offered, Offered::Ready)
            && let Some(slot) = self.slots.get_mut(&key)
        {
            slot.background = true;
            // It was put at the end of the live line just now.
            self.ready.pop_back();
            self.background.push_back(key);
        }
        offered
    }

    /// Is anything of this key here?
    pub(super) fn knows(&self, key: &ObjectKey) -> bool {
        self.slots.contains_key(key)
    }

    /// A live item of the key has come: what a job asked for is live from now on.
    fn make_live(&mut self, key: &ObjectKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !std::mem::take(&mut slot.background) {
            return;
        }
        if slot.claimed.is_some() {
            self.background_claimed -= 1;
        } else if slot.resting.is_none() {
            self.ready.push_back(key.clone());
        }
    }

    /// Puts a key in line to be claimed.
    fn line_up(&mut self, key: ObjectKey) {
        if self.slots.get(&key).is_some_and(|slot| slot.background) {
            self.background.push_back(key);
        } else {
            self.ready.push_back(key);
        }
    }

    pub(super) fn offer(&mut self, item: T) -> Offered<T> {
        let Some(slot) = self.slots.get_mut(item.object()) else { return self.offer_new(item) };
        let key = item.object().clone();
        // The key of a job lines up as it becomes live.
        let lines_up = slot.claimed.is_none() && slot.resting.is_none() && !slot.background;
        let offered = slot.offer(item);
        if matches!(offered, Offered::Ready) && lines_up {
            self.ready.push_back(key);
        } else if !matches!(offered, Offered::Known) {
            self.make_live(&key);
        }
        offered
    }

    /// Offers what has just happened. While others wait on disk only, which have waited longer, a key
    /// of which nothing is here joins them when the lane is filling up: it would take their place.
    pub(super) fn offer_live(&mut self, item: T) -> Offered<T> {
        if !self.has_room() && !self.slots.contains_key(item.object()) {
            return self.left_to_disk(&item);
        }
        self.offer(item)
    }

    /// Does what is new find room?
    pub(super) fn has_room(&self) -> bool {
        let max = if self.refill_from.is_some() { self.mark() } else { self.capacity };
        self.slots.len() < max
    }

    /// Up to here there is room for what is read from disk, with some left for what is due.
    fn mark(&self) -> usize {
        self.capacity * 5 / 8
    }

    fn left_to_disk(&mut self, item: &T) -> Offered<T> {
        self.refill_continues(item.sequence() - 1);
        Offered::Full
    }

    /// Of a key of which nothing is here.
    fn offer_new(&mut self, item: T) -> Offered<T> {
        if self.slots.len() >= self.capacity {
            return self.left_to_disk(&item);
        }
        self.ready.push_back(item.object().clone());
        self.slots.insert(
            item.object().clone(),
            Slot { waiting: Some(item), claimed: None, resting: None, background: false },
        );
        Offered::Ready
    }

    /// The live key that has waited longest, or, where none is ready, that of a job.
    pub(super) fn claim(&mut self) -> Option<T> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(item) = self.claim_key(&key) {
                return Some(item);
            }
        }
        while self.background_claimed < self.background_max {
            let key = self.background.pop_front()?;
            if let Some(item) = self.claim_key(&key) {
                return Some(item);
            }
        }
        None
    }

    fn claim_key(&mut self, key: &ObjectKey) -> Option<T> {
        let slot = self.slots.get_mut(key)?;
        if slot.claimed.is_some() || slot.resting.is_some() {
            return None;
        }
        let item = slot.waiting.take()?;
        slot.claimed = Some(item.sequence());
        self.background_claimed += usize::from(slot.background);
        Some(item)
    }

    /// Ends the claim of a key, if there is one; yields what was claimed.
    fn unclaim(&mut self, key: &ObjectKey) -> Option<Sequence> {
        let slot = self.slots.get_mut(key)?;
        let claimed = slot.claimed.take()?;
        self.background_claimed -= usize::from(slot.background);
        Some(claimed)
    }

    /// The item of a key that waits.
    pub(super) fn waiting(&self, key: &ObjectKey) -> Option<&T> {
        self.slots.get(key).and_then(|slot| slot.waiting.as_ref())
    }

    /// Does an item of the key wait that is newer than this sequence?
    pub(super) fn newer_waits(&self, key: &ObjectKey, than: Sequence) -> bool {
        self.waiting(key).is_some_and(|item| item.sequence() > than)
    }

    /// Ends a claim. True: a newer item of the key became ready.
    pub(super) fn release(&mut self, key: &ObjectKey) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let over = slot.claimed.take();
        let lines_up = slot.waiting.is_some();
        self.background_claimed -= usize::from(slot.background && over.is_some());
        if T::ORDERED && over.is_some() && (self.refill_from.is_some() || self.released.is_some()) {
            self.done.get_or_insert_with(Overtaken::new).insert(key);
        }
        if let (Some(released), Some(over)) = (&mut self.released, over) {
            let newest = released.entry(key.clone()).or_insert(over);
            *newest = over.max(*newest);
        }
        if lines_up {
            self.line_up(key.clone());
        } else {
            self.slots.remove(key);
        }
        lines_up
    }

    /// Gives a claimed item back, to be claimed again.
    pub(super) fn put_back(&mut self, item: T) -> Offered<T> {
        let key = item.object().clone();
        self.unclaim(&key);
        if self.slots.get(&key).is_some_and(|slot| slot.waiting.is_some()) {
            self.line_up(key);
        }
        self.offer(item)
    }

    /// Leaves a claimed item to the disk ([`Offered::Full`]), from where it is read when its time has come;
    /// not where another of the key waits, which is claimed next.
    pub(super) fn set_aside(&mut self, mut item: T) -> Offered<T> {
        let key = item.object().clone();
        self.unclaim(&key);
        let Some(slot) = self.slots.get_mut(&key) else { return Offered::Full };
        let offered = match slot.waiting.take() {
            None => {
                self.slots.remove(&key);
                return Offered::Full;
            }
            Some(mut newer) if newer.sequence() > item.sequence() => {
                newer.supersede(&item);
                slot.waiting = Some(newer);
                Offered::SupersededBy(item)
            }
            Some(same) if same.sequence() == item.sequence() => {
                slot.waiting = Some(if item.tells_more(Some(&same)) { item } else { same });
                Offered::Known
            }
            Some(older) => {
                item.supersede(&older);
                slot.waiting = Some(item);
                Offered::Supersedes(older)
            }
        };
        self.line_up(key);
        offered
    }

    /// Is there so little room that what rests is better left to the disk?
    pub(super) fn is_crowded(&self) -> bool {
        self.slots.len() > self.capacity * 7 / 8
    }

    /// Does what rests take the place of others that have not been tried yet?
    pub(super) fn is_pressed(&self) -> bool {
        self.is_crowded() || (self.refill_from.is_some() && self.slots.len() > self.mark())
    }

    /// Free slots for what was left to the disk because it failed: others on disk come first.
    pub(super) fn room_for_due(&self) -> usize {
        let max = if self.refill_from.is_some() { self.mark() } else { self.capacity };
        max.saturating_sub(self.slots.len())
    }

    /// Ends a claim that failed: whatever waits of the key rests `until`, so that a key that keeps
    /// changing does not escape its pause. The item may be left to the disk ([`Offered::Full`]).
    pub(super) fn rest(&mut self, item: T, until: Instant, leave: bool) -> Offered<T> {
        let key = item.object().clone();
        self.unclaim(&key);
        let Some(slot) = self.slots.get_mut(&key) else { return Offered::Full };
        let mut item = item;
        let offered = match slot.waiting.take() {
            Some(mut newer) if newer.sequence() > item.sequence() => {
                newer.supersede(&item);
                slot.waiting = Some(newer);
                Offered::SupersededBy(item)
            }
            // An entry of a previous run, read from disk meanwhile.
            Some(older) => {
                item.supersede(&older);
                slot.waiting = Some(item);
                Offered::Supersedes(older)
            }
            None if leave => {
                self.slots.remove(&key);
                return Offered::Full;
            }
            None => {
                slot.waiting = Some(item);
                Offered::Ready
            }
        };
        slot.resting = Some(until);
        self.rests += 1;
        self.resting.insert((until, self.rests), key);
        offered
    }

    /// Ends the rest of every key whose time has come; tells how many can be claimed now.
    pub(super) fn wake(&mut self, now: Instant) -> usize {
        let mut woken = 0;
        while let Some(((until, number), key)) = self.resting.pop_first() {
            if until > now {
                self.resting.insert((until, number), key);
                break;
            }
            if let Some(slot) = self.slots.get_mut(&key)
                && slot.resting == Some(until)
            {
                slot.resting = None;
                self.line_up(key);
                woken += 1;
            }
        }
        woken
    }

    /// Ends every rest.
    pub(super) fn wake_all(&mut self) -> usize {
        let last = self.resting.last_key_value().map(|((until, _), _)| *until);
        last.map_or(0, |last| self.wake(last))
    }

    /// Ends the rest of the keys that are meant.
    pub(super) fn wake_where(&mut self, now: Instant, meant: impl Fn(&ObjectKey) -> bool) {
        let keys = self.resting.iter().filter(|(_, key)| meant(key));
        let moved: Vec<_> = keys.map(|(at, key)| (*at, key.clone())).collect();
        for ((until, number), key) in moved {
            self.resting.remove(&(until, number));
            if let Some(slot) = self.slots.get_mut(&key)
                && slot.resting == Some(until)
            {
                slot.resting = Some(now);
                self.resting.insert((now, number), key);
            }
        }
        self.wake(now);
    }

    /// The claimed entry of a key.
    pub(super) fn claimed(&self, key: &ObjectKey) -> Option<Sequence> {
        self.slots.get(key).and_then(|slot| slot.claimed)
    }

    /// Where to read on disk when there is room for more.
    fn wants_refill(&self) -> Option<Sequence> {
        self.refill_from.filter(|_| self.slots.len() <= self.mark())
    }

    /// Free slots.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.slots.len())
    }

    /// Begins a refill where there is room for one: yields from where on to read. Overflow is noted anew from
    /// now on, and what is released is remembered until [`Self::refill_ended`].
    pub(super) fn begin_refill(&mut self) -> Option<Sequence> {
        let from = self.wants_refill()?;
        self.refill_from = None;
        self.released = Some(HashMap::default());
        Some(from)
    }

    /// Offers what was read since [`Self::begin_refill`], unless it is over by now. An older item
    /// than what was released of its key may have been on disk only: it is done, or, where order
    /// matters, settled as one that newer news stands for.
    pub(super) fn offer_from_disk(&mut self, mut item: T) -> Offered<T> {
        let released = self.released.as_ref().and_then(|released| released.get(item.object()));
        match released {
            Some(over) if item.sequence() == *over => return Offered::Known,
            Some(over) if T::ORDERED && item.sequence() < *over => {
                return Offered::SupersededBy(item);
            }
            _ => {}
        }
        if self.done.as_ref().is_some_and(|done| done.may_hold(item.object())) {
            item.doubt();
        }
        self.offer(item)
    }

    /// Ends a refill.
    pub(super) fn refill_ended(&mut self) {
        self.released = None;
        if self.refill_from.is_none() {
            // Nothing is on disk only.
            self.done = None;
        }
    }

    /// Ends a refill that found more than it could take, at this sequence.
    pub(super) fn refill_continues(&mut self, from: Sequence) {
        self.refill_from = Some(self.refill_from.map_or(from, |old| old.min(from)));
    }
}

//! The mirror's side of the journal: claiming keys and settling them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::background::End;
use super::entry::{Entry, Facts, ObjectKey, Sequence};
use super::lane::{Lane, Offered};
use super::writer::{Aside, Command};
use super::{Journal, RowWork, Work, lock, now_ms, row};

impl Journal {
    /// Takes the key that has waited longest; waits until there is one. Cancel-safe.
    pub async fn claim(&self) -> Work {
        loop {
            let ready = self.shared.mirror_ready.notified();
            if let Some(work) = self.try_claim() {
                self.shared.doze.claimed();
                // Pass the baton: a notification wakes one worker only.
                self.shared.mirror_ready.notify_one();
                return work;
            }
            if !self.shared.doze.wait(&self.shared.mirror_ready).await {
                ready.await;
            }
        }
    }

    /// Does what is settled now stay in memory, with its body, until a worker takes it?
    pub fn has_room_for_bodies(&self) -> bool {
        lock(&self.shared.mirror).has_room()
    }

    pub(super) fn try_claim(&self) -> Option<Work> {
        lock(&self.shared.mirror).claim()
    }

    /// The mirror has confirmed main's state of the key, which `facts` describe.
    pub async fn complete(&self, work: Work, facts: impl Into<Arc<Facts>>) {
        let facts = facts.into();
        // Where there are versions a newer one does not stand for an older one that failed.
        let relieves = !facts.has_versions();
        self.completed(work, facts, relieves).await;
    }

    /// The same where the mirror keeps no versions of the key, so that its state is all there is to it,
    /// whatever main says of versions.
    pub async fn complete_current(&self, work: Work, facts: impl Into<Arc<Facts>>) {
        self.completed(work, facts.into(), true).await;
    }

    async fn completed(&self, work: Work, mut facts: Arc<Facts>, relieves: bool) {
        let entry = work.entry;
        if facts.contended != entry.facts.contended {
            Arc::make_mut(&mut facts).contended = entry.facts.contended;
        }
        let (sequence, object) = (entry.sequence, entry.object.clone());
        let has_row = self.has_row(&object);
        let superseded = has_row && lock(&self.shared.mirror).newer_waits(&object, sequence);
        self.recheck_if_landing_late(&object).await;
        self.send(Command::Mirrored { sequence, object, facts: facts.clone(), relieves }).await;
        if has_row {
            if superseded {
                self.row_covered(&entry.object, sequence).await;
            } else {
                let mut done = row(&entry, true);
                done.facts = facts;
                self.offer_row(done).await;
            }
        }
        self.release(&entry.object);
        self.background_confirmed(&entry.object, sequence, relieves);
    }

    /// A transient failure: the key is tried again after `pause`. Its body is kept, and a newer
    /// entry of the key takes its place.
    pub async fn retry(&self, mut work: Work, pause: Duration, error: String) {
        work.entry.attempts = work.entry.attempts.saturating_add(1);
        let (sequence, attempts) = (work.entry.sequence, work.entry.attempts);
        let due_ms = now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        self.background_failed(sequence, attempts, &error);
        let command = if work.entry.ripe {
            // It stays set aside on disk, so that a restart knows that its time was over.
            let (object, error) = (work.entry.settles_older(), error.clone());
            let aside = Aside { object, attempts, due_ms, error, row_anew: false };
            Command::Hold { sequence, aside: Box::new(aside) }
        } else {
            Command::Retry { sequence, attempts, due_ms, error: error.clone() }
        };
        self.send(command).await;
        if attempts.is_power_of_two() {
            // Not at every try: the table is for people, and they look at it less often.
            self.offer_reason(&work.entry, error).await;
        }
        let until = Instant::now() + pause;
        let offered = self.offered(|lane| {
            let leave = lane.is_pressed();
            lane.rest(work, until, leave)
        });
        self.rested(offered).await;
    }

    /// A key rests; what it stands for now is written.
    async fn rested(&self, (offered, newest): OfferedWork) {
        if let Offered::SupersededBy(old) | Offered::Supersedes(old) = offered {
            self.superseded(&old.entry, newest).await;
        }
    }

    /// Its time has not come, which is no failure: the key rests `until` then, in memory only. Given
    /// back, still claimed, when memory is short.
    pub async fn rest(&self, work: Work, until: Instant) -> Option<Work> {
        let offered = {
            let mut lane = lock(&self.shared.mirror);
            if lane.is_crowded() {
                return Some(work);
            }
            with_newest(&mut lane, |lane| lane.rest(work, until, false))
        };
        self.rested(offered).await;
        None
    }

    /// It is not this key's turn: it waits on disk, which is no failure.
    pub async fn defer(&self, work: Work, pause: Duration, reason: &str) {
        let kept = work.entry.settles_older();
        let Entry { sequence, object, attempts, ripe, .. } = work.entry;
        let due_ms = now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let error = reason.to_owned();
        let command = if ripe {
            let aside = Aside { object: kept, attempts, due_ms, error, row_anew: false };
            Command::Hold { sequence, aside: Box::new(aside) }
        } else {
            Command::Retry { sequence, attempts, due_ms, error }
        };
        self.send(command).await;
        self.release(&object);
    }

    /// A permanent failure: the key stays with its reason until it is written anew or retried.
    pub async fn park(&self, work: Work, error: String) {
        self.background_ended(work.entry.sequence, End::Parked(&error));
        let Entry { sequence, attempts, .. } = work.entry;
        let command = Command::Park { sequence, attempts: attempts + 1, error: error.clone() };
        self.send(command).await;
        if !self.offer_reason(&work.entry, error).await {
            self.row_covered(&work.entry.object, sequence).await;
        }
        self.release(&work.entry.object);
    }

    /// Has the inventory say why the mirror does not have this state. False: a newer one waits.
    async fn offer_reason(&self, entry: &Entry, error: String) -> bool {
        if lock(&self.shared.mirror).newer_waits(&entry.object, entry.sequence) {
            return false;
        }
        self.offer_row(RowWork { error: Some(error), ..row(entry, false) }).await;
        true
    }

    /// The row of a newer entry of the key, which waits, stands for that of this one.
    pub(super) async fn row_covered(&self, object: &ObjectKey, sequence: Sequence) {
        if self.has_row(object) {
            self.send(Command::Written { sequence, level: 2, error: None, reasoned: false }).await;
        }
    }

    pub(super) fn release(&self, object: &ObjectKey) {
        if lock(&self.shared.mirror).release(object) {
            self.shared.mirror_ready.notify_one();
        }
    }

    /// Looks at a key once more at `due_ms`, because something may still take effect late.
    pub async fn recheck(&self, object: ObjectKey, due_ms: i64) {
        self.send(Command::Recheck { object, due_ms }).await;
    }

    /// A key of the first moments after a start, while what the previous run had under way may still
    /// land over it. On disk no later than what is said of it next.
    pub(super) async fn recheck_if_landing_late(&self, object: &ObjectKey) {
        if let Some((until, due_ms)) = self.shared.landing_late
            && Instant::now() < until
        {
            self.recheck(object.clone(), due_ms).await;
        }
    }

    /// Makes every waiting retry due: the mirror is back.
    pub async fn hasten(&self) {
        self.send(Command::Hasten).await;
        if lock(&self.shared.mirror).wake_all() > 0 {
            self.shared.mirror_ready.notify_one();
        }
    }

    pub(super) async fn offer_work(&self, work: Work) {
        let offered = self.offered(|lane| lane.offer(work));
        self.work_offered(offered).await;
    }

    /// Offers a key to the mirror's workers.
    pub(super) fn offered(
        &self,
        offer: impl FnOnce(&mut Lane<Work>) -> Offered<Work>,
    ) -> OfferedWork {
        with_newest(&mut lock(&self.shared.mirror), offer)
    }

    pub(super) async fn work_offered(&self, (offered, newest): OfferedWork) {
        match offered {
            Offered::Ready if self.shared.doze.is_on() => {}
            Offered::Ready => self.shared.mirror_ready.notify_one(),
            Offered::Supersedes(old) | Offered::SupersededBy(old) => {
                self.superseded(&old.entry, newest).await;
            }
            Offered::Known | Offered::Full => {}
        }
    }

    /// An older entry is covered by the newer one that waits: the newer takes over its age and
    /// facts on disk too, and the older goes.
    async fn superseded(&self, old: &Entry, newest: Option<Entry>) {
        if let Some(newest) = newest {
            self.send(Command::Merge {
                sequence: newest.sequence,
                since_ms: newest.since_ms,
                unknown: newest.unknown,
                facts: newest.facts,
            })
            .await;
        }
        self.send(Command::Close { sequence: old.sequence }).await;
        self.background_ended(old.sequence, End::Covered);
    }
}

/// What became of an offer, and what waits of the key, where that stands for an older entry now: as it is
/// before anybody can claim it.
pub(super) type OfferedWork = (Offered<Work>, Option<Entry>);

fn with_newest(
    lane: &mut Lane<Work>,
    offer: impl FnOnce(&mut Lane<Work>) -> Offered<Work>,
) -> OfferedWork {
    let offered = offer(lane);
    let newest = match &offered {
        Offered::Supersedes(old) | Offered::SupersededBy(old) => lane.waiting(&old.entry.object),
        Offered::Ready | Offered::Known | Offered::Full => None,
    };
    let newest = newest.map(|work| work.entry.clone());
    (offered, newest)
}

//! From disk to the lanes: what did not fit, what is due again, what is looked at once more.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smallvec::smallvec;
use tokio::time::Instant;

use super::entry::{Entry, Facts, NewIntent, ObjectKey, Sequence};
use super::lane::{Item, Lane};
use super::writer::Command;
use super::{Journal, REFILL, SECOND_LOOK, Shared, Work, held, lock, now_ms, row, store};
use crate::s3::operation::Change;

/// Failed entries wake up in memory; from disk come those that memory had no room for, or that a
/// previous run left. They are read this much later, so that what has just been settled is on
/// disk and is not done again.
const DUE_GRACE_MS: i64 = 2000;

impl Journal {
    /// Feeds the lanes from disk: what did not fit, what is due again, what must be looked at
    /// once more. Runs until the process ends.
    pub async fn feed(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if lock(&self.shared.mirror).wake(Instant::now()) > 0 {
                self.shared.mirror_ready.notify_one();
            }
            if let Err(error) = self.feed_once().await {
                tracing::warn!(%error, "cannot read the journal; trying again");
            }
        }
    }

    pub(super) async fn feed_once(&self) -> Result<(), sqlx::Error> {
        if let Some(from) = self.begin_refill(&self.shared.mirror).await {
            let mut reader = self.shared.reader.lock().await;
            let found = store::pending(&mut reader, from, REFILL).await;
            drop(reader);
            let found = found.inspect_err(|_| {
                let mut lane = lock(&self.shared.mirror);
                lane.refill_continues(from);
                lane.refill_ended();
            })?;
            self.refilled(found.len(), found.last().map(|entry| entry.sequence), |lane, at| {
                lock(&lane.mirror).refill_continues(at);
            });
            for entry in found {
                let work = Work { entry, body: None };
                let offered = self.offered(|lane| lane.offer_from_disk(work));
                self.work_offered(offered).await;
            }
            lock(&self.shared.mirror).refill_ended();
        }
        self.feed_rows().await?;
        self.feed_due().await
    }

    /// Reads rows that are to be written.
    async fn feed_rows(&self) -> Result<(), sqlx::Error> {
        if let Some(from) = self.shared.rows_resting.wake(Instant::now(), self.position()) {
            lock(&self.shared.rows).refill_continues(from);
        }
        if !self.shared.inventory {
            return Ok(());
        }
        let Some(from) = self.begin_refill(&self.shared.rows).await else { return Ok(()) };
        let resting = self.shared.rows_resting.pass_over(from);
        let mut reader = self.shared.reader.lock().await;
        let found = store::unwritten(&mut reader, from, REFILL, &resting).await;
        drop(reader);
        let found = found.inspect_err(|_| {
            let mut rows = lock(&self.shared.rows);
            rows.refill_continues(from);
            rows.refill_ended();
        })?;
        self.refilled(found.len(), found.last().map(|(entry, ..)| entry.sequence), |lane, at| {
            lock(&lane.rows).refill_continues(at);
        });
        for (entry, mirrored, error) in found {
            let mut row = row(&entry, mirrored);
            row.error = error.filter(|_| !mirrored);
            let rested = &self.shared.rows_resting;
            if !self.is_of_this_run(row.sequence)
                || rested.is_doubtful(&row.object.bucket, row.sequence)
            {
                // What was written behind it is not known any more.
                row.doubt();
            }
            if self.has_row(&row.object) {
                let offered = lock(&self.shared.rows).offer_from_disk(row);
                self.row_offered(offered).await;
            }
        }
        lock(&self.shared.rows).refill_ended();
        Ok(())
    }

    /// Begins to read for a lane, if it has room: yields from where on. What was settled before, or found no
    /// room, is on disk as such then; what is settled or finds none from here on is remembered by the
    /// lane. So nothing is offered in a state that is over: a row would say that the mirror has not yet what
    /// it has.
    async fn begin_refill<T: Item>(&self, lane: &Mutex<Lane<T>>) -> Option<Sequence> {
        let from = lock(lane).begin_refill()?;
        self.flush().await;
        if self.health().failing() {
            // Nobody can tell which of those on disk are over, and they would be done again and again:
            // they wait.
            let mut lane = lock(lane);
            lane.refill_continues(from);
            lane.refill_ended();
            return None;
        }
        Some(from)
    }

    pub(super) fn refilled(
        &self,
        found: usize,
        last: Option<Sequence>,
        resume: impl Fn(&Shared, Sequence),
    ) {
        if i64::try_from(found).is_ok_and(|found| found == REFILL)
            && let Some(last) = last
        {
            resume(&self.shared, last);
        }
    }

    pub(super) async fn feed_due(&self) -> Result<(), sqlx::Error> {
        let room = i64::try_from(lock(&self.shared.mirror).room_for_due()).unwrap_or(0).min(REFILL);
        // What cannot be struck off would come again every time.
        if room == 0 || self.health().failing() {
            return Ok(());
        }
        let mut reader = self.shared.reader.lock().await;
        let due = store::due(&mut reader, now_ms() - DUE_GRACE_MS, room).await?;
        let ripe = held::due(&mut reader, now_ms(), room).await?;
        let rechecks = store::rechecks_due(&mut reader, now_ms(), room).await?;
        drop(reader);
        for entry in due.into_iter().chain(ripe) {
            self.offer_work(Work { entry, body: None }).await;
        }
        for (due_ms, object) in rechecks {
            self.look_again(object.clone()).await;
            self.send(Command::Rechecked { object, due_ms }).await;
        }
        Ok(())
    }

    /// Treats a key as changed in a way that nobody knows: main is asked, mirror and row follow.
    pub async fn look_again(&self, object: ObjectKey) {
        let sequence = self.shared.next.fetch_add(1, Ordering::Relaxed);
        // A change that is under way has an earlier number and will tell later news.
        let contended = self.in_flight(&object);
        let facts = Facts { contended, ..Facts::default() };
        let intent = NewIntent {
            object: object.clone(),
            change: Change::Other,
            request_id: SECOND_LOOK.into(),
            accepted_ms: now_ms(),
            facts: contended.then(|| Box::new(facts.clone())),
        };
        let entry = Entry {
            sequence,
            object,
            change: Change::Other,
            unknown: true,
            overlapped: true,
            since_ms: intent.accepted_ms,
            request_id: intent.request_id.clone(),
            facts: Arc::new(facts),
            attempts: 0,
            ripe: false,
        };
        self.send(Command::Append { rows: smallvec![(sequence, Arc::new(intent))], done: None })
            .await;
        self.send(Command::Settle { sequence, unknown: true, facts: entry.facts.clone() }).await;
        self.offer_row(row(&entry, false)).await;
        self.offer_work(Work { entry, body: None }).await;
    }
}

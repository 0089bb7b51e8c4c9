//! The proxy's side of the journal: intents and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::entry::{Entry, Facts, NewIntent, ObjectKey, Outcome, Sequence};
use super::writer::Command;
use super::{
    Durable, Flight, Intent, Intents, Journal, JournalRef, PartSizes, RECHECK_AFTER_MS, Work, lock,
    now_ms, row, store,
};
use crate::tee::TeedBody;

impl Journal {
    /// Records intents. Returns at once; [`Durable`] tells when they are on disk.
    pub async fn append(&self, intents: impl Into<SmallVec<[NewIntent; 1]>>) -> (Intents, Durable) {
        // Before there is a number: whoever has a later one and finds no flight has begun earlier.
        let begun = |intent: NewIntent| (self.take_off(&intent.object), Arc::new(intent));
        let begun: SmallVec<[_; 1]> = intents.into().into_iter().map(begun).collect();
        let count = i64::try_from(begun.len()).unwrap_or(i64::MAX);
        let first = self.shared.next.fetch_add(count, Ordering::Relaxed);
        let rows = (first..).zip(begun.iter().map(|(_, intent)| intent.clone())).collect();
        let handles = (first..)
            .zip(begun)
            .map(|(sequence, (overlapped, what))| Intent {
                sequence,
                overlapped,
                what,
                settled: false,
                journal: JournalRef(self.clone()),
            })
            .collect();
        let (done, durable) = oneshot::channel();
        self.send(Command::Append { rows, done: Some(done) }).await;
        (handles, Durable(durable))
    }

    /// Says what a request did. `facts` is what main answered; `body` what was kept of the body.
    pub async fn settle(
        &self,
        mut intent: Intent,
        outcome: Outcome,
        facts: impl Into<Arc<Facts>>,
        body: Option<TeedBody>,
    ) {
        intent.settled = true;
        if outcome == Outcome::NoEffect {
            land(&mut lock(&self.shared.flights), &intent.what.object);
            self.send(Command::Close { sequence: intent.sequence }).await;
            return;
        }
        let unknown = outcome == Outcome::Unknown;
        self.settle_changed(Landing::new(&intent, unknown, facts.into()), body).await;
    }

    /// Hands an entry on. It reaches the lanes before its write counts as over, so that a later
    /// write of the key either overlapped it, and then main is asked, or comes behind it.
    pub(super) async fn settle_changed(&self, landing: Landing, body: Option<TeedBody>) {
        let Landing { mut entry, overlapped } = landing;
        let (sequence, unknown) = (entry.sequence, entry.unknown);
        if unknown {
            for after in RECHECK_AFTER_MS {
                let due_ms = now_ms() + after;
                self.send(Command::Recheck { object: entry.object.clone(), due_ms }).await;
            }
        }
        if entry.deletes_surely()
            && let Some(watcher) = self.shared.on_delete.get()
        {
            watcher(&entry.object);
        }
        self.record_event(&entry).await;
        self.send(Command::Settle { sequence, unknown, facts: entry.facts.clone() }).await;
        let (row_offered, work_offered) = {
            // Whoever takes off or lands waits until all of this is done.
            let mut flights = lock(&self.shared.flights);
            entry.overlapped = overlapped.load(Ordering::Relaxed);
            let has_row = self.has_row(&entry.object);
            let row_offered =
                has_row.then(|| lock(&self.shared.rows).offer_live(row(&entry, false)));
            land(&mut flights, &entry.object);
            let work_offered = self.offered(|lane| lane.offer_live(Work { entry, body }));
            (row_offered, work_offered)
        };
        if let Some(offered) = row_offered {
            self.row_offered(offered).await;
        }
        self.work_offered(work_offered).await;
    }

    /// Has each key told that main has surely deleted, as soon as it has: before any worker claims it.
    /// The watcher is called while a request waits, and for the first to be set only.
    pub fn watch_deletes(&self, watcher: impl Fn(&ObjectKey) + Send + Sync + 'static) {
        if self.shared.on_delete.set(Box::new(watcher)).is_err() {
            tracing::error!("deletes are watched already");
        }
    }

    /// Was the change accepted since the start of this process?
    pub fn is_of_this_run(&self, sequence: Sequence) -> bool {
        sequence >= self.shared.first
    }

    pub(super) fn take_off(&self, object: &ObjectKey) -> Arc<AtomicBool> {
        let mut flights = lock(&self.shared.flights);
        if let Some(flight) = flights.get_mut(object) {
            flight.count += 1;
            flight.overlapped.store(true, Ordering::Relaxed);
            return flight.overlapped.clone();
        }
        let overlapped = Arc::new(AtomicBool::new(false));
        flights.insert(object.clone(), Flight { count: 1, overlapped: overlapped.clone() });
        overlapped
    }

    /// Is a change of the key under way?
    pub(super) fn in_flight(&self, object: &ObjectKey) -> bool {
        lock(&self.shared.flights).contains_key(object)
    }

    /// Notes the size of an uploaded part, so that the mirror can use the same boundaries.
    pub async fn record_part(&self, upload_id: &str, number: u32, etag: &str, size: u64) {
        let (upload_id, etag) = (upload_id.to_owned(), etag.to_owned());
        self.send(Command::Part { upload_id, number, etag, size, at_ms: now_ms() }).await;
    }

    /// Parts recorded for an upload, as `(number, etag) -> size`.
    pub async fn recorded_parts(&self, upload_id: &str) -> PartSizes {
        self.flush().await;
        let mut reader = self.shared.reader.lock().await;
        let rows = store::parts(&mut reader, upload_id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read recorded parts; main will be asked");
            Vec::new()
        });
        rows.into_iter()
            .filter_map(|(number, etag, size)| {
                Some(((u32::try_from(number).ok()?, etag), u64::try_from(size).ok()?))
            })
            .collect()
    }

    /// Forgets the parts of an upload that has ended.
    pub async fn upload_ended(&self, upload_id: &str) {
        self.send(Command::UploadEnded { upload_id: upload_id.to_owned() }).await;
    }
}

/// A write that is over but for telling the lanes.
pub(super) struct Landing {
    entry: Entry,
    overlapped: Arc<AtomicBool>,
}

impl Landing {
    pub(super) fn new(intent: &Intent, unknown: bool, mut facts: Arc<Facts>) -> Self {
        if let Some(known) = &intent.what.facts {
            Arc::make_mut(&mut facts).add(known);
        }
        // Of two that overlapped the later one knows it from its beginning.
        if intent.overlapped.load(Ordering::Relaxed) {
            Arc::make_mut(&mut facts).contended = true;
        }
        let entry = Entry {
            sequence: intent.sequence,
            object: intent.what.object.clone(),
            change: intent.what.change,
            unknown,
            overlapped: true,
            since_ms: intent.what.accepted_ms,
            request_id: intent.what.request_id.clone(),
            facts,
            attempts: 0,
            ripe: false,
        };
        Self { entry, overlapped: intent.overlapped.clone() }
    }
}

fn land(flights: &mut foldhash::HashMap<ObjectKey, Flight>, object: &ObjectKey) {
    if let Some(Flight { count, overlapped }) = flights.remove(object)
        && count > 1
    {
        flights.insert(object.clone(), Flight { count: count - 1, overlapped });
    }
}

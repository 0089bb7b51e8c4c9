//! The inventory's side of the journal: claiming rows and settling them.

use std::sync::atomic::Ordering;

use super::entry::{ObjectKey, Sequence};
use super::lane::Offered;
use super::writer::Command;
use super::{Journal, RowWork, lock};

impl Journal {
    /// Takes up to `max` rows to write; waits until there is one. Each is handed in again by
    /// [`Journal::row_written`], [`Journal::row_parked`] or [`Journal::rows_back`].
    pub async fn claim_rows(&self, max: usize) -> Vec<RowWork> {
        loop {
            let ready = self.shared.rows_ready.notified();
            let rows = self.try_claim_rows(max);
            if !rows.is_empty() {
                return rows;
            }
            ready.await;
        }
    }

    /// Takes up to `max` rows that are there now.
    pub fn try_claim_rows(&self, max: usize) -> Vec<RowWork> {
        let mut lane = lock(&self.shared.rows);
        std::iter::from_fn(|| lane.claim()).take(max).collect()
    }

    /// The inventory holds this row.
    pub async fn row_written(&self, row: &RowWork) {
        self.recheck_if_landing_late(&row.object).await;
        let level = if row.mirrored { 2 } else { 1 };
        let (sequence, reasoned) = (row.sequence, row.error.is_some());
        self.send(Command::Written { sequence, level, error: None, reasoned }).await;
        // What tells of the mirrored state stands for the first row of its own entry too.
        let before = if row.mirrored { row.sequence + 1 } else { row.sequence };
        self.relieve_rows(row, before).await;
        self.release_row(&row.object);
    }

    /// The inventory can never hold this row.
    pub async fn row_parked(&self, row: &RowWork, error: String) {
        self.send(Command::Written {
            sequence: row.sequence,
            level: 3,
            error: Some(error),
            reasoned: false,
        })
        .await;
        self.shared.rows_parked.store(true, Ordering::Relaxed);
        self.relieve_rows(row, row.sequence).await;
        self.release_row(&row.object);
    }

    /// Parked rows of the key from before `sequence` are settled with this one. Nothing is looked for where
    /// no row has ever been parked, which is nearly everywhere.
    async fn relieve_rows(&self, row: &RowWork, sequence: Sequence) {
        if self.shared.rows_parked.load(Ordering::Relaxed) {
            let object = row.object.clone();
            self.send(Command::RowRelieved { sequence, object }).await;
        }
    }

    /// The inventory is away: the rows wait.
    pub async fn rows_back(&self, rows: Vec<RowWork>) {
        for row in rows {
            let offered = lock(&self.shared.rows).put_back(row);
            self.row_offered(offered).await;
        }
    }

    /// Does a change of the key wait for the mirror, so that its row will be written anew?
    pub fn waits(&self, object: &ObjectKey) -> bool {
        lock(&self.shared.mirror).waiting(object).is_some()
    }

    pub(super) fn release_row(&self, object: &ObjectKey) {
        if lock(&self.shared.rows).release(object) {
            self.shared.rows_ready.notify_one();
        }
    }

    /// Is there a row to write for it?
    pub(super) fn has_row(&self, object: &ObjectKey) -> bool {
        self.shared.inventory && !object.is_bucket()
    }

    pub(super) async fn offer_row(&self, row: RowWork) {
        if !self.has_row(&row.object) {
            return;
        }
        let offered = lock(&self.shared.rows).offer_live(row);
        self.row_offered(offered).await;
    }

    pub(super) async fn row_offered(&self, offered: Offered<RowWork>) {
        match offered {
            Offered::Ready => self.shared.rows_ready.notify_one(),
            Offered::Supersedes(old) | Offered::SupersededBy(old) => {
                // The newer row tells more recent news of the same key.
                let sequence = old.sequence;
                self.send(Command::Written { sequence, level: 2, error: None, reasoned: false })
                    .await;
                self.shared.rows_ready.notify_one();
            }
            Offered::Known | Offered::Full => {}
        }
    }
}

//! One batch of an import: asked about, if that is wanted, and written.

use futures_util::stream::{self, StreamExt as _};

use super::rows::asked;
use super::{Event, Run};
use crate::inventory::import::AsOf;
use crate::inventory::row::Row;
use crate::reconcile::patience::{PAUSE, TRIES_MAX, tried};
use crate::upstream::read::{ReadError, Reader};

/// Questions to main at a time.
const AT_ONCE: usize = 16;

impl<T: FnMut(Event<'_>)> Run<'_, T> {
    /// Writes one batch.
    pub(super) async fn take(
        &mut self,
        bucket: &str,
        rows: Vec<Row>,
        as_of: AsOf,
    ) -> Result<(), String> {
        let count = u64::try_from(rows.len()).unwrap_or(0);
        self.keys.take(count).await;
        self.done.scanned += count;
        let mut rows = if self.import.plan.head { self.ask(bucket, rows).await } else { rows };
        let (mut tries, mut pause) = (0, PAUSE);
        while !rows.is_empty() {
            let reason = match self.import.store.import(&rows, as_of).await {
                Ok(taken) => {
                    self.done.added += taken.added;
                    self.done.updated += taken.updated;
                    let mut again = Vec::new();
                    let mut reason = String::new();
                    for (at, fault) in taken.faults {
                        let Some(row) = rows.get(at) else { continue };
                        if fault.is_transient() {
                            fault.reason().clone_into(&mut reason);
                            again.push(row.clone());
                        } else {
                            self.failed(bucket, &row.key, fault.reason());
                        }
                    }
                    rows = again;
                    reason
                }
                Err(error) if error.is_transient() => error.to_string(),
                Err(error) => return Err(error.to_string()),
            };
            if rows.is_empty() {
                break;
            }
            tries += 1;
            if tries == TRIES_MAX {
                return Err(reason);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    /// What main tells of each key beyond its listing. A key that is gone meanwhile has no row: a
    /// proxy it went through has written one, and an import does not report deletions.
    async fn ask(&mut self, bucket: &str, rows: Vec<Row>) -> Vec<Row> {
        let main = &*self.import.main;
        let answers: Vec<(Row, Result<Option<Row>, ReadError>)> = stream::iter(rows)
            .map(|row| async move {
                let key = Some(row.key.as_str());
                let reader = Reader { upstream: main, who: "main", bucket, key, version: None };
                let state = tried(|| reader.head_surely(), |error| !error.is_permanent()).await;
                let told = state.map(|state| state.map(|state| asked(row.clone(), state)));
                (row, told)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut told = Vec::with_capacity(answers.len());
        for (row, answer) in answers {
            match answer {
                Ok(Some(row)) => told.push(row),
                Ok(None) => {}
                Err(error) => self.failed(bucket, &row.key, &error.to_string()),
            }
        }
        told
    }
}

//! The inventory: one SQL table per bucket that says what main holds, exact within seconds.
//!
//! # Promises
//! - A row tells main's true size, media type and time. What a write's answer does not tell is
//!   asked of main.
//! - `is_backed_up` turns true only after the mirror has confirmed the state the row tells.
//! - **P5** A database that is away delays rows and nothing else: they wait in the journal.
//! - **P6** One batch of at most [`BATCH`] rows is in hand.
//!
//! # Crash
//! Rows are written at least once; writing one again changes nothing.

pub mod postgres;
pub mod row;
pub mod schema;
pub mod sqlite;
pub mod store;
pub mod table;
mod write;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use time::OffsetDateTime;

use crate::journal::{Journal, RowWork};
use crate::metrics::Metrics;
use crate::s3::operation::Change;
use crate::upstream::Upstream;
use crate::upstream::read::{ReadError, Reader};
use row::{Row, RowFault, RowState};
use store::{Store, StoreError};

/// Rows per batch.
const BATCH: usize = 1000;
/// How long a batch that is not full waits for more rows.
const LINGER: Duration = Duration::from_millis(50);
/// Questions to main at a time.
const QUESTIONS: usize = 16;
/// First and longest pause while the database or main is away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The writer of rows.
pub struct Inventory {
    journal: Journal,
    metrics: Metrics,
    main: Arc<Upstream>,
    store: Store,
}

/// What a round achieved.
enum Round {
    Written,
    /// Something is away; try again after a pause.
    Waiting,
}

impl Inventory {
    /// Puts the writer together.
    pub fn new(journal: Journal, metrics: Metrics, main: Arc<Upstream>, store: Store) -> Self {
        Self { journal, metrics, main, store }
    }

    /// Writes rows until it is dropped.
    pub async fn work(self) {
        let mut pause = PAUSE.0;
        loop {
            match self.round().await {
                Round::Written => pause = PAUSE.0,
                Round::Waiting => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn round(&self) -> Round {
        let mut works = self.journal.claim_rows(BATCH).await;
        if works.len() < BATCH {
            tokio::time::sleep(LINGER).await;
            works.extend(self.journal.try_claim_rows(BATCH - works.len()));
        }
        let mut batch: Vec<(RowWork, Row)> = Vec::with_capacity(works.len());
        let mut unanswered = Vec::new();
        let mut answers = futures_util::stream::iter(works)
            .map(|work| async move { (self.state(&work).await, work) })
            .buffer_unordered(QUESTIONS);
        while let Some((state, work)) = answers.next().await {
            match state {
                Ok(state) => {
                    let row = Row {
                        bucket: work.object.bucket.to_string(),
                        key: work.object.key.to_string(),
                        state,
                        mirrored: work.mirrored,
                        last_error: None,
                    };
                    batch.push((work, row));
                }
                Err(error) => {
                    tracing::warn!(
                        bucket = &*work.object.bucket,
                        key = &*work.object.key,
                        %error,
                        "main does not tell what the inventory should write; trying again"
                    );
                    unanswered.push(work);
                }
            }
        }
        drop(answers);
        let waiting = !unanswered.is_empty();
        self.journal.rows_back(unanswered).await;
        let (works, rows): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        if rows.is_empty() {
            return Round::Waiting;
        }
        match self.store.write(&rows).await {
            Ok(faults) => {
                let held_up = self.settle(works, faults).await;
                if waiting || held_up { Round::Waiting } else { Round::Written }
            }
            Err(error) => {
                self.metrics.db_errors.inc();
                match &error {
                    StoreError::Unavailable(_) => {
                        tracing::warn!(%error, rows = rows.len(), "rows wait");
                    }
                    StoreError::Rejected(_) => {
                        tracing::error!(%error, rows = rows.len(), "rows wait");
                    }
                }
                self.journal.rows_back(works).await;
                Round::Waiting
            }
        }
    }

    /// Settles a written batch; true when some rows have to wait.
    async fn settle(&self, works: Vec<RowWork>, faults: Vec<(usize, RowFault)>) -> bool {
        let mut faults: std::collections::HashMap<usize, RowFault> = faults.into_iter().collect();
        let mut back = Vec::new();
        for (at, work) in works.into_iter().enumerate() {
            match faults.remove(&at) {
                None => self.journal.row_written(&work).await,
                Some(RowFault::Unstorable { reason }) => {
                    self.metrics.db_errors.inc();
                    tracing::error!(
                        bucket = &*work.object.bucket,
                        key = &*work.object.key,
                        error = reason,
                        "the inventory cannot hold this key; its row is parked"
                    );
                    self.journal.row_parked(&work, reason).await;
                }
                Some(RowFault::TableUnavailable { reason }) => {
                    self.metrics.db_errors.inc();
                    tracing::warn!(bucket = &*work.object.bucket, error = reason, "rows wait");
                    back.push(work);
                }
            }
        }
        let held_up = !back.is_empty();
        self.journal.rows_back(back).await;
        held_up
    }

    /// What the row should tell: from the facts when they are complete, else from main.
    async fn state(&self, work: &RowWork) -> Result<RowState, ReadError> {
        let facts = &work.facts;
        let told =
            !work.unknown && (work.mirrored || matches!(work.change, Change::Put | Change::Delete));
        if told && facts.absent {
            return Ok(RowState::Absent);
        }
        let time = facts.last_modified.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        if told
            && let (Some(size), Some(content_type), Some(last_modified)) =
                (facts.size, &facts.content_type, time)
        {
            return Ok(RowState::Present {
                size,
                content_type: content_type.clone(),
                last_modified,
                etag: facts.etag.clone(),
                version_id: facts.version_id.clone(),
            });
        }
        let (bucket, key) = (&*work.object.bucket, &*work.object.key);
        let main = Reader { upstream: &self.main, who: "main", bucket, key };
        Ok(main.head().await?.map_or(RowState::Absent, |state| RowState::Present {
            size: state.size,
            content_type: state.content_type().to_owned(),
            last_modified: state.last_modified.unwrap_or_else(OffsetDateTime::now_utc),
            etag: Some(state.etag),
            version_id: state.version_id,
        }))
    }
}

//! The inventory: one SQL table per bucket that says what main holds, exact within seconds.
//!
//! # Promises
//! - A row tells main's true size, media type and time. What a write's answer does not tell is
//!   asked of main.
//! - `is_backed_up` turns true only after the mirror has confirmed the state the row tells.
//! - With `INVENTORY_EXACT_TIME` its time is `Last-Modified`, from the first row on; else that of
//!   a plain upload is main's `Date` until the copy has been checked.
//! - **P5** A database that is away delays rows and nothing else: they wait in the journal.
//! - **P6** One batch of at most 1000 rows is in hand.
//!
//! - Several proxies may write one database: `fence` tells why the rows end up true.
//!
//! # Crash
//! Rows are written at least once; writing one again changes nothing.

pub mod browse;
pub mod export;
mod fence;
pub mod import;
pub mod postgres;
pub mod read;
pub mod retention;
pub mod row;
pub mod schema;
pub mod sqlite;
pub mod store;
pub mod table;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::journal::{Journal, RowWork, Trust, now_ms};
use crate::metrics::Metrics;
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::s3::versions::NULL_VERSION;
use crate::upstream::Upstream;
use crate::upstream::read::{ReadError, Reader};
use fence::Verdict;
use row::{Row, RowFault, RowState};
use store::{Store, StoreError, Written};

/// Rows per batch.
const BATCH: usize = 1000;
/// How long a batch that is not full waits for more rows.
const LINGER: Duration = Duration::from_millis(50);
/// Questions to main at a time.
const QUESTIONS: usize = 16;
/// Rows put aside for a reason of their own; the rest wait in the journal.
const WAITING_MAX: usize = 1000;
/// How long such a row is put aside.
const ASIDE: Duration = Duration::from_secs(2);
/// First and longest pause while the database or main is away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The writer of rows.
pub struct Inventory {
    journal: Journal,
    metrics: Metrics,
    main: Arc<Upstream>,
    store: Arc<Store>,
    writer: i64,
    exact: ExactTime,
}

/// For which rows of plain uploads main is asked for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExactTime {
    /// Those that say that main has accepted it.
    pub accepted: bool,
    /// Those that say that the mirror has it. A copy that was checked against main afterwards has
    /// brought the time along.
    pub mirrored: bool,
}

/// Rows that wait for their own reason, each with the time of its next try.
#[derive(Default)]
struct Waiting(Vec<(Instant, RowWork)>);

impl Waiting {
    /// Takes out what is due.
    fn due(&mut self, now: Instant) -> Vec<RowWork> {
        let (due, later) = std::mem::take(&mut self.0).into_iter().partition(|(at, _)| *at <= now);
        self.0 = later;
        let due: Vec<(Instant, RowWork)> = due;
        due.into_iter().map(|(_, row)| row).collect()
    }

    /// When to look again.
    fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }
}

impl Inventory {
    /// Puts the writer together. It writes in the name of this journal, whose number is made when
    /// it is first asked for.
    pub async fn new(
        journal: Journal,
        metrics: Metrics,
        main: Arc<Upstream>,
        store: Arc<Store>,
        exact: ExactTime,
    ) -> Self {
        let writer = fence::writer(&journal).await;
        Self { journal, metrics, main, store, writer, exact }
    }

    /// Writes rows until it is dropped.
    pub async fn work(self) {
        let mut waiting = Waiting::default();
        let mut pause = PAUSE.0;
        loop {
            let works = self.claim(&mut waiting).await;
            if self.round(works, &mut waiting).await {
                pause = PAUSE.0;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// The next batch: new rows, and those whose time has come.
    async fn claim(&self, waiting: &mut Waiting) -> Vec<RowWork> {
        loop {
            let mut works = waiting.due(Instant::now());
            if works.is_empty() {
                let next = waiting.next().unwrap_or_else(|| Instant::now() + PAUSE.1);
                match tokio::time::timeout_at(next, self.journal.claim_rows(BATCH)).await {
                    Ok(claimed) => works = claimed,
                    Err(_) => continue,
                }
            }
            if works.len() < BATCH {
                tokio::time::sleep(LINGER).await;
            }
            works.extend(self.journal.try_claim_rows(BATCH.saturating_sub(works.len())));
            return works;
        }
    }

    /// Writes a batch; false when the database is away.
    async fn round(&self, works: Vec<RowWork>, waiting: &mut Waiting) -> bool {
        let mut batch: Vec<(RowWork, Row)> = Vec::with_capacity(works.len());
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
                        mirrored: work.mirrored && !work.facts.kept_on_mirror,
                        unsure: work.second_look && !work.mirrored && work.error.is_none(),
                        last_error: work.error.clone(),
                    };
                    batch.push((work, row));
                }
                Err(error) if error.is_permanent() => self.park(&work, error.to_string()).await,
                Err(error) => self.wait(waiting, work, &error.to_string()).await,
            }
        }
        drop(answers);
        let (works, rows): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        if rows.is_empty() {
            return true;
        }
        match self.store.write_as(self.writer, &rows).await {
            Ok(written) => {
                self.settle(works, rows, written, waiting).await;
                true
            }
            Err(error) => {
                self.metrics.db_errors.inc();
                match &error {
                    StoreError::Unavailable(_) => {
                        tracing::warn!(%error, rows = rows.len(), "rows wait");
                    }
                    StoreError::Unanswered(_) => {
                        tracing::warn!(%error, rows = rows.len(), "rows wait");
                        self.look_later(works.iter()).await;
                    }
                    StoreError::Rejected(_) => {
                        tracing::error!(%error, rows = rows.len(), "rows wait");
                    }
                }
                self.journal.rows_back(works).await;
                false
            }
        }
    }

    /// Settles a written batch.
    async fn settle(
        &self,
        works: Vec<RowWork>,
        rows: Vec<Row>,
        written: Written,
        waiting: &mut Waiting,
    ) {
        self.look_later(written.late.iter().filter_map(|at| works.get(*at))).await;
        let contested: HashSet<usize> = written.contested.into_iter().collect();
        let mut faults: HashMap<usize, RowFault> = written.faults.into_iter().collect();
        let mut doubtful = Vec::new();
        for (at, (work, row)) in works.into_iter().zip(rows).enumerate() {
            match faults.remove(&at) {
                None if contested.contains(&at) || work.trust == Trust::Doubtful => {
                    doubtful.push((work, row));
                }
                None => self.journal.row_written(&work).await,
                Some(RowFault::Unstorable { reason }) => self.park(&work, reason).await,
                Some(RowFault::TableUnavailable { reason }) => {
                    self.metrics.db_errors.inc();
                    self.wait(waiting, work, &reason).await;
                }
            }
        }
        self.make_sure(doubtful, waiting).await;
    }

    /// Asks main about contested and doubtful rows that were just written; see `fence`.
    async fn make_sure(&self, rows: Vec<(RowWork, Row)>, waiting: &mut Waiting) {
        let mut answers = futures_util::stream::iter(rows)
            .map(|(work, row)| async move { (self.ask(&work, Some(&row.state)).await, work, row) })
            .buffer_unordered(QUESTIONS);
        while let Some((now, mut work, row)) = answers.next().await {
            let verdict = match now {
                Ok(now) => fence::judge(&row.state, work.mirrored, &now),
                // Main does not tell, and never will: the row is the best that is known.
                Err(error) if error.is_permanent() => Verdict::True,
                Err(error) => {
                    self.wait(waiting, work, &error.to_string()).await;
                    continue;
                }
            };
            match verdict {
                Verdict::True => self.journal.row_written(&work).await,
                Verdict::Again => {
                    work.trust = Trust::Unknown;
                    self.journal.rows_back(vec![work]).await;
                }
                Verdict::Anew => {
                    if !self.journal.waits(&work.object) {
                        self.journal.look_again(work.object.clone()).await;
                    }
                    self.journal.row_written(&work).await;
                }
            }
        }
    }

    /// A statement about these keys may take effect later.
    async fn look_later(&self, works: impl Iterator<Item = &RowWork>) {
        for work in works {
            self.journal.recheck(work.object.clone(), fence::late_ms(now_ms())).await;
        }
    }

    async fn park(&self, work: &RowWork, reason: String) {
        self.metrics.db_errors.inc();
        tracing::error!(
            bucket = &*work.object.bucket,
            key = &*work.object.key,
            error = reason,
            "the inventory cannot hold this key; its row is parked"
        );
        self.journal.row_parked(work, reason).await;
    }

    /// Puts one row aside, so that it holds up no other.
    async fn wait(&self, waiting: &mut Waiting, work: RowWork, reason: &str) {
        tracing::warn!(
            bucket = &*work.object.bucket,
            key = &*work.object.key,
            error = reason,
            "a row of the inventory waits"
        );
        if waiting.0.len() < WAITING_MAX {
            waiting.0.push((Instant::now() + ASIDE, work));
        } else {
            // So many of them are an outage, not single keys: they wait in the journal.
            self.journal.rows_back(vec![work]).await;
            tokio::time::sleep(PAUSE.0).await;
        }
    }

    /// What the row should tell: from the facts when they are complete, else from main.
    async fn state(&self, work: &RowWork) -> Result<RowState, ReadError> {
        let facts = &work.facts;
        let told = work.trust != Trust::Unknown
            && (work.mirrored
                || matches!(work.change, Change::Put | Change::Delete | Change::Complete));
        if told && facts.absent {
            return Ok(RowState::Absent);
        }
        let time = facts.last_modified.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        if told
            && let (Some(size), Some(content_type), Some(last_modified)) =
                (facts.size, &facts.content_type, time)
        {
            let state = RowState::Present {
                size,
                content_type: content_type.clone(),
                last_modified,
                etag: facts.etag.clone(),
                version_id: facts.version_id.clone().filter(|id| id != NULL_VERSION),
            };
            let exact = if work.mirrored { self.exact.mirrored } else { self.exact.accepted };
            if exact && work.change == Change::Put {
                return match self.ask(work, Some(&state)).await {
                    Ok(now) => Ok(timed(state, now)),
                    // An object under a key that only its client has, for one: its own answer told
                    // all else.
                    Err(error) if error.is_permanent() => Ok(state),
                    Err(error) => Err(error),
                };
            }
            return Ok(state);
        }
        self.ask(work, None).await
    }

    /// What main says now. A time that main does not tell is that of `known`.
    async fn ask(&self, work: &RowWork, known: Option<&RowState>) -> Result<RowState, ReadError> {
        let (bucket, key) = (&*work.object.bucket, &*work.object.key);
        let main =
            Reader { upstream: &self.main, who: "main", bucket, key: Some(key), version: None };
        Ok(main.head_surely().await?.map_or(RowState::Absent, |state| observed(state, known)))
    }
}

/// What an upload's row tells, with the time that main has for it. If main has something else by
/// now, that has a row of its own to come, and this one keeps what its own answer told.
fn timed(told: RowState, now: RowState) -> RowState {
    let RowState::Present { size, content_type, etag, .. } = &told else { return told };
    match &now {
        RowState::Present { size: s, content_type: c, etag: e, .. }
            if (s, c, e) == (size, content_type, etag) =>
        {
            now
        }
        _ => told,
    }
}

fn observed(state: ObjectState, known: Option<&RowState>) -> RowState {
    let time = state.last_modified.or(match known {
        Some(RowState::Present { last_modified, .. }) => Some(*last_modified),
        _ => None,
    });
    RowState::Present {
        size: state.size,
        content_type: state.content_type().to_owned(),
        last_modified: time.unwrap_or_else(OffsetDateTime::now_utc),
        etag: Some(state.etag),
        version_id: state.version_id.filter(|id| id != NULL_VERSION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_s_time_counts_for_the_upload_that_the_row_tells_and_no_other() {
        let state = |etag: &str, kind: &str, second| RowState::Present {
            size: 1,
            content_type: kind.into(),
            last_modified: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            etag: Some(etag.into()),
            version_id: None,
        };
        let told = state("e", "text/plain", 100);
        let exact = state("e", "text/plain", 99);
        assert_eq!(timed(told.clone(), exact.clone()), exact);
        assert_eq!(timed(told.clone(), state("f", "text/plain", 101)), told);
        assert_eq!(timed(told.clone(), state("e", "text/html", 101)), told);
        assert_eq!(timed(told.clone(), RowState::Absent), told);
    }
}

//! The inventory: one SQL table per bucket that says what main holds, exact within seconds.
//!
//! # Promises
//! - A row tells main's true size, media type and time. What a write's answer does not tell is
//!   asked of main.
//! - `is_backed_up` turns true only after the mirror has confirmed the state the row tells.
//! - With `INVENTORY_EXACT_TIME` its time is `Last-Modified`, from the first row on; else that of
//!   a plain upload is main's `Date` until the copy has been checked.
//! - **P5** A database that is away delays rows and nothing else: they wait in the journal.
//! - A table that takes no rows, or a bucket of which main tells nothing, holds up no other: its rows are
//!   left to the disk and tried again after a pause that grows to ten seconds.
//! - **P6** One batch of at most 1000 rows is in hand, and as many are put aside.
//!
//! - Several proxies may write one database: `fence` tells why the rows end up true.
//!
//! # Crash
//! Rows are written at least once; writing one again changes nothing.

pub mod browse;
pub mod export;
mod fence;
mod hands;
pub mod import;
pub mod postgres;
pub mod read;
pub mod retention;
pub mod row;
pub mod schema;
pub mod sqlite;
pub mod store;
pub mod table;
mod told;
pub mod trouble;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use tokio::time::Instant;

use crate::journal::{Journal, RowWork, Trust, now_ms};
use crate::metrics::Metrics;
use crate::upstream::Upstream;
use fence::Verdict;
use hands::{Hands, Troubles};
use row::{Row, RowFault, RowState};
use store::{Store, StoreError, Written};
use told::Known;
use trouble::Trouble;

/// Rows per batch.
const BATCH: usize = 1000;
/// How long a batch that is not full waits for more rows.
const LINGER: Duration = Duration::from_millis(50);
/// Questions to main at a time.
const QUESTIONS: usize = 16;
/// How long questions are begun for one batch.
const ASKING: Duration = Duration::from_secs(5);
/// So many questions about a bucket without any answer: the next ones are not asked now.
const DEAF: usize = 8;
/// How long a row is put aside for a reason of its own.
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
    trouble: Trouble,
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
        let trouble = Trouble::default();
        Self { journal, metrics, main, store, writer, exact, trouble }
    }

    /// What keeps it from writing.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Writes rows until it is dropped.
    pub async fn work(self) {
        let mut hands = Hands::new(self.trouble());
        let mut pause = PAUSE.0;
        loop {
            let works = self.claim(&mut hands).await;
            if self.round(works, &mut hands).await {
                pause = PAUSE.0;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// The next batch: new rows, and those whose time has come.
    async fn claim(&self, hands: &mut Hands) -> Vec<RowWork> {
        loop {
            // What has failed before must not take the places of what is new.
            let mut works = hands.due(Instant::now(), BATCH / 2);
            if works.is_empty() {
                let next = hands.next().unwrap_or_else(|| Instant::now() + PAUSE.1);
                match tokio::time::timeout_at(next, self.journal.claim_rows(BATCH)).await {
                    Ok(claimed) => works = claimed,
                    Err(_) => continue,
                }
            }
            if works.len() < BATCH {
                tokio::time::sleep(LINGER).await;
            }
            works.extend(self.journal.try_claim_rows(BATCH.saturating_sub(works.len())));
            let works = self.journal.without_resting(works).await;
            if !works.is_empty() {
                return works;
            }
        }
    }

    /// Writes a batch, first what needs no question; false when the database is away.
    async fn round(&self, works: Vec<RowWork>, hands: &mut Hands) -> bool {
        let (mut told, mut open) = (Vec::with_capacity(works.len()), Vec::new());
        for work in works {
            match self.known(&work) {
                Known::All(state) => told.push((work, state)),
                known => open.push((work, known)),
            }
        }
        if !self.write(told, hands).await {
            self.journal.rows_back(open.into_iter().map(|(work, _)| work).collect()).await;
            return false;
        }
        let answered = self.ask_main(open, hands).await;
        self.write(answered, hands).await
    }

    /// Asks main what rows should tell. Those of which it does not say wait.
    async fn ask_main(
        &self,
        open: Vec<(RowWork, Known)>,
        hands: &mut Hands,
    ) -> Vec<(RowWork, RowState)> {
        let deadline = Instant::now() + ASKING;
        let mut answers = futures_util::stream::iter(open)
            .map(|(work, known)| async move {
                if Instant::now() > deadline {
                    return (work, Err(None));
                }
                let state = self.complete(&work, &known).await;
                (work, state.map_err(Some))
            })
            .buffer_unordered(QUESTIONS);
        let (mut answered, mut troubles) = (Vec::new(), Troubles::default());
        while let Some((work, state)) = answers.next().await {
            match state {
                Ok(state) => answered.push((work, state)),
                Err(Some(error)) if error.is_permanent() => {
                    self.park(&work, error.to_string()).await;
                }
                Err(error) => {
                    let reason = error.map(|error| error.to_string());
                    troubles.add(work, reason.unwrap_or_else(|| "main answers slowly".into()));
                }
            }
        }
        drop(answers);
        let heard: HashSet<Arc<str>> =
            answered.iter().map(|(work, _)| work.object.bucket.clone()).collect();
        for (bucket, rows, reason) in troubles.by_bucket() {
            let is_deaf = rows.len() >= DEAF && !heard.contains(&bucket);
            self.put_aside(&bucket, rows, &reason, is_deaf, hands).await;
        }
        answered
    }

    /// Writes rows; false when the database is away.
    async fn write(&self, batch: Vec<(RowWork, RowState)>, hands: &mut Hands) -> bool {
        let (works, rows): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|(work, state)| {
                let row = Row {
                    bucket: work.object.bucket.to_string(),
                    key: work.object.key.to_string(),
                    state,
                    mirrored: work.mirrored && !work.facts.kept_on_mirror,
                    unsure: work.second_look && !work.mirrored && work.error.is_none(),
                    last_error: work.error.clone(),
                };
                (work, row)
            })
            .unzip();
        if rows.is_empty() {
            return true;
        }
        match self.store.write_as(self.writer, &rows).await {
            Ok(written) => {
                self.trouble.database(None);
                self.settle(works, rows, written, hands).await;
                true
            }
            Err(error) => {
                self.metrics.db_errors.inc();
                self.trouble.database(Some(error.to_string()));
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
        hands: &mut Hands,
    ) {
        self.look_later(written.late.iter().filter_map(|at| works.get(*at))).await;
        let contested: HashSet<usize> = written.contested.into_iter().collect();
        let mut faults: HashMap<usize, RowFault> = written.faults.into_iter().collect();
        let (mut doubtful, mut troubles) = (Vec::new(), Troubles::default());
        for (at, (work, row)) in works.into_iter().zip(rows).enumerate() {
            match faults.remove(&at) {
                None => {
                    hands.well(&work.object.bucket);
                    if contested.contains(&at) || work.trust == Trust::Doubtful {
                        doubtful.push((work, row));
                    } else {
                        self.journal.row_written(&work).await;
                    }
                }
                Some(RowFault::Unstorable { reason }) => self.park(&work, reason).await,
                Some(RowFault::TableUnavailable { reason }) => {
                    self.metrics.db_errors.inc();
                    troubles.add(work, reason);
                }
            }
        }
        // A table that takes no row takes no other either.
        for (bucket, rows, reason) in troubles.by_bucket() {
            self.put_aside(&bucket, rows, &reason, true, hands).await;
        }
        self.make_sure(doubtful, hands).await;
    }

    /// Asks main about contested and doubtful rows that were just written; see `fence`.
    async fn make_sure(&self, rows: Vec<(RowWork, Row)>, hands: &mut Hands) {
        let mut troubles = Troubles::default();
        let mut answers = futures_util::stream::iter(rows)
            .map(|(work, row)| async move { (self.ask(&work, Some(&row.state)).await, work, row) })
            .buffer_unordered(QUESTIONS);
        while let Some((now, mut work, row)) = answers.next().await {
            let verdict = match now {
                Ok(now) => fence::judge(&row.state, work.mirrored, &now),
                // Main does not tell, and never will: the row is the best that is known.
                Err(error) if error.is_permanent() => Verdict::True,
                Err(error) => {
                    troubles.add(work, error.to_string());
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
        drop(answers);
        for (bucket, rows, reason) in troubles.by_bucket() {
            self.put_aside(&bucket, rows, &reason, false, hands).await;
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

    /// Puts rows of a bucket aside, so that they hold up no other: themselves, or with all others of
    /// their bucket.
    async fn put_aside(
        &self,
        bucket: &str,
        rows: Vec<RowWork>,
        reason: &str,
        all: bool,
        hands: &mut Hands,
    ) {
        let count = rows.len();
        let left = if all { rows } else { hands.keep(rows, Instant::now() + ASIDE) };
        let pause = if left.is_empty() { ASIDE } else { hands.unwell(bucket, reason) };
        tracing::warn!(
            bucket,
            rows = count,
            error = reason,
            retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "rows of a bucket wait"
        );
        if !left.is_empty() {
            self.journal.rows_rest(bucket, left, pause).await;
        }
    }
}

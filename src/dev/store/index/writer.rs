//! The one writer of the index: changes queue up, and whatever waits is one transaction.
//!
//! A change either refuses before it has written anything, or writes; so one transaction can hold
//! many changes without savepoints. If the database itself fails, the whole batch is rolled back
//! and everyone in it is told so; nobody is ever told of success before the commit.

use std::collections::VecDeque;

use futures_util::future::BoxFuture;
use s3s::S3Error;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::super::fault::{Answer, internal};
use super::super::files::{BodyFiles, FileId, FreshFile};

/// Changes that may wait. A full queue makes requests wait, nothing is dropped.
const QUEUE_CHANGES: usize = 1024;

/// Changes in one transaction.
const BATCH_CHANGES_MAX: usize = 256;

/// Something that happens to the index as a whole or not at all.
pub(in super::super) trait Change: Send + 'static {
    type Outcome: Send + 'static;

    /// Reads, decides, writes, in this order: after the first write it must not refuse.
    fn apply(self, tx: &mut Tx) -> impl Future<Output = Result<Self::Outcome, Abort>> + Send;
}

/// Why a change did not happen.
pub(in super::super) enum Abort {
    /// It must not: the client gets this error.
    Refused(S3Error),
    /// The database failed.
    Database(sqlx::Error),
}

/// The transaction that changes are applied to.
#[derive(Debug)]
pub(in super::super) struct Tx {
    pub(super) db: SqliteConnection,
    dead: Vec<FileId>,
    fresh: Vec<FreshFile>,
}

/// The submitting end. The writer ends when the last clone is gone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl From<S3Error> for Abort {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Abort {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl Tx {
    /// The row naming this file is gone; after the commit the file goes too.
    pub(super) fn bury(&mut self, file: FileId) {
        self.dead.push(file);
    }

    /// A row now names this file; after the commit it stays.
    pub(super) fn keep(&mut self, file: FreshFile) {
        self.fresh.push(file);
    }
}

impl Writer {
    pub(super) async fn start(
        options: SqliteConnectOptions,
        files: BodyFiles,
    ) -> Result<Self, sqlx::Error> {
        let db = options.connect().await?;
        let (queue, jobs) = mpsc::channel(QUEUE_CHANGES);
        let tx = Tx { db, dead: Vec::new(), fresh: Vec::new() };
        tokio::spawn(run(tx, files, jobs));
        Ok(Self { queue })
    }

    pub(super) async fn submit<C: Change>(&self, change: C) -> Answer<C::Outcome> {
        let (reply, outcome) = oneshot::channel();
        let gone = |_| internal("changing the index", "the writer could not commit");
        let job = Box::new(Submission { change, reply });
        self.queue.send(job).await.map_err(|_| internal("changing the index", "no writer"))?;
        outcome.await.map_err(gone)?
    }
}

/// What is left to do for one change after the commit. Dropped instead, the submitter learns that
/// it failed.
type Delivery = Box<dyn FnOnce() + Send>;

trait Job: Send {
    fn run(self: Box<Self>, tx: &mut Tx) -> BoxFuture<'_, Result<Delivery, sqlx::Error>>;
}

struct Submission<C: Change> {
    change: C,
    reply: oneshot::Sender<Answer<C::Outcome>>,
}

impl<C: Change> Job for Submission<C> {
    fn run(self: Box<Self>, tx: &mut Tx) -> BoxFuture<'_, Result<Delivery, sqlx::Error>> {
        Box::pin(async move {
            let Self { change, reply } = *self;
            let answer = match change.apply(tx).await {
                Ok(outcome) => Ok(outcome),
                Err(Abort::Refused(error)) => Err(error),
                Err(Abort::Database(error)) => return Err(error),
            };
            // A submitter that has gone away does not undo its change.
            let delivery: Delivery = Box::new(move || drop(reply.send(answer)));
            Ok(delivery)
        })
    }
}

async fn run(mut tx: Tx, files: BodyFiles, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut batch = VecDeque::new();
    while let Some(job) = jobs.recv().await {
        batch.push_back(job);
        while batch.len() < BATCH_CHANGES_MAX
            && let Ok(job) = jobs.try_recv()
        {
            batch.push_back(job);
        }
        // After a failure the changes behind the failed one are tried in a transaction of their own.
        while !batch.is_empty() {
            if let Err(error) = commit(&mut tx, &mut batch, &files).await {
                tracing::error!(%error, "the embedded store could not commit");
            }
        }
    }
}

/// Takes changes off the batch and commits them. On an error those taken are undone.
async fn commit(
    tx: &mut Tx,
    batch: &mut VecDeque<Box<dyn Job>>,
    files: &BodyFiles,
) -> Result<(), sqlx::Error> {
    tx.dead.clear();
    tx.fresh.clear();
    if let Err(error) = execute(tx, "BEGIN IMMEDIATE").await {
        batch.pop_front();
        return Err(error);
    }
    let mut deliveries = Vec::with_capacity(batch.len());
    while let Some(job) = batch.pop_front() {
        match job.run(tx).await {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => {
                tx.fresh.clear();
                execute(tx, "ROLLBACK").await?;
                return Err(error);
            }
        }
    }
    if let Err(error) = execute(tx, "COMMIT").await {
        tx.fresh.clear();
        execute(tx, "ROLLBACK").await?;
        return Err(error);
    }
    tx.fresh.drain(..).for_each(FreshFile::keep);
    if !tx.dead.is_empty() {
        let (dead, files) = (std::mem::take(&mut tx.dead), files.clone());
        drop(tokio::task::spawn_blocking(move || files.bury(dead)));
    }
    for deliver in deliveries {
        deliver();
    }
    Ok(())
}

async fn execute(tx: &mut Tx, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(&mut tx.db).await.map(|_| ())
}

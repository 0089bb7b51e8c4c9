//! The inventory in `PostgreSQL`: a small pool, one prepared statement per table and batch.
//!
//! # Promises
//! - Making the store connects nothing; a server that is away is an error of each call, and no
//!   more.
//! - Every statement has a time limit on both sides. A connection that exceeds ours is thrown away.
//! - Trouble that a second try settles (a deadlock, a restarted server's dead connections, a table
//!   that a person dropped) is settled here; everything else goes to the caller with its reason.
//!
//! # Crash behaviour
//! A statement is its own transaction. After a crash its rows are there or not, and the caller, who
//! keeps them until [`Postgres`] has answered, writes them again.

mod batch;
mod browse;
mod connect;
mod count;
mod fault;
mod iam;
mod import;
mod read;
mod retention;
mod settings;
mod tables;
mod tls;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use tokio::time::{sleep, timeout};

use super::row::Row;
use super::store::StoreError;
use super::table::REHEARSED;
use super::write::{Applied, Backend, Failure, Purpose};
use batch::{Batch, Feed};
use connect::{Connector, Shared};
use fault::{Verdict, reason, verdict};
pub use settings::{
    CONNECT_TIMEOUT_DEFAULT, CONNECTIONS_MAX_DEFAULT, PasswordMinter, PasswordSource,
    PostgresSettings, STATEMENT_TIMEOUT_DEFAULT, SslMode,
};
use tables::TableFault;

/// Tries of one statement, the first included.
const TRIES_MAX: u32 = 4;
/// Pause before a try that follows a lost race, times a random part: the other side goes first.
const RACE_PAUSE_MAX: Duration = Duration::from_millis(50);
/// What our own clock grants beyond the server's statement timeout, for the way there and back.
const GRACE: Duration = Duration::from_secs(5);
/// Tables whose names are remembered. Beyond that all are forgotten and looked up again.
const TABLES_REMEMBERED_MAX: usize = 10_000;
/// Prepared statements kept per connection; each costs the server memory. Beyond that all go.
const STATEMENTS_PER_CONNECTION_MAX: usize = 200;

/// The `PostgreSQL` store; see the module's documentation.
pub struct Postgres {
    pool: Pool,
    connector: Arc<Connector>,
    schema: String,
    /// Channel of the change feed.
    notify: Option<String>,
    connections_max: usize,
    deadline: Duration,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Registry and views are known to stand.
    shared: bool,
    /// Bucket to its table's statements.
    statements: HashMap<String, Statements>,
}

/// The statements of one table.
#[derive(Clone)]
struct Statements {
    /// For changes.
    usual: Arc<str>,
    /// For changes, without the change feed.
    silent: Arc<str>,
    /// For imports.
    import: Arc<str>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy)]
struct Task<'a> {
    bucket: &'a str,
    batch: &'a Batch<'a>,
    purpose: Purpose,
    /// Without the change feed?
    silent: bool,
}

/// One try's failure.
struct Trouble {
    verdict: Verdict,
    reason: String,
    /// The server did not say what became of the statement.
    unanswered: bool,
}

impl Trouble {
    fn of(error: &tokio_postgres::Error) -> Self {
        let unanswered = error.as_db_error().is_none();
        Self { verdict: verdict(error), reason: reason(error), unanswered }
    }
}

impl Postgres {
    /// Prepares the pool.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the settings cannot work.
    pub(super) fn new(settings: PostgresSettings) -> Result<Self, StoreError> {
        let rejected = |reason: &str| Err(StoreError::Rejected(reason.to_owned()));
        if settings.schema.is_empty() || settings.schema.contains('\0') {
            return rejected("the schema's name is not valid");
        }
        if settings.connections_max == 0 {
            return rejected("the database pool must hold at least one connection");
        }
        let deadline = settings.statement_timeout + GRACE;
        let timeouts = Timeouts {
            // A connection comes free when the statement before has ended.
            wait: Some(deadline),
            // Twice: the database may have to be created over a second connection.
            create: Some(settings.connect_timeout * 2),
            recycle: Some(settings.connect_timeout),
        };
        let connections_max = settings.connections_max;
        let (schema, notify) = (settings.schema.clone(), settings.notify.clone());
        let wire = settings.wire();
        let connector = Arc::new(Connector::new(settings));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(wire, Shared(Arc::clone(&connector)), recycling);
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Rejected(error.to_string()))?;
        let memory = Mutex::default();
        Ok(Self { pool, connector, schema, notify, connections_max, deadline, memory })
    }

    /// See [`super::store::Store::ping`].
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let client = self.checkout().await?;
        let answer = timeout(self.deadline, client.simple_query("SELECT 1")).await;
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                discard(client);
                Err(StoreError::Unavailable(reason(&error)))
            }
            Err(_) => {
                discard(client);
                Err(StoreError::Unavailable("no answer in time".into()))
            }
        }
    }

    /// See [`super::store::Store::rehearse`].
    pub(super) async fn rehearse(&self) -> Result<(), StoreError> {
        let mut client = self.checkout().await?;
        let rehearsed = timeout(self.deadline, async {
            let transaction = client.transaction().await.map_err(|e| reason(&e))?;
            tables::ensure_shared(&transaction, &self.schema).await.map_err(|e| reason(&e))?;
            let made = tables::ensure_table(&transaction, &self.schema, REHEARSED).await;
            made.map_err(|fault| match fault {
                TableFault::Database(error) => reason(&error),
                TableFault::Refused(reason) => reason,
            })?;
            transaction.rollback().await.map_err(|e| reason(&e))
        });
        let rehearsed = rehearsed.await;
        // Whatever state it is in, it is not used again; the server rolls back.
        discard(client);
        match rehearsed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StoreError::Rejected(reason)),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        }
    }

    /// See [`super::store::Store::close`].
    pub(super) fn close(&self) {
        self.pool.close();
    }

    async fn checkout(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| {
            let mut text = match &error {
                PoolError::Backend(error) => reason(error),
                PoolError::Timeout(_) => "no connection in time".to_owned(),
                other => other.to_string(),
            };
            if let Some(fault) = self.connector.fault() {
                text = format!("{text}; {fault}");
            }
            StoreError::Unavailable(text)
        })
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try on one connection, within the deadline.
    async fn try_apply(&self, task: Task<'_>) -> Result<Applied, TryFailure> {
        let mut client = self.checkout().await.map_err(TryFailure::Store)?;
        let outcome = timeout(self.deadline, self.run(&mut client, task)).await;
        let trouble = match outcome {
            Ok(Ok(applied)) => return Ok(applied),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble {
                verdict: Verdict::Store,
                reason: "no answer in time".into(),
                unanswered: true,
            },
        };
        // What a connection has prepared is of the table as it was.
        if matches!(trouble.verdict, Verdict::Connection | Verdict::Store | Verdict::Repair) {
            discard(client);
        }
        Err(TryFailure::Trouble(trouble))
    }

    async fn run(&self, client: &mut Object, task: Task<'_>) -> Result<Applied, Trouble> {
        let statements = self.statements(client, task.bucket).await?;
        let sql = match task.purpose {
            Purpose::Import(_) => statements.import,
            Purpose::Change(_) if task.silent => statements.silent,
            Purpose::Change(_) => statements.usual,
        };
        if client.statement_cache.size() > STATEMENTS_PER_CONNECTION_MAX {
            client.statement_cache.clear();
        }
        let statement = client.prepare_cached(&sql).await.map_err(|e| Trouble::of(&e))?;
        let answer = match task.purpose {
            Purpose::Change(_) => client.query(&statement, &task.batch.parameters()).await,
            Purpose::Import(as_of) => {
                let (moment, only_if_newer) = (import::moment(&as_of), as_of.only_if_newer);
                let parameters = task.batch.import_parameters(&moment, &only_if_newer);
                client.query(&statement, &parameters).await
            }
        };
        let answer = answer.map_err(|e| Trouble::of(&e))?;
        let mut applied = Applied::default();
        match task.purpose {
            Purpose::Change(_) => applied.contested = answer.iter().map(|r| r.get(0)).collect(),
            Purpose::Import(_) => {
                let count = |row: &tokio_postgres::Row, at: usize| {
                    u64::try_from(row.get::<_, i64>(at)).unwrap_or(0)
                };
                applied.taken = answer.first().map_or((0, 0), |r| (count(r, 0), count(r, 1)));
            }
        }
        Ok(applied)
    }

    /// The statements for the bucket's table, which exists from then on.
    async fn statements(&self, client: &mut Object, bucket: &str) -> Result<Statements, Trouble> {
        let (shared, known) = {
            let memory = self.memory();
            (memory.shared, memory.statements.get(bucket).cloned())
        };
        if let Some(statements) = known {
            return Ok(statements);
        }
        if !shared {
            let transaction = client.transaction().await.map_err(|e| Trouble::of(&e))?;
            tables::ensure_shared(&transaction, &self.schema).await.map_err(|e| Trouble::of(&e))?;
            transaction.commit().await.map_err(|e| Trouble::of(&e))?;
            self.memory().shared = true;
        }
        let transaction = client.transaction().await.map_err(|e| Trouble::of(&e))?;
        let table =
            tables::ensure_table(&transaction, &self.schema, bucket).await.map_err(|fault| {
                match fault {
                    TableFault::Database(error) => Trouble::of(&error),
                    TableFault::Refused(reason) => {
                        Trouble { verdict: Verdict::Table, reason, unanswered: false }
                    }
                }
            })?;
        transaction.commit().await.map_err(|e| Trouble::of(&e))?;
        let silent: Arc<str> = batch::statement(&self.schema, &table, None).into();
        let usual = match &self.notify {
            None => silent.clone(),
            Some(channel) => {
                batch::statement(&self.schema, &table, Some(&Feed { channel, bucket })).into()
            }
        };
        let import = import::statement(&self.schema, &table).into();
        let statements = Statements { usual, silent, import };
        let mut memory = self.memory();
        if memory.statements.len() >= TABLES_REMEMBERED_MAX {
            memory.statements.clear();
        }
        memory.statements.insert(bucket.to_owned(), statements.clone());
        Ok(statements)
    }

    /// Forgets what is known of a bucket's table and of the shared objects, to look again.
    fn forget(&self, bucket: &str) {
        let mut memory = self.memory();
        memory.shared = false;
        memory.statements.remove(bucket);
    }
}

/// A failed try: the database was not reached, or it was and something went wrong.
enum TryFailure {
    Store(StoreError),
    Trouble(Trouble),
}

impl Backend for Postgres {
    /// Two thousand keys of the usual length are some hundred kilobytes; larger statements were not
    /// faster.
    const ROWS_PER_STATEMENT_MAX: usize = 2000;

    fn tables_in_parallel(&self) -> usize {
        self.connections_max
    }

    async fn apply(
        &self,
        bucket: &str,
        rows: &[&Row],
        purpose: Purpose,
    ) -> Result<Applied, Failure> {
        let writer = match purpose {
            Purpose::Change(writer) => writer,
            Purpose::Import(_) => None,
        };
        let batch = Batch::new(rows, writer);
        let mut repaired = false;
        let mut late = false;
        let mut silent = false;
        let mut tries_left = TRIES_MAX - 1;
        loop {
            let task = Task { bucket, batch: &batch, purpose, silent };
            let trouble = match self.try_apply(task).await {
                Ok(applied) => return Ok(Applied { late, ..applied }),
                Err(TryFailure::Store(StoreError::Unavailable(reason))) if late => {
                    return Err(Failure::Store(StoreError::Unanswered(reason)));
                }
                Err(TryFailure::Store(error)) => return Err(Failure::Store(error)),
                Err(TryFailure::Trouble(trouble)) => trouble,
            };
            late |= trouble.unanswered;
            let Trouble { verdict, reason, .. } = trouble;
            let unavailable = |reason| {
                Failure::Store(if late {
                    StoreError::Unanswered(reason)
                } else {
                    StoreError::Unavailable(reason)
                })
            };
            match verdict {
                Verdict::Row => return Err(Failure::Row(reason)),
                Verdict::Table => return Err(Failure::Table(reason)),
                Verdict::Store => return Err(unavailable(reason)),
                Verdict::Repair if repaired => return Err(Failure::Table(reason)),
                Verdict::Repair => {
                    tracing::warn!(bucket, reason, "an inventory table is looked at again");
                    self.forget(bucket);
                    repaired = true;
                }
                Verdict::Feed => {
                    // Rows that wait for a listener would end as a database that waits for it.
                    tracing::error!(bucket, reason, "changed rows are not told to the channel");
                    silent = true;
                }
                Verdict::Again if tries_left == 0 => return Err(Failure::Table(reason)),
                Verdict::Again => sleep(RACE_PAUSE_MAX.mul_f64(fastrand::f64())).await,
                Verdict::Connection if tries_left == 0 => return Err(unavailable(reason)),
                Verdict::Connection => {}
            }
            tries_left = tries_left.saturating_sub(1);
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Closes a connection instead of giving it back.
fn discard(client: Object) {
    drop(Object::take(client));
}

//! Making one connection: password and authorities read afresh, the database created if it is
//! missing and the role may, the session set so that no server default can surprise us.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::super::table::{literal, quoted};
use super::settings::{PasswordSource, PostgresSettings, SslMode, chain};
use super::tls;

/// Longest wait for a lock, in seconds: a person's long transaction delays one table's rows, and
/// not the connection.
const LOCK_TIMEOUT_SECONDS: u64 = 2;

/// Makes connections for the pool.
pub(super) struct Connector {
    settings: PostgresSettings,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The last password that could be read: secrets are rotated by replacing files, and the
    /// moment in between must not count.
    password: Option<String>,
    /// Why no connection was even tried, since the last success.
    fault: Option<String>,
}

impl Connector {
    pub(super) fn new(settings: PostgresSettings) -> Self {
        Self { settings, memory: Mutex::default() }
    }

    /// Why the last connection was not even tried, if so.
    pub(super) fn fault(&self) -> Option<String> {
        self.memory().fault.clone()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, mut config: Config) -> Result<(Client, JoinHandle<()>), Error> {
        if let Some(password) = self.password().await {
            config.password(password);
        }
        let opened = match self.open_with(&config).await {
            Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {
                match self.create_database(&config).await {
                    Ok(()) => self.open_with(&config).await,
                    Err(refusal) => {
                        let reason = chain(&refusal);
                        tracing::warn!(%reason, "the inventory database cannot be created");
                        Err(error)
                    }
                }
            }
            opened => opened,
        };
        let (client, task) = opened?;
        self.memory().fault = None;
        client.batch_execute(&self.session()).await?;
        Ok((client, task))
    }

    async fn open_with(&self, config: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        if self.settings.sslmode == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            return Ok((client, tokio::spawn(drive(connection))));
        }
        match tls::connector(&self.settings) {
            Ok(tls) => {
                let (client, connection) = config.connect(tls).await?;
                Ok((client, tokio::spawn(drive(connection))))
            }
            Err(reason) => {
                self.memory().fault = Some(reason);
                // The pool can carry the driver's own errors only; this one is "host missing", and
                // whoever reports it puts `fault` in its place.
                match Config::new().connect(NoTls).await {
                    Ok((client, connection)) => Ok((client, tokio::spawn(drive(connection)))),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The password for a connection made now; `None` leaves the one of the settings.
    async fn password(&self) -> Option<String> {
        let read = match &self.settings.password {
            PasswordSource::Settings => return None,
            PasswordSource::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
                Err(error) => {
                    Err(format!("the password file {} cannot be read: {error}", path.display()))
                }
            },
            PasswordSource::Minted(minter) => minter.mint().await,
        };
        let mut memory = self.memory();
        match read {
            Ok(password) => memory.password = Some(password),
            Err(reason) => {
                tracing::warn!(%reason, "no fresh database password; the last one is used");
                memory.fault = Some(reason);
            }
        }
        memory.password.clone()
    }

    /// Creates the database from a maintenance database. Losing the race to another proxy is
    /// success.
    async fn create_database(&self, config: &Config) -> Result<(), Error> {
        let Some(name) = config.get_dbname().or(config.get_user()).map(str::to_owned) else {
            return Ok(());
        };
        let mut maintenance = config.clone();
        maintenance.dbname("postgres");
        let (client, task) = match self.open_with(&maintenance).await {
            Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {
                maintenance.dbname("template1");
                self.open_with(&maintenance).await?
            }
            opened => opened?,
        };
        // Keys are UTF-8; template0 allows that encoding whatever the cluster's default is.
        let create =
            format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", quoted(&name));
        let created = client.batch_execute(&create).await;
        drop(client);
        task.abort();
        match created {
            Err(error)
                if error.code() != Some(&SqlState::DUPLICATE_DATABASE)
                    && error.code() != Some(&SqlState::UNIQUE_VIOLATION) =>
            {
                Err(error)
            }
            _ => {
                tracing::info!(database = %name, "the inventory database was created");
                Ok(())
            }
        }
    }

    /// Settings of every session. `SET` and not startup options: connection poolers refuse those.
    /// A server told to answer commits before they are durable is overruled: the journal forgets a
    /// row on that answer, and a crash of the server would lose the row for good.
    fn session(&self) -> String {
        let statement_ms = self.settings.statement_timeout.as_millis();
        format!(
            "SET standard_conforming_strings = on; SET client_encoding = {utf8};
             SET statement_timeout = {statement_ms}; SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s';
             SET idle_in_transaction_session_timeout = {statement_ms};
             SET client_min_messages = warning;
             SELECT set_config('synchronous_commit', 'local', FALSE)
                 WHERE current_setting('synchronous_commit') = 'off';",
            utf8 = literal("UTF8"),
        )
    }
}

/// Runs a connection to its end. Its error also reaches every waiting statement, which reports it.
async fn drive<F: Future<Output = Result<(), Error>>>(connection: F) {
    if let Err(error) = connection.await {
        tracing::debug!(reason = %chain(&error), "a database connection ended");
    }
}

/// What the pool holds: the connector, shared with the store that reports its faults.
pub(super) struct Shared(pub(super) std::sync::Arc<Connector>);

impl Connect for Shared {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move { self.0.open(config).await })
    }
}

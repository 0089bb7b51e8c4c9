//! A small real S3 store, for `s3-mirror dev` and for the tests.
//!
//! It speaks S3 through the `s3s` crate, which checks signatures and decodes bodies: a second
//! opinion on what the proxy sends, written by other people. What is behind it is our own.
//!
//! # Promises
//!
//! - **Whole or not there.** An object appears, changes or disappears in one commit of the index.
//!   Its bytes are complete, verified against every checksum the client gave, and in their final
//!   place before that commit. Two conditional writers never both win.
//! - **Survives.** The state is a directory: an `SQLite` index and body files. After a restart or a
//!   SIGKILL everything that was answered is there. With `fsync` this holds for a power cut too;
//!   without, a power cut may lose the newest objects or leave their bodies incomplete.
//! - **Any key.** Keys are bytes in an index row, never a path.
//! - **Bounded.** Memory does not grow with the size of a body or the number of objects. At the
//!   start, and only then, the numbers of all body files are in memory, eight bytes each.
//!
//! # What it has not
//!
//! Versioning, ACLs, policies, lifecycle, CORS, object lock, SSE-C, POST forms: 501. One key pair
//! owns everything.
//!
//! # Layout
//!
//! `gate` takes connections and hands requests to `s3s`; behind `s3s` the `route` decides between
//! `object`, `copy` and `multipart` (raw requests) and `service` (typed ones). Below them `receive`
//! and `deliver` move bodies, `files` keeps them, and `index` knows what there is.

mod access;
mod attributes;
mod checksum;
mod conditions;
mod copy;
mod deliver;
mod fault;
mod files;
mod framing;
mod gate;
mod index;
mod lists;
mod multipart;
mod object;
mod receive;
mod respond;
mod route;
mod service;
mod tags;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

use access::{OneKey, SignedOnly};
use files::BodyFiles;
use index::{Index, OpenError};
use route::Router;
use target::Domains;

/// The largest XML body: ten thousand parts with checksums, or a thousand keys of 1 KiB, escaped.
const XML_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The fields of a form, without its file.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// What a store is made of.
#[derive(Clone)]
pub struct StoreConfig {
    /// Where everything is kept. Created if missing; one process at a time.
    pub data_dir: PathBuf,
    /// The one access key ID that is known.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Base domains, port included, for virtual-hosted-style requests. Path-style always works.
    pub domains: Vec<String>,
    /// Sync files and commits, so that what was answered survives a power cut.
    pub fsync: bool,
}

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    service: S3Service,
    /// Held as long as a clone of the store is.
    _lock: Arc<File>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The directory or a body file could not be read or written.
    #[error("the store in {} cannot be used", .0.display())]
    Files(PathBuf, #[source] std::io::Error),
    /// The index could not be opened.
    #[error("the index of the store in {} cannot be used", .0.display())]
    Index(PathBuf, #[source] sqlx::Error),
}

/// What the operations work with. Cheap to clone.
#[derive(Clone, Debug)]
struct Engine {
    index: Index,
    files: BodyFiles,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("data_dir", &self.data_dir)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"***")
            .field("domains", &self.domains)
            .field("fsync", &self.fsync)
            .finish()
    }
}

impl Store {
    /// Opens the store in `config.data_dir`, creating it if it is not there, and removes what an
    /// earlier process did not finish.
    ///
    /// # Errors
    /// [`StoreError`]: the directory is in use, or it or its index cannot be read or written.
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let lock = lock(&config.data_dir)?;
        let opened = Index::open(&config.data_dir, config.fsync).await;
        let (index, files) = opened.map_err(|error| match error {
            OpenError::Files(error) => StoreError::Files(config.data_dir.clone(), error),
            OpenError::Database(error) => StoreError::Index(config.data_dir.clone(), error),
        })?;
        let engine = Engine { index, files };
        let domains = Domains(config.domains);
        let mut builder = S3ServiceBuilder::new(engine.clone());
        builder.set_auth(OneKey {
            access_key_id: config.access_key_id,
            secret: config.secret_access_key.into(),
        });
        builder.set_access(SignedOnly);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
        builder.set_host(domains.clone());
        builder.set_route(Router { engine, domains });
        Ok(Self { service: builder.build(), _lock: Arc::new(lock) })
    }

    /// Serves on `listener` until `shutdown` completes; then accepts no more and lets the running
    /// requests end, for ten seconds at most.
    ///
    /// # Errors
    /// None today; single failed connections are logged and passed over.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        gate::serve(self.service.clone(), listener, shutdown).await
    }
}

/// Bounds on what `s3s` gathers in memory before it asks this store.
fn limits() -> S3Config {
    let mut limits = S3Config::default();
    limits.xml_max_body_size = XML_BYTES_MAX;
    // Forms are refused, after s3s has read the fields that sign them.
    limits.form_max_field_size = FORM_BYTES_MAX;
    limits.form_max_fields_size = FORM_BYTES_MAX;
    limits
}

/// Takes the directory for this process. The lock ends with the process, however that ends.
fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let failed = |error| StoreError::Files(data_dir.to_owned(), error);
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    let file = File::create(data_dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

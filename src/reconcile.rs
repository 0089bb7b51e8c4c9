//! Jobs that compare main, mirror and inventory and bring them into step: backfill and verify.
//!
//! # Promises
//! - Nothing is copied or deleted here. What is not in step is appended to the journal, where the
//!   mirror's workers and the inventory find it like any other change: main is asked, and retries,
//!   parking, rows and logs come with it.
//! - Live writes come first: a job has a small fixed number of keys in the journal, and they are
//!   claimed when no live key is ready (`journal::Window`).
//! - A difference is reported only after both sides have been asked about that key and the
//!   journal holds no change of it.
//! - **P6** Constant memory: one page per listing, a bounded sample of differences, and 2 MiB per
//!   table that is searched for rows without an object.
//!
//! # Crash
//! A job's cursor and figures are a note in the journal. After a crash it goes on from there; what
//! it did since is done again, which changes nothing.

mod backfill;
pub mod check;
mod deep;
mod examine;
pub mod import;
pub mod job;
pub mod jobs;
pub mod judge;
pub mod listing;
pub mod merge;
pub mod pace;
mod patience;
pub mod report;
pub mod report_files;
pub mod restore;
mod run;
mod running;
mod schedule;
mod sieve;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use crate::inventory::store::Store;
use crate::journal::Journal;
use crate::upstream::Upstream;

/// What jobs work on.
pub struct World {
    /// Where what is not in step goes.
    pub journal: Journal,
    /// Main.
    pub main: Arc<Upstream>,
    /// The mirror.
    pub mirror: Arc<Upstream>,
    /// Mirror bucket = prefix + bucket.
    pub prefix: String,
    /// The inventory, if there is one.
    pub store: Option<Arc<Store>>,
    /// Where reports are kept.
    pub reports: PathBuf,
}

impl World {
    /// The mirror's name of a bucket.
    fn mirror_bucket(&self, bucket: &str) -> String {
        format!("{}{bucket}", self.prefix)
    }

    /// Is this bucket of main one that holds copies? Main and mirror may be one service, told
    /// apart by the prefix only; copies of copies are nobody's wish.
    fn holds_copies(&self, bucket: &str) -> bool {
        !self.prefix.is_empty()
            && self.main.endpoint().url() == self.mirror.endpoint().url()
            && bucket.starts_with(&self.prefix)
    }
}

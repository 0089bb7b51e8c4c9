//! Import: rows for what was on main before the proxy, from one listing of main or from a report
//! of S3 Inventory. Nothing is copied; `backfill` does that. Needs no running service.
//!
//! # Promises
//! - Beside proxies that write meanwhile: `inventory::import` tells why newer news stays.
//! - One request of main per thousand keys, or none but those for the report's files; one more per
//!   key only if media types are asked for.
//! - Constant memory: a page per listing, one batch, and what one piece of a file unpacks to.
//!
//! # Crash
//! The last position that was told is where the next run may begin; importing a key twice changes
//! nothing.

mod batch;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::backfill::copy_of;
use super::judge::{Verdict, compare};
use super::listing::{Lister, Place};
use super::merge::{Merge, Pair};
use super::pace::Pace;
use super::patience::{TRIES_MAX, tried};
use super::report_files::{Piece, ReportFile, Source};
use crate::inventory::import::AsOf;
use crate::inventory::store::{Store, StoreError};
use crate::s3::report::{Manifest, Reported};
use crate::upstream::Upstream;
use crate::upstream::ask::AskError;
use rows::row;

/// Keys of one batch.
const BATCH: usize = 1000;
/// How far main's clock and the database's may be apart, for a report of main's making.
const CLOCKS_APART_MAX: Duration = Duration::from_mins(5);

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Only this bucket; every bucket of main without it.
    pub bucket: Option<String>,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Ask main about every key, for its media type and version.
    pub head: bool,
    /// Look which keys the mirror has.
    pub mirror: bool,
    /// Keys per second.
    pub rate: Option<u64>,
}

/// Where an import is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bucket that is under way.
    pub bucket: String,
    /// The last key of its listing that was taken.
    pub after: Option<String>,
    /// File of the report that is under way.
    pub file: usize,
    /// Objects of it that were taken.
    pub taken: u64,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Keys that were listed.
    pub scanned: u64,
    /// Rows for keys that had none.
    pub added: u64,
    /// Rows that were brought up to date.
    pub updated: u64,
    /// Keys that the inventory cannot hold, or that main told nothing about.
    pub failed: u64,
}

/// What is told on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// So far, and where.
    Progress(&'a Imported, &'a Position),
    /// A key has no row.
    Failed {
        /// Bucket.
        bucket: &'a str,
        /// Key.
        key: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Imports, telling on the way.
pub struct Import {
    /// Main.
    pub main: Arc<Upstream>,
    /// The mirror, with the prefix of its buckets.
    pub mirror: (Arc<Upstream>, String),
    /// The inventory.
    pub store: Arc<Store>,
    /// What is asked for.
    pub plan: Plan,
}

/// What one run carries along.
struct Run<'a, T> {
    import: &'a Import,
    done: Imported,
    at: Position,
    keys: Pace,
    tell: T,
}

impl Import {
    /// Lists main and takes over what it tells, from `at` on.
    ///
    /// # Errors
    /// It cannot go on. What was taken over stays.
    pub async fn from_listing(
        &self,
        (at, done): (Position, Imported),
        tell: impl FnMut(Event<'_>),
    ) -> Result<Imported, String> {
        let buckets = match &self.plan.bucket {
            Some(bucket) => vec![bucket.clone()],
            None => tried(|| self.main.buckets(), AskError::is_transient)
                .await
                .map_err(|error| format!("main: {error}"))?,
        };
        let mut run = self.run(at, done, tell);
        for bucket in buckets {
            // Main and mirror may be one service; copies are no objects of main's.
            if bucket < run.at.bucket || (self.plan.bucket.is_none() && self.holds_copies(&bucket))
            {
                continue;
            }
            if bucket != run.at.bucket {
                run.at = Position { bucket: bucket.clone(), ..Position::default() };
            }
            run.listing(&bucket).await?;
            // The least name that comes behind this one.
            run.at = Position { bucket: format!("{bucket}\0"), ..Position::default() };
            run.progress();
        }
        Ok(run.done)
    }

    /// Takes over what a report tells, from `at` on.
    ///
    /// # Errors
    /// As for [`Import::from_listing`].
    pub async fn from_report(
        &self,
        manifest: &Manifest,
        source: &Source,
        (at, done): (Position, Imported),
        tell: impl FnMut(Event<'_>),
    ) -> Result<Imported, String> {
        if self.plan.bucket.as_ref().is_some_and(|bucket| *bucket != manifest.bucket) {
            return Err(format!("the report is of bucket {}", manifest.bucket));
        }
        let moment = self.clock().await?.min(manifest.created - CLOCKS_APART_MAX);
        let as_of = AsOf { moment, only_if_newer: true };
        let mut run = self.run(at, done, tell);
        run.at.bucket.clone_from(&manifest.bucket);
        while let Some(file) = manifest.files.get(run.at.file) {
            run.file(manifest, source, file, as_of).await?;
            run.at.file += 1;
            run.at.taken = 0;
            run.progress();
        }
        Ok(run.done)
    }

    fn run<T: FnMut(Event<'_>)>(&self, at: Position, done: Imported, tell: T) -> Run<'_, T> {
        Run { import: self, done, at, keys: Pace::new(self.plan.rate), tell }
    }

    fn holds_copies(&self, bucket: &str) -> bool {
        let (mirror, prefix) = &self.mirror;
        !prefix.is_empty()
            && self.main.endpoint().url() == mirror.endpoint().url()
            && bucket.starts_with(prefix)
    }

    async fn clock(&self) -> Result<OffsetDateTime, String> {
        tried(|| self.store.clock(), StoreError::is_transient).await.map_err(|e| e.to_string())
    }

    fn lister(&self, of_mirror: bool, bucket: &str, after: Option<String>) -> Lister {
        let (mirror, prefix) = &self.mirror;
        let (upstream, who, bucket) = if of_mirror {
            (mirror, "mirror", format!("{prefix}{bucket}"))
        } else {
            (&self.main, "main", bucket.to_owned())
        };
        let place = Place {
            upstream: upstream.clone(),
            who,
            bucket,
            prefix: self.plan.prefix.clone(),
            may_be_missing: of_mirror,
            tries_max: Some(TRIES_MAX),
        };
        Lister::new(place, after)
    }
}

impl<T: FnMut(Event<'_>)> Run<'_, T> {
    async fn listing(&mut self, bucket: &str) -> Result<(), String> {
        // Rows that are written from here on are newer than what is listed.
        let as_of = AsOf { moment: self.import.clock().await?, only_if_newer: false };
        let after = self.at.after.clone();
        let left = self.import.lister(false, bucket, after.clone());
        let right = self.import.lister(true, bucket, after);
        let mut merge = Merge { left, right };
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH {
                let pair = if self.import.plan.mirror {
                    merge.next().await?
                } else {
                    merge.left.peek().await?;
                    merge.left.take().map(|listed| Pair { left: Some(listed), right: None })
                };
                match pair {
                    // What is on the mirror only is none of the inventory's business.
                    Some(Pair { left: None, .. }) => {}
                    Some(pair) => batch.push(pair),
                    None => break,
                }
            }
            let mut rows = Vec::with_capacity(batch.len());
            let mut last = None;
            for Pair { left, right } in batch {
                let Some(listed) = left else { continue };
                let copied = right
                    .as_ref()
                    .is_some_and(|copy| compare(copy_of(&listed), copy_of(copy)) == Verdict::Same);
                last = Some(listed.key.clone());
                rows.push(row(bucket, Reported { listed, version_id: None }, copied));
            }
            if rows.is_empty() {
                return Ok(());
            }
            self.take(bucket, rows, as_of).await?;
            self.at.after = last;
            self.progress();
        }
    }

    async fn file(
        &mut self,
        manifest: &Manifest,
        source: &Source,
        file: &str,
        as_of: AsOf,
    ) -> Result<(), String> {
        let mut reading = ReportFile::open(source, file, manifest.columns.clone()).await?;
        let mut behind = self.at.taken;
        let mut batch: Vec<Reported> = Vec::new();
        loop {
            let piece = reading.next(&mut batch).await?;
            // What an interrupted run has taken is passed over.
            let skipped = batch.len().min(usize::try_from(behind).unwrap_or(usize::MAX));
            drop(batch.drain(..skipped));
            behind -= u64::try_from(skipped).unwrap_or(0);
            let ended = piece == Piece::Last;
            while batch.len() >= BATCH || (ended && !batch.is_empty()) {
                let part: Vec<Reported> = batch.drain(..batch.len().min(BATCH)).collect();
                let taken = u64::try_from(part.len()).unwrap_or(0);
                let prefix = &self.import.plan.prefix;
                let rows = part
                    .into_iter()
                    .filter(|object| object.listed.key.starts_with(prefix))
                    .map(|object| row(&manifest.bucket, object, false))
                    .collect();
                self.take(&manifest.bucket, rows, as_of).await?;
                self.at.taken += taken;
                self.progress();
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn failed(&mut self, bucket: &str, key: &str, reason: &str) {
        self.done.failed += 1;
        (self.tell)(Event::Failed { bucket, key, reason });
    }

    fn progress(&mut self) {
        (self.tell)(Event::Progress(&self.done, &self.at));
    }
}

//! Check: does the inventory tell what main has? Nothing is changed. Needs no running service.
//!
//! # Promises
//! - Drift is told only when it is still there after a while: rows follow main within seconds, and
//!   a live write is no drift.
//! - Constant memory: one page of the listing, one batch, and the sieve's 2 MiB.
//! - One request of main per thousand keys, and one per key that looks wrong. Once a thousand keys
//!   have been found wrong, a listed key that is wrong is told without waiting or asking.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;

use super::examine::row_fault;
use super::listing::{Lister, Place};
use super::pace::Pace;
use super::patience::{TRIES_MAX, tried};
use super::report::What;
use super::sieve::Sieve;
use crate::inventory::read::StoredRow;
use crate::inventory::store::{Store, StoreError};
use crate::s3::listing::Listed;
use crate::upstream::Upstream;
use crate::upstream::ask::AskError;
use crate::upstream::read::{ReadError, Reader};

/// Keys looked up together.
const BATCH: usize = 1000;
/// Questions to main at a time.
const AT_ONCE: usize = 16;
/// Pauses between looks at a key that seems wrong.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];
/// So much drift is no live write any more.
const DOUBTED_MAX: u64 = 1000;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Only this bucket; without it every bucket of main, and every one that has a table.
    pub bucket: Option<String>,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys per second.
    pub rate: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Keys that main listed.
    pub scanned: u64,
    /// Without a row.
    pub missing: u64,
    /// With a row of another size or `ETag`.
    pub different: u64,
    /// Rows without an object.
    pub extra: u64,
    /// Keys that main told nothing about.
    pub failed: u64,
}

impl Checked {
    /// Keys that are wrong.
    pub fn drift(&self) -> u64 {
        self.missing + self.different + self.extra
    }
}

/// What is told on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// So far.
    Progress(&'a Checked),
    /// A key is wrong.
    Drift {
        /// Bucket.
        bucket: &'a str,
        /// Key.
        key: &'a str,
        /// `missing`, `different` or `extra`.
        what: &'static str,
    },
    /// A key could not be looked at.
    Failed {
        /// Bucket.
        bucket: &'a str,
        /// Key.
        key: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Checks, telling on the way.
pub struct Check {
    /// Main.
    pub main: Arc<Upstream>,
    /// The inventory.
    pub store: Arc<Store>,
    /// What is asked for.
    pub plan: Plan,
}

struct Run<'a, T> {
    check: &'a Check,
    done: Checked,
    keys: Pace,
    tell: T,
}

impl Check {
    /// Runs to the end.
    ///
    /// # Errors
    /// It cannot go on.
    pub async fn run(&self, tell: impl FnMut(Event<'_>)) -> Result<Checked, String> {
        let buckets = if let Some(bucket) = &self.plan.bucket {
            vec![bucket.clone()]
        } else {
            let listed = tried(|| self.main.buckets(), AskError::is_transient).await;
            let mut names = listed.map_err(|error| format!("main: {error}"))?;
            let tables = tried(|| self.store.buckets(), StoreError::is_transient).await;
            // A bucket that is gone may have left rows.
            names.extend(tables.map_err(|error| error.to_string())?);
            names.sort();
            names.dedup();
            names
        };
        let keys = Pace::new(self.plan.rate);
        let mut run = Run { check: self, done: Checked::default(), keys, tell };
        for bucket in buckets {
            run.bucket(&bucket).await?;
        }
        Ok(run.done)
    }

    async fn rows(&self, bucket: &str, keys: &[&str]) -> Result<Vec<StoredRow>, String> {
        let rows = tried(|| self.store.lookup(bucket, keys), StoreError::is_transient).await;
        rows.map_err(|error| error.to_string())
    }

    async fn page(&self, bucket: &str, after: i64) -> Result<Vec<StoredRow>, String> {
        let page = tried(|| self.store.scan(bucket, after), StoreError::is_transient).await;
        page.map_err(|error| error.to_string())
    }

    /// Keys of rows that tell of an object, one page.
    fn present<'a>(&'a self, page: &'a [StoredRow]) -> impl Iterator<Item = &'a String> {
        let rows = page.iter().filter(|row| !row.deleted);
        rows.map(|row| &row.path).filter(|path| path.starts_with(&self.plan.prefix))
    }
}

impl<T: FnMut(Event<'_>)> Run<'_, T> {
    async fn bucket(&mut self, bucket: &str) -> Result<(), String> {
        let mut sieve = Sieve::new();
        let mut lister = Lister::new(
            Place {
                upstream: self.check.main.clone(),
                who: "main",
                bucket: bucket.to_owned(),
                prefix: self.check.plan.prefix.clone(),
                may_be_missing: true,
                tries_max: Some(TRIES_MAX),
            },
            None,
        );
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH && lister.peek().await?.is_some() {
                batch.extend(lister.take());
            }
            if batch.is_empty() {
                break;
            }
            self.keys.take(u64::try_from(batch.len()).unwrap_or(0)).await;
            for listed in &batch {
                sieve.toggle(&listed.key);
            }
            self.listed(bucket, batch).await?;
        }
        let mut after = 0;
        loop {
            let page = self.check.page(bucket, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            self.check.present(&page).for_each(|path| sieve.toggle(path));
        }
        after = 0;
        loop {
            let page = self.check.page(bucket, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let suspects = self.check.present(&page).filter(|path| sieve.suspects(path));
            let suspects: Vec<String> = suspects.cloned().collect();
            // Keys that main has were judged with their listing.
            self.confirm(bucket, suspects, |what| what == What::RowExtra).await?;
        }
        (self.tell)(Event::Progress(&self.done));
        Ok(())
    }

    async fn listed(&mut self, bucket: &str, batch: Vec<Listed>) -> Result<(), String> {
        self.done.scanned += u64::try_from(batch.len()).unwrap_or(0);
        let keys: Vec<&str> = batch.iter().map(|listed| listed.key.as_str()).collect();
        let rows = self.check.rows(bucket, &keys).await?;
        let rows: HashMap<&str, &StoredRow> =
            rows.iter().map(|row| (row.path.as_str(), row)).collect();
        let mut suspects = Vec::new();
        for listed in &batch {
            let of_main = Some((listed.etag.as_str(), listed.size));
            let row = rows.get(listed.key.as_str()).copied();
            let Some(what) = row_fault(of_main, row, false) else { continue };
            if self.done.drift() < DOUBTED_MAX {
                suspects.push(listed.key.clone());
            } else {
                self.drift(bucket, &listed.key, what);
            }
        }
        self.confirm(bucket, suspects, |what| what != What::RowExtra).await?;
        (self.tell)(Event::Progress(&self.done));
        Ok(())
    }

    /// Looks again at keys that seem wrong, until they are right or time is up.
    async fn confirm(
        &mut self,
        bucket: &str,
        keys: Vec<String>,
        counts: impl Fn(What) -> bool,
    ) -> Result<(), String> {
        let mut open: Vec<(String, What)> =
            keys.into_iter().map(|key| (key, What::RowDiffers)).collect();
        let pauses = if self.done.drift() < DOUBTED_MAX { &PAUSES[..] } else { &PAUSES[..1] };
        for pause in pauses {
            if open.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(*pause).await;
            let main = &*self.check.main;
            let heads: Vec<(String, Result<_, ReadError>)> = stream::iter(open)
                .map(|(key, _)| async move {
                    let (key_of, version) = (Some(&*key), None);
                    let reader =
                        Reader { upstream: main, who: "main", bucket, key: key_of, version };
                    let state = tried(|| reader.head_surely(), |error| !error.is_permanent()).await;
                    (key, state)
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let keys: Vec<&str> = heads.iter().map(|(key, _)| key.as_str()).collect();
            let rows = self.check.rows(bucket, &keys).await?;
            let rows: HashMap<&str, &StoredRow> =
                rows.iter().map(|row| (row.path.as_str(), row)).collect();
            open = Vec::new();
            for (key, state) in &heads {
                let state = match state {
                    Ok(state) => state,
                    Err(error) => {
                        self.done.failed += 1;
                        let reason = error.to_string();
                        (self.tell)(Event::Failed { bucket, key, reason: &reason });
                        continue;
                    }
                };
                let of_main = state.as_ref().map(|state| (state.etag.as_str(), state.size));
                let row = rows.get(key.as_str()).copied();
                if let Some(what) = row_fault(of_main, row, false) {
                    open.push((key.clone(), what));
                }
            }
        }
        for (key, what) in open.iter().filter(|(_, what)| counts(*what)) {
            self.drift(bucket, key, *what);
        }
        Ok(())
    }

    fn drift(&mut self, bucket: &str, key: &str, what: What) {
        let (count, what) = match what {
            What::RowMissing => (&mut self.done.missing, "missing"),
            What::RowExtra => (&mut self.done.extra, "extra"),
            _ => (&mut self.done.different, "different"),
        };
        *count += 1;
        (self.tell)(Event::Drift { bucket, key, what });
    }
}

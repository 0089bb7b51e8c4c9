//! Restore: what the mirror has goes back to main.
//!
//! # Promises
//! - Nothing on main is deleted, and nothing that is newer than the mirror's copy is overwritten
//!   unless that is asked for. Newer is also what the journal says the mirror has not got yet: a copy of
//!   what was there before may have been made after it.
//! - Running it again skips what is equal, so that an interruption costs a listing.
//! - Constant memory: a page per listing and one batch.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;

use super::backfill::copy_of;
use super::judge::{Verdict, compare};
use super::listing::{Lister, Place};
use super::merge::{Merge, Pair};
use super::pace::Pace;
use crate::journal::Journal;
use crate::journal::entry::ObjectKey;
use crate::mirror::{RestoreError, Restorer};
use crate::s3::listing::Listed;
use crate::upstream::Upstream;
use crate::upstream::read::{ReadError, Reader};

/// Keys copied at a time.
const AT_ONCE: usize = 16;
/// Pairs looked at together.
const BATCH: usize = 500;
/// Tries of one key, and of one page of a listing.
const TRIES_MAX: u32 = 5;
/// First pause between tries, doubled.
const PAUSE: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Only this bucket of main; every bucket of the mirror without it.
    pub bucket: Option<String>,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Tell what would be copied, and copy nothing.
    pub dry_run: bool,
    /// Overwrite what is newer on main too.
    pub overwrite: bool,
    /// Keys looked at per second.
    pub rate: Option<u64>,
    /// Bytes copied per second.
    pub bandwidth: Option<u64>,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Keys of the mirror that were looked at.
    pub scanned: u64,
    /// Copied to main, or to be copied.
    pub restored: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The same on main already.
    pub equal: u64,
    /// Newer on main, and left as they are.
    pub newer_on_main: u64,
    /// On main only, and left as they are.
    pub only_on_main: u64,
    /// Not copied.
    pub failed: u64,
}

/// What is told on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// So far.
    Progress(&'a Restored),
    /// A key would be copied.
    Would {
        /// Bucket on main.
        bucket: &'a str,
        /// Key.
        key: &'a str,
        /// Bytes.
        size: u64,
    },
    /// A key was not copied.
    Failed {
        /// Bucket on main.
        bucket: &'a str,
        /// Key.
        key: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// What became of one key.
enum Fate {
    Copied(u64),
    Newer,
    Failed(String),
}

/// Restores, telling on the way.
pub struct Restore {
    main: Arc<Upstream>,
    mirror: Arc<Upstream>,
    prefix: String,
    copier: Restorer,
    journal: Option<Journal>,
    plan: Plan,
}

impl Restore {
    /// Puts it together. `prefix` is what the mirror's buckets have before main's names; `journal` is
    /// the one of the service that has mirrored them, where it is at hand.
    pub fn new(
        main: Arc<Upstream>,
        mirror: Arc<Upstream>,
        prefix: String,
        journal: Option<Journal>,
        plan: Plan,
    ) -> Self {
        let copier = Restorer::new(mirror.clone(), main.clone(), prefix.clone());
        Self { main, mirror, prefix, copier, journal, plan }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// It cannot go on. What was copied before stays, and the next run skips it.
    pub async fn run(&self, mut tell: impl FnMut(Event<'_>)) -> Result<Restored, String> {
        let buckets: Vec<String> = if let Some(bucket) = &self.plan.bucket {
            vec![bucket.clone()]
        } else {
            let names = self.mirror.buckets().await.map_err(|error| format!("mirror: {error}"))?;
            let names = names.iter().filter_map(|name| name.strip_prefix(&self.prefix));
            names.map(str::to_owned).collect()
        };
        let mut done = Restored::default();
        let mut keys = Pace::new(self.plan.rate);
        let mut bytes = Pace::new(self.plan.bandwidth);
        for bucket in buckets {
            self.bucket(&bucket, &mut done, (&mut keys, &mut bytes), &mut tell).await?;
        }
        Ok(done)
    }

    async fn bucket(
        &self,
        bucket: &str,
        done: &mut Restored,
        (keys, bytes): (&mut Pace, &mut Pace),
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        let from = format!("{}{bucket}", self.prefix);
        if !self.exists(&self.mirror, "mirror", &from).await? {
            return Err(format!("the mirror has no bucket {from}"));
        }
        if !self.plan.dry_run && !self.exists(&self.main, "main", bucket).await? {
            self.copier.make_bucket(bucket).await.map_err(|error| error.to_string())?;
        }
        let place = |upstream: &Arc<Upstream>, who, bucket: &str| Place {
            upstream: upstream.clone(),
            who,
            bucket: bucket.to_owned(),
            prefix: self.plan.prefix.clone(),
            may_be_missing: who == "main",
            tries_max: Some(TRIES_MAX),
        };
        let left = Lister::new(place(&self.mirror, "mirror", &from), None);
        let right = Lister::new(place(&self.main, "main", bucket), None);
        let mut merge = Merge { left, right };
        loop {
            let mut wanted: Vec<Listed> = Vec::new();
            let mut seen = 0;
            while seen < BATCH
                && let Some(pair) = merge.next().await?
            {
                seen += 1;
                if let Some(copy) = self.judge(bucket, pair, done).await? {
                    wanted.push(copy);
                }
            }
            if seen == 0 {
                return Ok(());
            }
            keys.take(u64::try_from(seen).unwrap_or(0)).await;
            if self.plan.dry_run {
                for Listed { key, size, .. } in &wanted {
                    done.restored += 1;
                    done.bytes += size;
                    tell(Event::Would { bucket, key, size: *size });
                }
            } else {
                for group in wanted.chunks(AT_ONCE) {
                    bytes.take(group.iter().map(|listed| listed.size).sum()).await;
                    self.copy(bucket, &from, group, done, tell).await;
                    tell(Event::Progress(done));
                }
            }
            tell(Event::Progress(done));
        }
    }

    /// What is to be copied of this key, if anything.
    async fn judge(
        &self,
        bucket: &str,
        pair: Pair,
        done: &mut Restored,
    ) -> Result<Option<Listed>, String> {
        let Some(copy) = pair.left else {
            done.only_on_main += 1;
            return Ok(None);
        };
        done.scanned += 1;
        if let Some(there) = &pair.right {
            if compare(copy_of(&copy), copy_of(there)) == Verdict::Same {
                done.equal += 1;
                return Ok(None);
            }
            let is_newer = there.last_modified > copy.last_modified;
            if !self.plan.overwrite
                && (is_newer || self.is_ahead(bucket, &there.key, &there.etag).await?)
            {
                done.newer_on_main += 1;
                return Ok(None);
            }
        }
        Ok(Some(copy))
    }

    async fn copy(
        &self,
        bucket: &str,
        from: &str,
        group: &[Listed],
        done: &mut Restored,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        let mut fates = stream::iter(group.to_vec())
            .map(|listed| async move {
                let fate = self.copy_one(bucket, from, &listed).await;
                (listed, fate)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((listed, fate)) = fates.next().await {
            match fate {
                Fate::Copied(bytes) => {
                    done.restored += 1;
                    done.bytes += bytes;
                }
                Fate::Newer => done.newer_on_main += 1,
                Fate::Failed(reason) => {
                    done.failed += 1;
                    tell(Event::Failed { bucket, key: &listed.key, reason: &reason });
                }
            }
        }
    }

    async fn copy_one(&self, bucket: &str, from: &str, listed: &Listed) -> Fate {
        let key = listed.key.as_str();
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            // Main may have got a newer object since it was listed.
            let copied = match self.is_newer(bucket, listed).await {
                Ok(true) => return Fate::Newer,
                Ok(false) => self.copier.restore(from, key).await,
                Err(error) => {
                    let is_transient = !matches!(
                        error,
                        ReadError::Refused { status: 400..=407 | 409..=428 | 430..=499, .. }
                    );
                    Err(RestoreError { reason: error.to_string(), is_transient })
                }
            };
            tries += 1;
            match copied {
                Ok(bytes) => return Fate::Copied(bytes),
                Err(RestoreError { reason, is_transient }) => {
                    if !is_transient || tries == TRIES_MAX {
                        return Fate::Failed(reason);
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// Has main something newer, that must not be overwritten? Listings do not always meet at a key, and
    /// main may have changed since.
    async fn is_newer(&self, bucket: &str, listed: &Listed) -> Result<bool, ReadError> {
        if self.plan.overwrite {
            return Ok(false);
        }
        let reader = Reader {
            upstream: &self.main,
            who: "main",
            bucket,
            key: Some(listed.key.as_str()),
            version: None,
        };
        let there = reader.head().await?;
        // HTTP dates are whole seconds: of two moments within one neither is called newer.
        let mirrored = listed.last_modified.map(time::OffsetDateTime::unix_timestamp);
        let Some(there) = there else { return Ok(false) };
        let written = there.last_modified.map(time::OffsetDateTime::unix_timestamp);
        if written.zip(mirrored).is_some_and(|(written, mirrored)| written > mirrored) {
            return Ok(true);
        }
        let ahead = self.is_ahead(bucket, &listed.key, &there.etag).await;
        ahead.map_err(ReadError::Unreachable)
    }

    /// Has main an object that the journal knows to be on its way to the mirror?
    async fn is_ahead(&self, bucket: &str, key: &str, etag: &str) -> Result<bool, String> {
        let Some(journal) = &self.journal else { return Ok(false) };
        let is_ahead = journal.is_ahead(&ObjectKey::new(bucket, key), etag).await;
        is_ahead.map_err(|error| format!("the journal cannot be read: {error}"))
    }

    async fn exists(
        &self,
        upstream: &Upstream,
        who: &'static str,
        bucket: &str,
    ) -> Result<bool, String> {
        let reader = Reader { upstream, who, bucket, key: None, version: None };
        reader.bucket_exists().await.map_err(|error| error.to_string())
    }
}

//! Which buckets have versions, asked rarely.
//!
//! A bucket of main that has shown a version ID has versions, for ever: versioning can be
//! suspended, and not be taken away. Otherwise the service is asked, and its answer used for a
//! while. P6: [`BUCKETS_MAX`] answers per side are kept; when there are more all are forgotten,
//! which costs one question each.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Journal;
use crate::journal::entry::{ObjectKey, Sequence};
use crate::upstream::Upstream;
use crate::upstream::read::{ReadError, Reader};

/// Answers kept.
const BUCKETS_MAX: usize = 10_000;
/// How long one is used.
const ASKED: Duration = Duration::from_mins(1);

/// What is known of the buckets of one service.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Box<str>, (bool, Instant)>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, (bool, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bucket: &str, has_versions: bool) {
        let mut known = self.lock();
        if known.len() >= BUCKETS_MAX && !known.contains_key(bucket) {
            known.clear();
        }
        known.insert(bucket.into(), (has_versions, Instant::now()));
    }

    /// What was said of a bucket last, and whether that was lately.
    fn told(&self, bucket: &str) -> Option<(bool, bool)> {
        let known = self.lock();
        let (has_versions, at) = known.get(bucket)?;
        Some((*has_versions, at.elapsed() < ASKED))
    }
}

/// Keys whose versions have been listed lately.
const KEYS_MAX: usize = 65_536;

/// How far the journal was when the versions of a key were last listed: a copy of that list may have
/// brought versions along whose entries come later. By the key's hash: an accident costs a question.
#[derive(Default)]
struct Listed {
    keys: HashMap<u64, Sequence>,
    /// Of keys that have been forgotten.
    others: Sequence,
}

/// Both sides' buckets, and which keys' versions were listed.
pub(super) struct Versioning {
    journal: Journal,
    main: Known,
    mirror: Known,
    listed: Mutex<Listed>,
}

impl Versioning {
    pub(super) fn new(journal: Journal) -> Self {
        let (main, mirror, listed) = Default::default();
        Self { journal, main, mirror, listed }
    }

    /// Main's versions of the key are about to be listed.
    pub(super) fn lists(&self, object: &ObjectKey) {
        let position = self.journal.position();
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.keys.len() >= KEYS_MAX {
            listed.keys.clear();
            listed.others = position;
        }
        listed.keys.insert(hash(object), position);
    }

    /// Was the change in the journal when the versions of its key were last listed?
    pub(super) fn has_listed(&self, object: &ObjectKey, sequence: Sequence) -> bool {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        sequence < *listed.keys.get(&hash(object)).unwrap_or(&listed.others)
    }

    /// A bucket of main has shown a version ID.
    pub(super) fn seen(&self, bucket: &str) {
        self.main.note(bucket, true);
    }

    /// Is a bucket of main known to have versions?
    pub(super) fn was_seen(&self, bucket: &str) -> bool {
        matches!(self.main.told(bucket), Some((true, _)))
    }

    /// Has a bucket of main versions, suspended or not?
    pub(super) async fn main(&self, main: &Arc<Upstream>, bucket: &str) -> Result<bool, ReadError> {
        if let Some((told, lately)) = self.main.told(bucket)
            && (told || lately)
        {
            return Ok(told);
        }
        let reader = Reader { upstream: main, who: "main", bucket, key: None, version: None };
        let has_versions = reader.versioning().await?.is_some();
        self.main.note(bucket, has_versions);
        Ok(has_versions)
    }

    /// Does a bucket of the mirror keep versions?
    pub(super) async fn mirror(
        &self,
        mirror: &Arc<Upstream>,
        bucket: &str,
    ) -> Result<bool, ReadError> {
        if let Some((told, true)) = self.mirror.told(bucket) {
            return Ok(told);
        }
        let reader = Reader { upstream: mirror, who: "mirror", bucket, key: None, version: None };
        let keeps = reader.versioning().await?.as_deref() == Some("Enabled");
        self.mirror.note(bucket, keeps);
        Ok(keeps)
    }
}

fn hash(object: &ObjectKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

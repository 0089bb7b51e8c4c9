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

use super::copies::Copies;
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

    /// Takes in what a service has just said. Whoever may not ask takes a bucket for one without
    /// versions, but not for longer than that lasts, and not one that is known to have them: a refusal
    /// of everything passes, and versions that are left out cannot be appended later.
    fn asked(&self, bucket: &str, told: Result<bool, ReadError>) -> Result<bool, ReadError> {
        match told {
            Ok(has_versions) => {
                self.note(bucket, has_versions);
                Ok(has_versions)
            }
            Err(ReadError::Refused { status: 403, .. })
                if !matches!(self.told(bucket), Some((true, _))) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
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
    pub(super) copies: Copies,
}

impl Versioning {
    pub(super) fn new(journal: Journal) -> Self {
        let (main, mirror, listed) = Default::default();
        Self { journal, main, mirror, listed, copies: Copies::default() }
    }

    /// Main's versions of the key have just been listed.
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
        self.main.asked(bucket, reader.versioning().await.map(|told| told.is_some()))
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
        let told = reader.versioning().await;
        self.mirror.asked(bucket, told.map(|told| told.as_deref() == Some("Enabled")))
    }
}

fn hash(object: &ObjectKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Result<bool, ReadError> {
        let (who, what, code) = ("mirror", "GetBucketVersioning", String::new());
        Err(ReadError::Refused { who, what, status, code })
    }

    #[test]
    fn a_refusal_is_no_word_about_versions_and_is_not_remembered() {
        let known = Known::default();
        assert_eq!(known.asked("b", refused(403)), Ok(false));
        assert_eq!(known.told("b"), None, "the next key asks again");
        assert_eq!(known.asked("b", Ok(true)), Ok(true));
        assert!(known.asked("b", refused(403)).is_err(), "it has some: the key waits");
        assert_eq!(known.told("b"), Some((true, true)));
        assert!(known.asked("other", refused(500)).is_err());
        assert_eq!(known.asked("other", Ok(false)), Ok(false));
        assert_eq!(known.asked("other", refused(403)), Ok(false));
    }
}

//! Which version of the mirror is the copy of which of main's, where their `ETag`s do not tell: services that
//! encrypt with keys of their own (SSE-KMS, SSE-C) make `ETag`s that are no digest of the content, so that
//! no copy would ever be recognised, and versions that are there would be appended again with every look.
//!
//! Remembered in memory only. What is forgotten, in a crash or by [`COPIES_MAX`] (P6), is a version
//! that is appended twice, and never one that is left out.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::write::Written;
use crate::journal::entry::ObjectKey;
use crate::s3::state::ObjectState;
use crate::s3::versions::Version;

/// Copies remembered; when there are more all are forgotten.
const COPIES_MAX: usize = 65_536;

/// Copies by the hash of the key and main's ID.
type Ids = HashMap<(u64, Box<str>), Copy>;

/// The mirror's version that holds what main's version was when it had this `ETag`: the `null` version of a
/// bucket whose versioning is suspended is another one with every write.
struct Copy {
    id: Box<str>,
    of_etag: Box<str>,
}

/// What the mirror calls the copies of main's versions.
#[derive(Default)]
pub(super) struct Copies {
    known: Mutex<Ids>,
    hasher: RandomState,
}

impl Copies {
    /// The version `id` of main, which is `state`, has been written to the mirror.
    pub(super) fn note(&self, object: &ObjectKey, id: &str, state: &ObjectState, made: Written) {
        let Some(copy) = made.version_id else { return };
        if made.etag.as_ref() == Some(&state.etag) {
            // It can be told.
            return;
        }
        let mut known = self.lock();
        if known.len() >= COPIES_MAX {
            known.clear();
        }
        let copy = Copy { id: copy.into(), of_etag: state.etag.as_str().into() };
        known.insert((self.hasher.hash_one(object), id.into()), copy);
    }

    /// Gives those of the mirror's versions that are known to be copies the content of what they are
    /// copies of.
    pub(super) fn recognise(&self, object: &ObjectKey, main: &[Version], mirror: &mut [Version]) {
        let known = self.lock();
        if known.is_empty() {
            return;
        }
        let key = self.hasher.hash_one(object);
        let copies: HashMap<&str, &Version> = main
            .iter()
            .filter_map(|version| {
                let copy = known.get(&(key, version.id.as_str().into()))?;
                (*copy.of_etag == *version.etag).then_some((&*copy.id, version))
            })
            .collect();
        for there in mirror {
            if let Some(version) = copies.get(there.id.as_str())
                && version.size == there.size
            {
                there.etag.clone_from(&version.etag);
            }
        }
    }

    /// The same for what is on top of the mirror, by what is on top of main.
    pub(super) fn recognise_current(
        &self,
        object: &ObjectKey,
        state: &ObjectState,
        there: &mut ObjectState,
    ) {
        let (Some(id), Some(copy)) = (&state.version_id, &there.version_id) else { return };
        let known = self.lock();
        let key = (self.hasher.hash_one(object), id.as_str().into());
        let is_it = |known: &Copy| *known.id == **copy && *known.of_etag == *state.etag;
        if known.get(&key).is_some_and(is_it) {
            there.etag.clone_from(&state.etag);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, etag: &str, size: u64) -> Version {
        Version { id: id.into(), marker: false, etag: etag.into(), size, modified: None }
    }

    fn state(id: &str, etag: &str) -> ObjectState {
        ObjectState {
            etag: etag.into(),
            size: 1,
            last_modified: None,
            version_id: Some(id.into()),
            headers: Vec::new(),
            tag_count: 0,
            storage_class: None,
            checksum: None,
            lock: Vec::new(),
        }
    }

    fn written(id: &str, etag: &str) -> Written {
        Written { version_id: Some(id.into()), etag: Some(etag.into()) }
    }

    #[test]
    fn a_copy_whose_etag_says_nothing_is_known_by_the_id_it_was_given() {
        let (copies, key) = (Copies::default(), ObjectKey::new("b", "k"));
        copies.note(&key, "m1", &state("m1", "a"), written("r1", "x"));
        let main = [version("m1", "a", 1), version("m2", "b", 1)];
        let mut mirror = [version("r0", "w", 1), version("r1", "x", 1), version("r2", "y", 1)];
        copies.recognise(&key, &main, &mut mirror);
        assert_eq!(mirror.map(|there| there.etag), ["w", "a", "y"]);
        let mut there = state("r1", "x");
        copies.recognise_current(&key, &state("m2", "b"), &mut there);
        assert_eq!(there.etag, "x", "the copy of an older one");
        copies.recognise_current(&key, &state("m1", "a"), &mut there);
        assert_eq!(there.etag, "a");
    }

    #[test]
    fn nothing_is_known_of_other_keys_nor_of_another_size() {
        let (copies, key) = (Copies::default(), ObjectKey::new("b", "k"));
        copies.note(&key, "m1", &state("m1", "a"), written("r1", "x"));
        let mut mirror = [version("r1", "x", 1)];
        copies.recognise(&ObjectKey::new("b", "other"), &[version("m1", "a", 1)], &mut mirror);
        copies.recognise(&key, &[version("m1", "a", 2)], &mut mirror);
        assert_eq!(mirror[0].etag, "x");
    }

    /// As where versioning is suspended.
    #[test]
    fn a_version_that_was_overwritten_in_its_place_is_not_there() {
        let (copies, key) = (Copies::default(), ObjectKey::new("b", "k"));
        copies.note(&key, "null", &state("null", "a"), written("r1", "x"));
        let mut mirror = [version("r1", "x", 1)];
        copies.recognise(&key, &[version("null", "b", 1)], &mut mirror);
        let mut there = state("r1", "x");
        copies.recognise_current(&key, &state("null", "b"), &mut there);
        assert_eq!((&*mirror[0].etag, &*there.etag), ("x", "x"));
    }

    #[test]
    fn what_an_etag_tells_is_not_remembered() {
        let (copies, key) = (Copies::default(), ObjectKey::new("b", "k"));
        copies.note(&key, "m1", &state("m1", "a"), written("r1", "a"));
        assert!(copies.lock().is_empty());
    }
}

//! What the journal holds: one entry per change of one key.
//!
//! An entry is born as an *intent*, before its request can take effect on main. The request's
//! outcome settles it: no effect (it goes), changed, or unknown. A changed or unknown entry stays
//! until the mirror has confirmed main's current state of the key and the inventory has written
//! it. Entries hold keys and facts, never bodies, signatures or client headers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::s3::event::EventName;
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;

/// Position in the journal; grows, also over restarts.
pub type Sequence = i64;

/// The key of an object, as the journal and its lanes compare it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Bucket on main.
    pub bucket: Arc<str>,
    /// Key, byte for byte.
    pub key: Arc<str>,
}

impl ObjectKey {
    /// Makes a key.
    pub fn new(bucket: &str, key: &str) -> Self {
        Self { bucket: bucket.into(), key: key.into() }
    }

    /// Does it stand for the bucket itself? Keys of objects are never empty.
    pub fn is_bucket(&self) -> bool {
        self.key.is_empty()
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// What is to be written down before a request goes upstream.
#[derive(Debug, Clone)]
pub struct NewIntent {
    /// The key that may change.
    pub object: ObjectKey,
    /// How it may change.
    pub change: Change,
    /// Identifies the request in logs.
    pub request_id: Arc<str>,
    /// When the request arrived, milliseconds since 1970.
    pub accepted_ms: i64,
    /// What is known before the effect (the part layout of a multipart object), if anything is.
    pub facts: Option<Box<Facts>>,
}

/// What one request did to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Surely nothing.
    NoEffect,
    /// Main accepted it.
    Changed,
    /// Main may or may not have done it; main has to be asked.
    Unknown,
}

/// What is known of a change beyond its key. All of it is a hint that saves a question to main,
/// except the part layout, which main may not tell afterwards. Told once and then shared: journal,
/// mirror and inventory are threads of their own, and a copy for each costs them more than the count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `ETag` main answered, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Bytes of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Media type as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Main's clock, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<i64>,
    /// Version ID on main, of a delete marker too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Part boundaries of a multipart object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<PartLayout>,
    /// The key was found absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The mirror keeps what main has deleted, because it was told to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept_on_mirror: bool,
    /// Another change of the key was under way when this one began, so that the order of the two entries
    /// is not that in which main took the changes, or was looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contended: bool,
    /// What only buckets with versions need; no entry of another bucket has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Box<VersionFacts>>,
    /// Which event the change makes; none where nobody is told of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventName>,
    /// Span of the request that made the change, where requests are traced, as `traceparent` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Box<str>>,
}

/// What an entry has to say about the versions of its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFacts {
    /// The oldest version on main that the entry stands for, where that is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// It stands for changes of which main did not tell the version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untold: bool,
    /// A version was deleted by its ID.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Versions on the mirror whose time has come when the entry is claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub condemned: Vec<String>,
}

impl VersionFacts {
    /// Is it about versions to be deleted?
    pub fn deletes(&self) -> bool {
        self.deleted || !self.condemned.is_empty()
    }
}

impl Facts {
    /// Facts of a key as main told it: a state, or absence.
    pub fn observed(state: Option<&ObjectState>) -> Self {
        state.map_or_else(
            || Self { absent: true, ..Self::default() },
            |state| Self {
                etag: Some(state.etag.clone()),
                size: Some(state.size),
                content_type: Some(state.content_type().to_owned()),
                last_modified: state.last_modified.map(OffsetDateTime::unix_timestamp),
                version_id: state.version_id.clone(),
                ..Self::default()
            },
        )
    }

    /// Do other changes of the key need entries of their own, because each made a version?
    pub fn has_versions(&self) -> bool {
        let told = |versions: &VersionFacts| versions.since.is_some() || versions.deletes();
        self.version_id.is_some() || self.versions.as_deref().is_some_and(told)
    }

    /// Takes over what was known before the effect and was not told since.
    pub(super) fn add(&mut self, known: &Self) {
        if self.layout.is_none() {
            self.layout.clone_from(&known.layout);
        }
        if self.versions.is_none() {
            self.versions.clone_from(&known.versions);
        }
        if self.trace.is_none() {
            self.trace.clone_from(&known.trace);
        }
        self.event = self.event.or(known.event);
    }

    /// Takes over what an older entry says about versions, which this one now stands for; only where either
    /// has any.
    fn follow(&mut self, older: &Self) {
        let since = older.versions.as_ref().and_then(|versions| versions.since.clone());
        let since = since.or_else(|| older.version_id.clone());
        let own_told = self.version_id.is_some();
        let versions = self.versions.get_or_insert_default();
        // Of two that overlapped main may have made the later one's version first.
        versions.untold |= self.contended || older.contended;
        versions.untold |= !own_told && !versions.deletes();
        versions.untold |=
            since.is_none() && !older.versions.as_deref().is_some_and(VersionFacts::deletes);
        versions.since = since.or_else(|| versions.since.take());
        if let Some(older) = &older.versions {
            versions.untold |= older.untold;
            versions.deleted |= older.deleted;
            versions.condemned.extend(older.condemned.iter().cloned());
        }
    }
}

/// Sizes of the parts of a multipart object in order, run-length encoded because almost all
/// parts have one size: 10 000 parts of 8 MiB are two numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartLayout {
    /// `(size in bytes, how many in a row)`.
    runs: Vec<(u64, u32)>,
    /// `ETag` the whole object must have for this layout to be its own, if it could be computed.
    pub etag: Option<String>,
}

impl PartLayout {
    /// From the sizes in order.
    pub fn new(sizes: impl IntoIterator<Item = u64>, etag: Option<String>) -> Self {
        let mut runs: Vec<(u64, u32)> = Vec::new();
        for size in sizes {
            match runs.last_mut() {
                Some((last, count)) if *last == size => *count += 1,
                _ => runs.push((size, 1)),
            }
        }
        Self { runs, etag }
    }

    /// Sizes in order.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|&(size, count)| (0..count).map(move |_| size))
    }

    /// Bytes of the whole object.
    pub fn total(&self) -> u64 {
        self.runs.iter().map(|&(size, count)| size * u64::from(count)).sum()
    }

    /// Number of parts.
    pub fn count(&self) -> u32 {
        self.runs.iter().map(|&(_, count)| count).sum()
    }
}

/// A settled entry on its way to the mirror and the inventory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Position.
    pub sequence: Sequence,
    /// The key.
    pub object: ObjectKey,
    /// How it changed.
    pub change: Change,
    /// Is the outcome unknown, so that main has to be asked first?
    pub unknown: bool,
    /// Did another write of the key overlap this one in time?
    pub overlapped: bool,
    /// When the oldest change that this entry stands for was accepted, in milliseconds.
    pub since_ms: i64,
    /// Identifies the request in logs.
    pub request_id: Arc<str>,
    /// What is known.
    pub facts: Arc<Facts>,
    /// How often mirroring it has failed.
    pub attempts: u32,
    /// Has it been set aside, and is its time over? ([`super::Journal::hold`])
    pub ripe: bool,
}

impl Entry {
    /// Has main said that the key is gone, by a delete that made no delete marker, as far as it told?
    pub fn deletes_surely(&self) -> bool {
        let facts = &self.facts;
        self.change == Change::Delete && !self.unknown && facts.absent && facts.version_id.is_none()
    }

    /// The key, if older entries of it are settled with this one when it is set aside.
    pub(super) fn settles_older(&self) -> Option<ObjectKey> {
        (!self.facts.has_versions()).then(|| self.object.clone())
    }

    /// Merges an older entry of the same key into this newer one, which supersedes it: copying
    /// main's current state once does for both. The age of the oldest is kept, so that lag is
    /// honest, and so is the part layout, which a change of tags does not touch.
    pub fn supersede(&mut self, older: &Self) {
        self.since_ms = self.since_ms.min(older.since_ms);
        self.unknown |= older.unknown;
        self.overlapped |= older.overlapped;
        self.attempts = self.attempts.max(older.attempts);
        if self.facts.layout.is_none() && older.facts.layout.is_some() {
            Arc::make_mut(&mut self.facts).layout.clone_from(&older.facts.layout);
        }
        // Most keys have none, and shared facts are not copied for nothing.
        if self.facts.has_versions() || older.facts.has_versions() {
            Arc::make_mut(&mut self.facts).follow(&older.facts);
        }
        // Of several versions each has to be on the mirror: main is asked which there are.
        self.overlapped |= self.facts.has_versions();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_of_equal_parts_is_two_numbers_and_keeps_order() {
        let layout = PartLayout::new([8, 8, 8, 5, 8], Some("e-5".into()));
        assert_eq!(layout.sizes().collect::<Vec<_>>(), [8, 8, 8, 5, 8]);
        assert_eq!((layout.total(), layout.count(), layout.runs.len()), (37, 5, 3));
    }

    #[test]
    fn a_newer_entry_keeps_the_age_and_the_layout_of_the_older() {
        let entry = |sequence, since_ms, layout| Entry {
            sequence,
            object: ObjectKey::new("b", "k"),
            change: Change::Tagging,
            unknown: false,
            overlapped: false,
            since_ms,
            request_id: "r".into(),
            facts: Arc::new(Facts { layout, ..Facts::default() }),
            attempts: 0,
            ripe: false,
        };
        let older = entry(1, 100, Some(PartLayout::new([5, 3], None)));
        let mut newer = entry(2, 200, None);
        newer.supersede(&older);
        assert_eq!(newer.since_ms, 100);
        assert_eq!(newer.facts.versions, None);
        let (plain, mut next) = (entry(3, 300, None), entry(4, 400, None));
        next.supersede(&plain);
        assert_eq!(*next.facts, Facts::default(), "nothing is made up of nothing");
        assert_eq!(newer.facts.layout.as_ref().unwrap().total(), 8);
    }

    #[test]
    fn an_entry_that_stands_for_several_versions_knows_the_oldest_and_every_version_deleted() {
        let facts = |version: Option<&str>, versions: Option<VersionFacts>| Facts {
            version_id: version.map(str::to_owned),
            versions: versions.map(Box::new),
            ..Facts::default()
        };
        let deleted = VersionFacts { deleted: true, ..VersionFacts::default() };
        let mut third = facts(Some("3"), None);
        let mut second = facts(Some("2"), None);
        second.follow(&facts(Some("1"), None));
        third.follow(&second);
        let versions = third.versions.clone().unwrap();
        assert_eq!((versions.since.as_deref(), versions.untold), (Some("1"), false));
        // A delete of a version makes none, and is not forgotten.
        let mut after = facts(None, Some(deleted.clone()));
        after.follow(&third);
        let versions = after.versions.unwrap();
        assert_eq!(
            (versions.since.as_deref(), versions.untold, versions.deleted),
            (Some("1"), false, true)
        );
        let condemned = VersionFacts { condemned: vec!["m".into()], ..VersionFacts::default() };
        third.follow(&facts(None, Some(condemned)));
        assert_eq!(third.versions.unwrap().condemned, ["m"]);
        // Of two that overlapped the older one's version may be the younger.
        let mut sixth = Facts { contended: true, ..facts(Some("6"), None) };
        sixth.follow(&Facts { contended: true, ..facts(Some("5"), None) });
        assert!(sixth.versions.unwrap().untold);
        // A copy of which main told no version.
        let mut fourth = facts(Some("4"), None);
        fourth.follow(&facts(None, None));
        assert!(fourth.versions.unwrap().untold);
    }
}

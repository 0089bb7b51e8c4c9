//! Which of main's versions an entry stands for, so that the mirror has to have them when it is done. Pure.

use crate::journal::Work;
use crate::journal::entry::VersionFacts;
use crate::s3::versions::Version;

/// A version may seem older than the request that made it by so much; main refuses requests of
/// clients whose clock is off by more.
const CLOCKS_MS: i64 = 15 * 60 * 1000;
/// The oldest version that the entry stands for, as far as it was told.
pub(super) fn oldest_told(work: &Work) -> Option<&String> {
    let facts = &work.entry.facts;
    facts
        .versions
        .as_ref()
        .and_then(|versions| versions.since.as_ref())
        .or(facts.version_id.as_ref())
}

/// By its time, may the version have been made by a change that the entry stands for?
pub(super) fn may_be_of(version: &Version, work: &Work) -> bool {
    let since_ms = work.entry.since_ms.saturating_sub(CLOCKS_MS);
    version.modified.is_none_or(|at| at.unix_timestamp().saturating_mul(1000) >= since_ms)
}

/// The first of main's versions that the mirror has to have when the entry is done.
pub(super) fn first_needed(main: &[Version], work: &Work) -> usize {
    let entry = &work.entry;
    let last = main.len().saturating_sub(1);
    let versions = entry.facts.versions.as_deref();
    let untold = entry.unknown || versions.is_some_and(|versions| versions.untold);
    let told = oldest_told(work);
    if told.is_none() && !untold && versions.is_some_and(VersionFacts::deletes) {
        return last;
    }
    let place = told.and_then(|id| main.iter().position(|version| version.id == *id));
    let by_time = || main.iter().position(|version| may_be_of(version, work)).unwrap_or(last);
    match place {
        Some(place) if !untold => place,
        Some(place) => place.min(by_time()),
        None => by_time(),
    }
    .min(last)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::journal::entry::{Entry, Facts, ObjectKey};
    use crate::s3::operation::Change;

    /// Accepted at this second.
    fn work(second: i64, version: Option<&str>, versions: Option<VersionFacts>) -> Work {
        let facts = Facts {
            version_id: version.map(str::to_owned),
            versions: versions.map(Box::new),
            ..Facts::default()
        };
        let entry = Entry {
            sequence: 1,
            object: ObjectKey::new("b", "k"),
            change: Change::Put,
            unknown: false,
            overlapped: false,
            since_ms: second * 1000,
            request_id: "r".into(),
            facts: facts.into(),
            attempts: 0,
            ripe: false,
        };
        Work { entry, body: None }
    }

    /// Versions with these IDs, made at these seconds, oldest first.
    fn main(versions: &[(&str, i64)]) -> Vec<Version> {
        let version = |(id, second): &(&str, i64)| Version {
            id: (*id).to_owned(),
            marker: false,
            etag: (*id).to_owned(),
            size: 1,
            modified: OffsetDateTime::from_unix_timestamp(*second).ok(),
        };
        versions.iter().map(version).collect()
    }

    const HOUR: i64 = 3600;

    #[test]
    fn the_version_that_was_told_and_all_behind_it_are_needed() {
        let main = main(&[("1", HOUR), ("2", 2 * HOUR), ("3", 3 * HOUR)]);
        assert_eq!(first_needed(&main, &work(2 * HOUR, Some("2"), None)), 1);
        let since = VersionFacts { since: Some("1".into()), ..VersionFacts::default() };
        assert_eq!(first_needed(&main, &work(2 * HOUR, Some("2"), Some(since))), 0);
    }

    #[test]
    fn where_a_version_was_not_told_time_says_which_may_be_meant() {
        let main = main(&[("1", HOUR), ("2", 2 * HOUR), ("3", 3 * HOUR)]);
        let untold = || Some(VersionFacts { untold: true, ..VersionFacts::default() });
        assert_eq!(first_needed(&main, &work(2 * HOUR, Some("3"), untold())), 1);
        // Clocks may be off by a quarter of an hour.
        assert_eq!(first_needed(&main, &work(2 * HOUR + 600, None, None)), 1);
        // Nothing is as young as that: the newest is what there is.
        assert_eq!(first_needed(&main, &work(9 * HOUR, None, None)), 2);
    }

    #[test]
    fn a_delete_of_a_version_needs_the_newest_only() {
        let main = main(&[("1", HOUR), ("2", 2 * HOUR)]);
        let deleted = VersionFacts { deleted: true, ..VersionFacts::default() };
        assert_eq!(first_needed(&main, &work(0, None, Some(deleted))), 1);
        assert_eq!(first_needed(&[], &work(0, Some("1"), None)), 0, "main has none");
    }
}

//! Versioned buckets: every version and delete marker of main is kept on a versioning mirror, in
//! order.
//!
//! # How
//! The state that is copied is the *list of versions* of a key. A copy lists the mirror's versions,
//! then main's, appends those the mirror lacks, the oldest first (`lineage`), and asks main again
//! (the fence). So an entry stands for a key here too, a newer one supersedes one that waits, and
//! after a crash the list tells what is missing: nothing has to be remembered but the oldest
//! version an entry stands for. With `FENCE=overlap` an entry that is the first and only word about
//! its version appends it without asking anybody.
//!
//! # Why this converges
//! The mirror is listed before main: whatever it holds of main's was there when main is listed. Each
//! proxy appends in main's order and, if main has moved on after that, once more. So whoever is last
//! leaves main's newest version on top, and all versions in order below it. A version that two
//! proxies append, or that lands late, stands there twice.
//!
//! # Deletes
//! A delete marker is a version and is appended like one: it takes nothing away. What takes
//! something away is the delete of a version by its ID, and that follows `MIRROR_DELETES`: what the
//! mirror has and main has not is found by comparing the lists ([`surplus`]) and deleted by the
//! mirror's own ID, now or, remembered in the entry, when its time has come. Nothing else ever
//! deletes a version.

use std::sync::Arc;

use super::condemned::Spared;
use super::lineage::{missing_from, surplus};
use super::needed::first_needed;
use super::replicate::{Done, ROUNDS, Replicated, Replicator, Subject};
use super::retry::Failure;
use super::write::Place;
use crate::config::Fence;
use crate::journal::Work;
use crate::journal::entry::{Facts, VersionFacts};
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::s3::versions::{NULL_VERSION, Version};
use crate::tee::TeedBody;

/// What main has just answered about a key.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    /// It was not asked.
    Nothing,
    /// What the key is now, if there is one.
    Now(Option<&'a ObjectState>),
}

/// A version that has just been appended.
struct Appended {
    state: Option<ObjectState>,
    tags: Vec<(String, String)>,
    bytes: u64,
}

impl Replicator {
    /// Are the versions of this key copied one by one? `seen`: what main has just answered, if it
    /// was asked. A bucket without versions costs nobody a question, but where a delete leaves open
    /// whether it has any.
    pub(super) async fn keeps_versions(
        &self,
        work: &Work,
        seen: Seen<'_>,
    ) -> Result<bool, Failure> {
        let Some(versioning) = &self.versioning else { return Ok(false) };
        let (facts, bucket) = (&work.entry.facts, &*work.entry.object.bucket);
        let told = facts.version_id.as_deref();
        let told = told.or(match seen {
            Seen::Now(Some(state)) => state.version_id.as_deref(),
            _ => None,
        });
        if told.is_some_and(|id| id != NULL_VERSION) {
            versioning.seen(bucket);
        } else if !versioning.was_seen(bucket) {
            // `null` is also what some stores call the only version there is.
            let gone = work.entry.unknown && matches!(seen, Seen::Now(None));
            let in_doubt = told.is_some() || facts.versions.is_some() || gone;
            if !in_doubt || !versioning.main(&self.main, bucket).await? {
                return Ok(false);
            }
        }
        Ok(versioning.mirror(&self.mirror, &self.naming.of(bucket)).await?)
    }

    /// Brings the versions of the key of `work` to the mirror.
    pub(super) async fn replicate_versions(
        &self,
        work: &Work,
        body: Option<&TeedBody>,
        large: bool,
    ) -> Result<Done, Failure> {
        let bucket = self.naming.of(&work.entry.object.bucket);
        let place = Place { bucket: &bucket, key: &work.entry.object.key };
        if let Some(done) = self.append_alone(work, body, place, large).await? {
            return Ok(done);
        }
        let told = work.entry.facts.versions.as_deref();
        let deleted = told.is_some_and(|versions| versions.deleted);
        let mut spared = Spared::default();
        // Whose time has come. Main may have been given the same again since.
        let due = told.map_or(&[][..], |versions| &versions.condemned);
        let prunes = deleted || !due.is_empty();
        let (mut bytes, mut refused) = (0, None);
        let mut unreadable: Vec<String> = Vec::new();
        'rounds: for _ in 0..ROUNDS {
            let (mut mirror, whole) = self.mirror_versions(place, prunes).await?;
            let (mut main, complete) = self.main_versions(work, prunes).await?;
            main.retain(|version| !unreadable.contains(&version.id));
            if let Some(versioning) = &self.versioning {
                versioning.copies.recognise(&work.entry.object, &main, &mut mirror);
            }
            let mut top = None;
            let from = missing_from(&main, &mirror, whole, first_needed(&main, work));
            for (at, version) in main.iter().enumerate().skip(from) {
                match self.append_version(work, version, body, place, large).await {
                    Ok(appended) => {
                        bytes += appended.bytes;
                        mirror.push(Version { id: String::new(), ..version.clone() });
                        top = Some((&version.id, appended));
                    }
                    Err(Failure::Moved) => continue 'rounds,
                    // It must not keep those behind it from the mirror.
                    Err(failure) if failure.is_permanent() && at + 1 < main.len() => {
                        let reason = format!("version {}: {failure}", version.id);
                        refused.get_or_insert(Failure::Permanent(reason));
                        unreadable.push(version.id.clone());
                    }
                    Err(failure) => return Err(failure),
                }
            }
            if prunes && complete && unreadable.is_empty() {
                let places = surplus(&main, &mirror);
                let ids = places.iter().filter_map(|place| mirror.get(*place));
                let ids = ids.map(|version| version.id.clone());
                let ids = ids.filter(|id| !id.is_empty() && !spared.ids.contains(id));
                let (ripe, other): (Vec<_>, Vec<_>) = ids.partition(|id| due.contains(id));
                let mut gone = self.condemn(work, place, ripe, true, &mut spared).await?;
                if deleted {
                    gone.extend(self.condemn(work, place, other, false, &mut spared).await?);
                }
                mirror.retain(|version| version.id.is_empty() || !gone.contains(&version.id));
                if !whole && !gone.is_empty() {
                    // There are older ones, which may have to go as well.
                    continue;
                }
            } else {
                spared.keep(due);
            }
            if main.is_empty()
                && !told.is_some_and(VersionFacts::deletes)
                && mirror.last().is_some_and(|top| !top.marker)
                && let Some(held @ Done::Held { .. }) = self.spare(work).await
            {
                return Ok(held);
            }
            let top = top.filter(|(id, _)| main.last().is_some_and(|last| last.id == **id));
            let top = top.map(|(_, appended)| appended);
            let on_top = mirror.last().cloned();
            let newest = main.last();
            let current = self.settle_current(work, place, newest, on_top, top, body, large).await;
            let (facts, more) = match current {
                Ok(Some(settled)) => settled,
                Ok(None) | Err(Failure::Moved) => continue,
                Err(failure) => return Err(failure),
            };
            if let Some(refused) = refused {
                return Err(refused);
            }
            let done =
                Replicated { facts: Arc::new(facts), bytes: bytes + more, in_versions: true };
            if spared.ids.is_empty() {
                return Ok(Done::Replicated(done));
            }
            let Spared { ids: condemned, due_ms, reason } = spared;
            return Ok(Done::Spared { done, condemned, due_ms, reason });
        }
        Err(Failure::Transient("the key keeps changing on main".into()))
    }

    /// The first and only word about a version, from the only writer: appended without a question.
    async fn append_alone(
        &self,
        work: &Work,
        body: Option<&TeedBody>,
        place: Place<'_>,
        large: bool,
    ) -> Result<Option<Done>, Failure> {
        let entry = &work.entry;
        let first = !entry.unknown && !entry.overlapped && !entry.ripe && entry.attempts == 0;
        let whole = matches!(entry.change, Change::Put | Change::Complete | Change::Copy)
            || (entry.change == Change::Delete && entry.facts.absent);
        let Some(id) = entry.facts.version_id.clone().filter(|id| id != NULL_VERSION) else {
            return Ok(None);
        };
        if self.fence != Fence::Overlap
            || !first
            || !whole
            || entry.facts.versions.is_some()
            || self.acl
            || self
                .versioning
                .as_ref()
                .is_none_or(|versioning| versioning.has_listed(&entry.object, entry.sequence))
        {
            return Ok(None);
        }
        let (marker, etag) = (entry.facts.absent, entry.facts.etag.clone().unwrap_or_default());
        let version = Version { id, marker, etag, size: 0, modified: None };
        let appended = match self.append_version(work, &version, body, place, large).await {
            Ok(appended) => appended,
            Err(Failure::Moved) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut facts = Facts::clone(&entry.facts);
        if let Some(state) = &appended.state {
            if state.last_modified.is_some() {
                facts = Facts::observed(Some(state));
            }
            facts.version_id = Some(version.id);
            facts.content_type.get_or_insert_with(|| state.content_type().to_owned());
        }
        let facts = Arc::new(facts);
        Ok(Some(Done::Replicated(Replicated { facts, bytes: appended.bytes, in_versions: true })))
    }

    /// Writes one version to the mirror, on top of what it has.
    async fn append_version(
        &self,
        work: &Work,
        version: &Version,
        body: Option<&TeedBody>,
        place: Place<'_>,
        large: bool,
    ) -> Result<Appended, Failure> {
        if version.marker {
            self.writer.delete(place).await?;
            return Ok(Appended { state: None, tags: Vec::new(), bytes: 0 });
        }
        let from = Subject { version: Some(&version.id), ..work.into() };
        let own = work.entry.facts.version_id.as_ref() == Some(&version.id)
            && work.entry.facts.etag.as_ref().is_none_or(|etag| *etag == version.etag);
        let body = body.filter(|_| own);
        let assumed = if own { self.assume(work, body).flatten() } else { None };
        let state = match assumed {
            Some(state) => state,
            None => self.main(from).head().await?.ok_or(Failure::Moved)?,
        };
        let applied = self.apply_present(from, body, &state, place, large).await?;
        Ok(Appended { state: Some(state), tags: applied.tags, bytes: applied.bytes })
    }

    /// Makes the mirror's current state main's newest version, and asks main whether that still is
    /// what it was. `top`: it has just been appended. Yields what the row should tell and the bytes
    /// that were sent; nothing where main has moved on.
    #[expect(clippy::too_many_arguments, reason = "one step of one function, cut out to be read")]
    async fn settle_current(
        &self,
        work: &Work,
        place: Place<'_>,
        newest: Option<&Version>,
        on_top: Option<Version>,
        top: Option<Appended>,
        body: Option<&TeedBody>,
        large: bool,
    ) -> Result<Option<(Facts, u64)>, Failure> {
        let Some(newest) = newest else {
            return self.settle_nothing(work, place, on_top).await;
        };
        if newest.marker {
            if !on_top.is_some_and(|top| top.marker) {
                self.writer.delete(place).await?;
            }
            let now = self.main(work).versions(None, 1).await?;
            let still = now.versions.first().is_some_and(|now| now.id == newest.id);
            let version_id = Some(newest.id.clone());
            let facts = Facts { absent: true, version_id, ..Facts::default() };
            return Ok(still.then_some((facts, 0)));
        }
        let (state, tags, bytes, written) =
            if let Some(Appended { state: Some(state), tags, .. }) = top {
                (state, tags, 0, true)
            } else {
                let state = self.main(work).head().await?.filter(|state| is(newest, state));
                let Some(state) = state else { return Ok(None) };
                let applied = self.apply(work.into(), None, Some(&state), large).await?;
                (state, applied.tags, applied.bytes, applied.written)
            };
        let acl = self.copy_acl(work, written).await?;
        let now = self.main(work).head().await?;
        self.learn_default_type(work, body, now.as_ref());
        let Some(now) = now.filter(|now| is(newest, now)) else { return Ok(None) };
        let still = state.same_content(&now)
            && self.class(&state) == self.class(&now)
            && self.same_lock(&state, &now)
            && self.tags_still(work, &now, &tags).await?
            && self.acl_still(work, acl).await?;
        let mut facts = Facts::observed(Some(&now));
        facts.version_id = Some(newest.id.clone());
        Ok(still.then_some((facts, bytes)))
    }

    /// Main has no version of the key at all.
    async fn settle_nothing(
        &self,
        work: &Work,
        place: Place<'_>,
        on_top: Option<Version>,
    ) -> Result<Option<(Facts, u64)>, Failure> {
        let deleted = work.entry.facts.versions.as_deref().is_some_and(VersionFacts::deletes);
        let mut kept_on_mirror = false;
        if on_top.is_some_and(|top| !top.marker) {
            // What was deleted by its ID has been dealt with, and what is left is kept. Otherwise
            // main lost it in a way that nobody told: a marker hides it and takes nothing away.
            kept_on_mirror = deleted || self.spare(work).await.is_some();
            if !kept_on_mirror {
                self.writer.delete(place).await?;
            }
        }
        let still = self.main(work).versions(None, 1).await?.versions.is_empty();
        // Says that older entries of the key are not settled with this one.
        let versions = VersionFacts { deleted: true, ..VersionFacts::default() };
        let versions = Some(Box::new(versions));
        let facts = Facts { absent: true, kept_on_mirror, versions, ..Facts::default() };
        Ok(still.then_some((facts, 0)))
    }
}

/// Is this state that version?
fn is(version: &Version, state: &ObjectState) -> bool {
    state.version_id.as_deref().unwrap_or(NULL_VERSION) == version.id && state.etag == version.etag
}

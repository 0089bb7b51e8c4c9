//! The versions of a key as main and the mirror list them.
//!
//! P6: one page of the mirror's is read, or all where some are to be deleted, and of main's as many as reach
//! back to what the entry is about; [`VERSIONS_MAX`] of either at most.

use super::needed::{may_be_of, oldest_told};
use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::journal::Work;
use crate::s3::versions::Version;
use crate::upstream::read::Reader;

/// Versions per page of a list.
const PAGE: usize = 1000;
/// Most versions of one key that are compared; the newest count.
const VERSIONS_MAX: usize = 10_000;

impl Replicator {
    /// The mirror's versions, oldest first, and whether these are all. `all`: as far back as possible,
    /// where some are to be deleted.
    pub(super) async fn mirror_versions(
        &self,
        place: Place<'_>,
        all: bool,
    ) -> Result<(Vec<Version>, bool), Failure> {
        let Place { bucket, key } = place;
        let upstream = &self.mirror;
        let reader = Reader { upstream, who: "mirror", bucket, key: Some(key), version: None };
        let mut versions: Vec<Version> = Vec::new();
        let mut from = None;
        loop {
            self.writer.pace.request().await;
            let page = reader.versions(from.as_ref(), PAGE).await?;
            versions.extend(page.versions);
            let whole = page.next.is_none();
            if whole || !all || versions.len() >= VERSIONS_MAX {
                versions.reverse();
                return Ok((versions, whole));
            }
            from = page.next;
        }
    }

    /// Main's versions, oldest first, from those on that the entry is about, and whether these are
    /// all. `all`: as far back as possible.
    pub(super) async fn main_versions(
        &self,
        work: &Work,
        all: bool,
    ) -> Result<(Vec<Version>, bool), Failure> {
        let listed = self.list_main(work, all).await?;
        // Behind the answer, which may tell of what came while it was under way.
        if let Some(versioning) = &self.versioning {
            versioning.lists(&work.entry.object);
        }
        Ok(listed)
    }

    async fn list_main(&self, work: &Work, all: bool) -> Result<(Vec<Version>, bool), Failure> {
        let sought = oldest_told(work);
        let mut versions: Vec<Version> = Vec::new();
        let mut from = None;
        loop {
            let page = self.main(work).versions(from.as_ref(), PAGE).await?;
            versions.extend(page.versions);
            let complete = page.next.is_none();
            let found = sought.is_none_or(|id| versions.iter().any(|version| version.id == *id));
            let back = versions.last().is_none_or(|last| !may_be_of(last, work));
            let full = versions.len() >= VERSIONS_MAX;
            if full && !complete {
                let object = &work.entry.object;
                let (bucket, key) = (&*object.bucket, &*object.key);
                tracing::warn!(bucket, key, "more versions than are compared; the newest count");
            }
            if complete || full || (found && back && !all) {
                versions.reverse();
                return Ok((versions, complete));
            }
            from = page.next;
        }
    }
}

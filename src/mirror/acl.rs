//! Access control lists follow main's where `MIRROR_ACL` says so.
//!
//! A list is set after the bytes, so that a copy is never open to more people than main's object:
//! a store makes new objects private.

use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::journal::Work;
use crate::s3::acl::CannedAcl;

impl Replicator {
    /// Main's list of the key, if lists are copied.
    pub(super) async fn main_acl(&self, work: &Work) -> Result<Option<CannedAcl>, Failure> {
        if !self.acl {
            return Ok(None);
        }
        Ok(Some(self.main(work).acl().await?))
    }

    /// Is main's list still the one that was copied?
    pub(super) async fn acl_still(
        &self,
        work: &Work,
        copied: Option<CannedAcl>,
    ) -> Result<bool, Failure> {
        match self.main_acl(work).await {
            Ok(now) => Ok(now == copied),
            Err(Failure::Moved) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Gives the copy main's list. `written`: the copy has just been made anew.
    pub(super) async fn copy_acl(
        &self,
        work: &Work,
        written: bool,
    ) -> Result<Option<CannedAcl>, Failure> {
        let acl = self.main_acl(work).await?;
        let Some(wanted) = acl.filter(|acl| !written || *acl != CannedAcl::Private) else {
            return Ok(acl);
        };
        let bucket = self.naming.of(&work.entry.object.bucket);
        let place = Place { bucket: &bucket, key: &work.entry.object.key };
        match self.writer.acl(place, wanted.name()).await {
            // Without lists everything is private.
            Err(failure) if wanted == CannedAcl::Private && has_no_lists(&failure) => Ok(acl),
            result => result.map(|()| acl),
        }
    }
}

fn has_no_lists(failure: &Failure) -> bool {
    matches!(
        failure.code(),
        "AccessControlListNotSupported" | "NotImplemented" | "MethodNotAllowed"
    )
}

//! Versions of the mirror that main no longer has: deleted, kept, or remembered until their time comes, as
//! `MIRROR_DELETES` and the brake say.

use super::deletes::Judgement;
use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::journal::{Work, now_ms};

/// When deleting a version is tried again that the mirror protects.
const PROTECTED_MS: i64 = 3_600_000;

/// Versions of the mirror that are deleted later.
#[derive(Default)]
pub(super) struct Spared {
    pub(super) ids: Vec<String>,
    pub(super) due_ms: i64,
    pub(super) reason: String,
}

impl Spared {
    /// Of these it could not be told whether main has them again: they are looked at later.
    pub(super) fn keep(&mut self, ids: &[String]) {
        let unknown: Vec<_> = ids.iter().filter(|id| !self.ids.contains(id)).cloned().collect();
        if !unknown.is_empty() {
            let reason = "main does not tell all versions of the key".to_owned();
            self.add(unknown, now_ms().saturating_add(PROTECTED_MS), reason);
        }
    }

    fn add(&mut self, ids: Vec<String>, due_ms: i64, reason: String) {
        self.ids.extend(ids);
        self.due_ms = self.due_ms.max(due_ms);
        self.reason = reason;
    }
}

impl Replicator {
    /// Deletes these versions of the mirror if their time has come; yields those it deleted.
    pub(super) async fn condemn(
        &self,
        work: &Work,
        place: Place<'_>,
        ids: Vec<String>,
        ripe: bool,
        spared: &mut Spared,
    ) -> Result<Vec<String>, Failure> {
        let Some(deletes) = &self.deletes else { return Ok(Vec::new()) };
        if ids.is_empty() {
            return Ok(ids);
        }
        match deletes.judge(&work.entry, ripe).await {
            Judgement::Keep => return Ok(Vec::new()),
            Judgement::Hold { due_ms, reason } => {
                spared.add(ids, due_ms, reason);
                return Ok(Vec::new());
            }
            Judgement::Delete => {}
        }
        let (mut gone, mut protected) = (Vec::new(), Vec::new());
        for id in ids {
            match self.writer.delete_version(place, &id).await {
                Ok(()) => gone.push(id),
                // Retention, a legal hold or a policy: others of the key are not to wait for it.
                Err(failure) if failure.code() == "AccessDenied" => {
                    protected.push(id);
                }
                Err(failure) => return Err(failure),
            }
        }
        if !protected.is_empty() {
            let reason = "the mirror protects a version that main has deleted".to_owned();
            spared.add(protected, now_ms().saturating_add(PROTECTED_MS), reason);
        }
        Ok(gone)
    }
}

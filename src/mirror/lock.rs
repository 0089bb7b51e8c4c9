//! Object lock: retention and legal holds follow main's where `MIRROR_OBJECT_LOCK` says so.
//!
//! A copy is made with main's lock. Where the bytes are there already, only what differs is set: a
//! retention that main has, and a legal hold as main has it. A retention is never taken away: the
//! mirror may protect longer than main.

use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::s3::state::{ObjectState, lock};
use http::header::HeaderName;

impl Replicator {
    /// Is main's lock still the one that was copied?
    pub(super) fn same_lock(&self, copied: &ObjectState, now: &ObjectState) -> bool {
        !self.object_lock || copied.lock == now.lock
    }

    /// Gives the mirror's object, which is `there`, the lock of main's.
    pub(super) async fn copy_lock(
        &self,
        place: Place<'_>,
        state: &ObjectState,
        there: &ObjectState,
    ) -> Result<(), Failure> {
        if !self.object_lock {
            return Ok(());
        }
        let [retention, other] =
            [state, there].map(|of| value(of, &lock::MODE).zip(value(of, &lock::UNTIL)));
        if let Some((mode, until)) = retention
            && retention != other
        {
            // What the mirror protects more strictly stays so, and a person has to know.
            self.writer.retain(place, mode, until).await.map_err(|failure| {
                let refused = failure.code() == "AccessDenied";
                if refused { failure.judged(true) } else { failure }
            })?;
        }
        let hold = value(state, &lock::HOLD).is_some();
        if hold != value(there, &lock::HOLD).is_some() {
            self.writer.hold(place, hold).await?;
        }
        Ok(())
    }
}

fn value<'s>(state: &'s ObjectState, name: &HeaderName) -> Option<&'s str> {
    let found = state.lock.iter().find(|(known, _)| known == name);
    found.and_then(|(_, value)| value.to_str().ok())
}

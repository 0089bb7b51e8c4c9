//! The way back: copying single keys from the mirror to main, outside the service.
//!
//! The same copier as for the way there, with the roles swapped: same part boundaries, headers,
//! metadata and tags, and the same fence. Nothing is ever deleted on this way. A multipart upload that
//! a crash cuts off stays on main: there is no journal that would know of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::pace::Pace;
use super::replicate::{Done, Naming, Replicator};
use super::uploads::Uploads;
use super::write::Writer;
use crate::config::{Fence, StorageClasses};
use crate::journal::entry::{Entry, ObjectKey};
use crate::journal::{Work, now_ms};
use crate::s3::operation::Change;
use crate::upstream::Upstream;

/// Keys that are copied at a time, at most.
const WORKERS: usize = 16;
/// Largest object one request may write (Amazon S3 limits).
const PUT_BYTES_MAX: u64 = 5 << 30;

/// Copies from the mirror to main.
pub struct Restorer {
    replicator: Replicator,
}

/// Why a key was not copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RestoreError {
    /// For a person.
    pub reason: String,
    /// May it work later without anybody changing anything?
    pub is_transient: bool,
}

impl Restorer {
    /// A restorer that takes `prefix` off the names of the mirror's buckets.
    pub fn new(mirror: Arc<Upstream>, main: Arc<Upstream>, prefix: String) -> Self {
        let writer = Writer::new(main.clone(), Pace::new(0, 0), WORKERS);
        Self {
            replicator: Replicator {
                main: mirror,
                mirror: main,
                writer,
                naming: Naming::Without(prefix),
                fence: Fence::Always,
                default_type: ArcSwapOption::empty(),
                acl: false,
                object_lock: false,
                deletes: None,
                storage_classes: StorageClasses::default(),
                put_bytes_max: PUT_BYTES_MAX,
                uploads: Arc::new(Uploads::new(None)),
                versioning: None,
            },
        }
    }

    /// Makes a key of main what the mirror's bucket `from` has under it; yields the bytes sent.
    ///
    /// # Errors
    /// The copy failed; what main had is still there.
    pub async fn restore(&self, from: &str, key: &str) -> Result<u64, RestoreError> {
        let entry = Entry {
            sequence: 0,
            object: ObjectKey::new(from, key),
            change: Change::Other,
            unknown: true,
            overlapped: true,
            since_ms: now_ms(),
            request_id: "restore".into(),
            facts: Arc::default(),
            attempts: 0,
            ripe: false,
        };
        match self.replicator.replicate(&Work { entry, body: None }, true).await {
            Ok(Done::Replicated(done) | Done::Spared { done, .. }) => Ok(done.bytes),
            Ok(Done::Held { reason, .. }) => Err(RestoreError { reason, is_transient: false }),
            Err(failure) => {
                let (failure, _) = failure.split();
                let is_transient = !matches!(failure, super::retry::Failure::Permanent(_));
                Err(RestoreError { reason: swapped(&failure.to_string()), is_transient })
            }
        }
    }

    /// Makes a bucket on main; one that is ours already is made.
    ///
    /// # Errors
    /// Main refuses.
    pub async fn make_bucket(&self, bucket: &str) -> Result<(), RestoreError> {
        self.replicator.writer.create_bucket(bucket).await.map_err(|failure| {
            let (failure, _) = failure.split();
            RestoreError { reason: swapped(&failure.to_string()), is_transient: true }
        })
    }
}

/// The copier calls where it reads from `main` and where it writes to `mirror`.
fn swapped(reason: &str) -> String {
    let word = |word: &str| match word {
        "main" => "mirror".to_owned(),
        "mirror" => "main".to_owned(),
        other => other.to_owned(),
    };
    let mut out = String::new();
    for piece in reason.split_inclusive(|c: char| !c.is_ascii_alphabetic()) {
        let end = piece.trim_end_matches(|c: char| !c.is_ascii_alphabetic()).len();
        let (text, rest) = piece.split_at(end);
        out.push_str(&word(text));
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_the_services_as_the_operator_knows_them() {
        let reason = "mirror refused PutObject: 403; main: no answer in time (remain)";
        let expected = "main refused PutObject: 403; mirror: no answer in time (remain)";
        assert_eq!(swapped(reason), expected);
    }
}

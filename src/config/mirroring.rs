//! How the mirror follows main.

use std::time::Duration;

use super::env::Environment;
use super::parse::Reader;
use super::storage_class::StorageClasses;

/// Longest delay and window: a year.
const DURATION_MAX: Duration = Duration::from_hours(365 * 24);
/// Most keys the mass-delete brake can be told to count; 16 bytes of memory each and per bucket.
const BRAKE_KEYS_MAX: u64 = 1_000_000;

/// Largest object that one request may write on Amazon S3.
const PUT_BYTES_MAX: u64 = 5 << 30;
/// Smallest part of an upload on Amazon S3, the last one excepted.
const PUT_BYTES_MAX_LEAST: u64 = 5 << 20;

/// What becomes on the mirror of a key that main no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePolicy {
    /// Deleted at once.
    Apply,
    /// Deleted after this time, unless the key is written again meanwhile.
    Delay(Duration),
    /// Kept.
    Ignore,
}

impl std::fmt::Display for DeletePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Apply => f.write_str("apply"),
            Self::Delay(delay) => write!(f, "delay:{}s", delay.as_secs()),
            Self::Ignore => f.write_str("ignore"),
        }
    }
}

/// When deletes of a bucket are so many that a person should look first.
#[derive(Debug, Clone, Copy)]
pub struct DeleteBrake {
    /// More keys of one bucket than this within the window; 0 for no such limit.
    pub keys: u64,
    /// More than this share of a bucket's keys within the window, in percent; 0 for no such limit.
    pub percent: u64,
    /// The window.
    pub window: Duration,
}

/// Everything about the copies.
#[derive(Debug, Clone)]
pub struct Mirroring {
    /// What becomes of deleted keys.
    pub deletes: DeletePolicy,
    /// The mass-delete brake.
    pub brake: DeleteBrake,
    /// Most bytes of bodies sent to the mirror per second; 0 for no limit.
    pub bytes_per_second: u64,
    /// Most requests to the mirror per second; 0 for no limit.
    pub requests_per_second: u64,
    /// Storage classes of the copies.
    pub storage_classes: StorageClasses,
    /// Are access control lists copied?
    pub acl: bool,
    /// Are retention and legal holds copied?
    pub object_lock: bool,
    /// Is every version kept where both buckets have versioning?
    pub versions: bool,
    /// Largest object that is sent in one request, in bytes.
    pub put_bytes_max: u64,
}

impl Mirroring {
    pub(super) fn read(read: &mut Reader, env: &Environment) -> Self {
        let deletes = deletes(env.mirror_deletes.as_deref()).unwrap_or_else(|| {
            read.fault(
                "MIRROR_DELETES must be apply, ignore, or delay: and a duration of at most a \
                 year, such as delay:24h",
            );
            DeletePolicy::Apply
        });
        let brake = DeleteBrake {
            keys: read.number(
                "MIRROR_DELETE_BRAKE_KEYS",
                env.mirror_delete_brake_keys.as_deref(),
                10_000,
                0..=BRAKE_KEYS_MAX,
            ),
            percent: read.number(
                "MIRROR_DELETE_BRAKE_PERCENT",
                env.mirror_delete_brake_percent.as_deref(),
                0,
                0..=99,
            ),
            window: read.duration(
                "MIRROR_DELETE_BRAKE_WINDOW",
                env.mirror_delete_brake_window.as_deref(),
                Duration::from_mins(10),
                Duration::from_secs(1)..=DURATION_MAX,
            ),
        };
        let bytes_per_second = read.bytes(
            "MIRROR_BANDWIDTH_BYTES_PER_SECOND",
            env.mirror_bandwidth_bytes_per_second.as_deref(),
            0,
        );
        let requests_per_second = read.number(
            "MIRROR_REQUESTS_PER_SECOND",
            env.mirror_requests_per_second.as_deref(),
            0,
            0..=1_000_000,
        );
        let classes = env.mirror_storage_class.as_deref();
        let storage_classes = match classes.map(StorageClasses::parse) {
            Some(Some(classes)) => classes,
            Some(None) => {
                read.fault(
                    "MIRROR_STORAGE_CLASS must be a storage class, or pairs such as \
                     GLACIER_IR=STANDARD_IA,*=STANDARD",
                );
                StorageClasses::default()
            }
            None => StorageClasses::default(),
        };
        let put_bytes_max =
            read.bytes("MIRROR_PUT_BYTES_MAX", env.mirror_put_bytes_max.as_deref(), PUT_BYTES_MAX);
        if !(PUT_BYTES_MAX_LEAST..=PUT_BYTES_MAX).contains(&put_bytes_max) {
            read.fault("MIRROR_PUT_BYTES_MAX must be from 5MiB to 5GiB");
        }
        Self {
            deletes,
            brake,
            bytes_per_second,
            requests_per_second,
            storage_classes,
            acl: read.flag("MIRROR_ACL", env.mirror_acl.as_deref()),
            object_lock: read.flag("MIRROR_OBJECT_LOCK", env.mirror_object_lock.as_deref()),
            versions: read.flag("MIRROR_VERSIONS", env.mirror_versions.as_deref().or(Some("true"))),
            put_bytes_max,
        }
    }
}

fn deletes(text: Option<&str>) -> Option<DeletePolicy> {
    match text.unwrap_or("apply").trim() {
        "apply" => Some(DeletePolicy::Apply),
        "ignore" => Some(DeletePolicy::Ignore),
        text => {
            let delay = super::parse::duration(text.strip_prefix("delay:")?.trim())?;
            (delay <= DURATION_MAX).then_some(DeletePolicy::Delay(delay))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_are_applied_delayed_or_ignored() {
        assert_eq!(deletes(None), Some(DeletePolicy::Apply));
        assert_eq!(deletes(Some("ignore")), Some(DeletePolicy::Ignore));
        let day = DeletePolicy::Delay(Duration::from_hours(24));
        assert_eq!(deletes(Some("delay:24h")), Some(day));
        assert_eq!(deletes(Some("delay: 1d")), Some(day));
        for wrong in ["delay", "delay:", "delay:24", "delay:500d", "keep"] {
            assert_eq!(deletes(Some(wrong)), None, "{wrong}");
        }
    }
}

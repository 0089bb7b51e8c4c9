//! Room on the disk of `DATA_DIR`, where the journal grows while the mirror is away.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// A disk that does not tell within this time is not waited for: it may hang, and whoever looks
/// wants the other figures.
const PATIENCE: Duration = Duration::from_millis(500);

/// A disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Room {
    /// What is left for this process.
    pub(super) free_bytes: u64,
    /// All of it.
    pub(super) size_bytes: u64,
}

impl Room {
    /// Of the disk a directory is on; `None` where it does not tell.
    pub(super) async fn of(directory: PathBuf) -> Option<Self> {
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&directory).ok());
        let told = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()??;
        Some(Self {
            free_bytes: told.f_bavail.saturating_mul(told.f_frsize),
            size_bytes: told.f_blocks.saturating_mul(told.f_frsize),
        })
    }

    /// Is less than a twentieth left?
    pub(super) fn is_short(self) -> bool {
        self.free_bytes < self.size_bytes / 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_tells_its_room_and_what_is_no_disk_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let room = Room::of(directory.path().to_owned()).await.unwrap();
        assert!(room.size_bytes > 0 && room.free_bytes <= room.size_bytes);
        assert_eq!(Room::of(directory.path().join("missing")).await, None);
    }

    #[test]
    fn a_disk_is_short_of_room_below_a_twentieth() {
        assert!(Room { free_bytes: 49, size_bytes: 1000 }.is_short());
        assert!(!Room { free_bytes: 50, size_bytes: 1000 }.is_short());
    }
}

//! Body files: where the bytes of objects and parts larger than an index row live.
//!
//! A file is named by a number that is never used twice, so no key can reach the file system.
//! It is written under `incoming/`, moved to `bodies/<shard>/` when its bytes are complete and
//! verified, and only then may an index row name it. Hence:
//!
//! - a row never names a missing or short file, whatever kills the process (with `fsync`, also
//!   whatever kills the machine);
//! - a file that no row names is garbage: [`BodyFiles::sweep`] removes it at the next start.
//!
//! A file whose row is gone stays readable until the last [`Lease`] taken before that moment is
//! dropped, so a download is never cut by an overwrite.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Directories below `bodies/`: a million files are four thousand in each.
const SHARDS: i64 = 256;

/// Numbers that one start of the process may hand out. With 2^40 of them, eight million starts fit
/// into an `SQLite` integer.
pub(super) const NUMBERS_PER_START: i64 = 1 << 40;

/// The name of one body file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(pub(super) i64);

/// The directory of body files. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BodyFiles {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    incoming: PathBuf,
    bodies: PathBuf,
    fsync: bool,
    next: AtomicI64,
    graves: Mutex<Graves>,
}

/// Files that died while somebody may still read them.
#[derive(Debug, Default)]
struct Graves {
    next_lease: u64,
    leases: BTreeSet<u64>,
    /// A file may go once every lease below its number has ended.
    dead: VecDeque<(u64, FileId)>,
}

/// While it lives, no file that an index row named when the lease began is removed.
#[derive(Debug)]
pub(super) struct Lease {
    files: BodyFiles,
    number: u64,
}

/// A file being written. Dropping it without [`FreshFile::keep`] removes it.
#[derive(Debug)]
pub(super) struct FreshFile {
    id: FileId,
    path: PathBuf,
    file: Option<File>,
    files: BodyFiles,
    kept: bool,
}

impl BodyFiles {
    /// Prepares the directories. `start` numbers this start of the process and must never have
    /// been used before with this directory.
    pub(super) fn open(data_dir: &Path, fsync: bool, start: i64) -> io::Result<Self> {
        let incoming = data_dir.join("incoming");
        let bodies = data_dir.join("bodies");
        // Whatever is in there was cut off by the end of an earlier process.
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&incoming)?;
        for shard in 0..SHARDS {
            fs::create_dir_all(bodies.join(format!("{shard:02x}")))?;
        }
        let next = AtomicI64::new(start.saturating_mul(NUMBERS_PER_START));
        let graves = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { incoming, bodies, fsync, next, graves }) })
    }

    /// A number that nothing else has, for a file or an index row.
    pub(super) fn number(&self) -> i64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Creates an empty file. Blocks.
    pub(super) fn create(&self) -> io::Result<FreshFile> {
        let id = FileId(self.number());
        let path = self.shared.incoming.join(format!("{:016x}", id.0));
        let file = File::create_new(&path)?;
        Ok(FreshFile { id, path, file: Some(file), files: self.clone(), kept: false })
    }

    /// Opens a published file for reading. Blocks.
    pub(super) fn read(&self, id: FileId) -> io::Result<File> {
        File::open(self.path(id))
    }

    /// Begins a lease: take it before reading the row that names the file.
    pub(super) fn lease(&self) -> Lease {
        let mut graves = self.graves();
        let number = graves.next_lease;
        graves.next_lease += 1;
        graves.leases.insert(number);
        Lease { files: self.clone(), number }
    }

    /// Removes files that no row names any more, now or when the last reader is done. Blocks for
    /// the removals that are due now.
    pub(super) fn bury(&self, dead: Vec<FileId>) {
        if dead.is_empty() {
            return;
        }
        let due = {
            let mut graves = self.graves();
            let at = graves.next_lease;
            graves.dead.extend(dead.into_iter().map(|id| (at, id)));
            graves.due()
        };
        self.remove(&due);
    }

    /// Removes every body file that `named` does not hold. Only right before the store serves.
    /// Returns how many it removed. Blocks.
    pub(super) fn sweep(&self, named: &HashSet<i64>) -> io::Result<u64> {
        let mut removed = 0;
        for shard in fs::read_dir(&self.shared.bodies)? {
            for entry in fs::read_dir(shard?.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let id = name.to_str().and_then(|name| i64::from_str_radix(name, 16).ok());
                // A name that is not ours is left alone.
                if id.is_some_and(|id| !named.contains(&id)) {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn path(&self, id: FileId) -> PathBuf {
        let shard = id.0.rem_euclid(SHARDS);
        self.shared.bodies.join(format!("{shard:02x}")).join(format!("{:016x}", id.0))
    }

    fn graves(&self) -> std::sync::MutexGuard<'_, Graves> {
        // Nothing panics while holding it, and the data would still be consistent.
        self.shared.graves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, due: &[FileId]) {
        for id in due {
            if let Err(error) = fs::remove_file(self.path(*id)) {
                // The next start sweeps it: space is lost until then, nothing else.
                tracing::warn!(file = id.0, %error, "could not remove a body file");
            }
        }
    }
}

impl Graves {
    fn due(&mut self) -> Vec<FileId> {
        let oldest = self.leases.first().copied().unwrap_or(u64::MAX);
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.dead.front() {
            if at > oldest {
                break;
            }
            self.dead.pop_front();
            due.push(id);
        }
        due
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let due = {
            let mut graves = self.files.graves();
            graves.leases.remove(&self.number);
            graves.due()
        };
        if due.is_empty() {
            return;
        }
        let files = self.files.clone();
        // Removing gigabytes may take the file system a while: not on a thread that serves others.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || files.remove(&due))),
            Err(_) => files.remove(&due),
        }
    }
}

impl FreshFile {
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Appends bytes. Blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_mut().ok_or_else(|| io::Error::other("already published"))?.write_all(bytes)
    }

    /// Moves the complete file to its final place; durable if the store was opened with `fsync`.
    /// Blocks.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        let file = self.file.take().ok_or_else(|| io::Error::other("already published"))?;
        if self.files.shared.fsync {
            file.sync_all()?;
        }
        let path = self.files.path(self.id);
        fs::rename(&self.path, &path)?;
        self.path = path;
        if self.files.shared.fsync
            && let Some(directory) = self.path.parent()
        {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    /// An index row that names the file has been committed: the file stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = self.id.0, %error, "could not remove an unused body file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(files: &BodyFiles) -> FileId {
        let mut fresh = files.create().unwrap();
        fresh.write(b"bytes").unwrap();
        fresh.publish().unwrap();
        let id = fresh.id();
        fresh.keep();
        id
    }

    #[test]
    fn a_file_that_is_not_kept_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let files = BodyFiles::open(dir.path(), false, 1).unwrap();
        drop(files.create().unwrap());
        let mut published = files.create().unwrap();
        published.publish().unwrap();
        let id = published.id();
        drop(published);
        assert!(files.read(id).is_err());
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn a_buried_file_stays_until_the_readers_that_were_there_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let files = BodyFiles::open(dir.path(), true, 1).unwrap();
        let id = stored(&files);
        let before = files.lease();
        files.bury(vec![id]);
        let after = files.lease();
        assert!(files.read(id).is_ok(), "the reader that came before may still open it");
        drop(before);
        assert!(files.read(id).is_err(), "a reader that came after does not hold it");
        drop(after);
    }

    #[test]
    fn the_sweep_removes_exactly_the_files_no_row_names() {
        let dir = tempfile::tempdir().unwrap();
        let files = BodyFiles::open(dir.path(), false, 3).unwrap();
        let (named, orphan) = (stored(&files), stored(&files));
        assert_eq!(files.sweep(&HashSet::from([named.0])).unwrap(), 1);
        assert!(files.read(named).is_ok());
        assert!(files.read(orphan).is_err());
    }
}

//! Bodies too large for memory, kept in files that have no name.
//!
//! Each file is unlinked as soon as it is open: it takes room while a handle lives and leaves
//! nothing behind after a crash. One thread writes; when it cannot keep up with the network the
//! body is given up, so that a slow disk never slows main (P5). No other is begun then until the
//! disk has caught up, and nothing more is written of what was given up: otherwise all would be
//! begun, few would be whole, and the disk would be busy for nothing.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Pieces that wait for the disk. A piece is what one read of the network brought, at most some
/// 400 KiB.
const QUEUE: usize = 32;
/// Bytes read from a file at a time.
const READ_BYTES: u64 = 256 * 1024;

enum Command {
    Write(Arc<File>, Arc<AtomicBool>, Bytes),
    /// Everything before it is written, or something failed.
    Finish(Arc<File>, oneshot::Sender<bool>),
}

/// How the disk keeps up.
#[derive(Debug, Default)]
struct Load {
    /// Commands that wait.
    waiting: AtomicUsize,
    /// A body was given up, and the disk has not caught up since.
    is_behind: AtomicBool,
}

impl Load {
    /// May another body be begun?
    fn permits(&self) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            self.is_behind.store(false, Ordering::Relaxed);
        }
        !self.is_behind.load(Ordering::Relaxed)
    }

    /// Hands a command to the thread; false: it has too many.
    fn send(&self, commands: &SyncSender<Command>, command: Command) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = commands.try_send(command).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.is_behind.store(true, Ordering::Relaxed);
        }
        sent
    }
}

/// The directory and the thread that writes into it; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    commands: SyncSender<Command>,
    load: Arc<Load>,
}

/// A file being filled.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    file: Arc<File>,
    commands: SyncSender<Command>,
    load: Arc<Load>,
    given_up: Arc<AtomicBool>,
    finished: bool,
}

impl Spool {
    /// A spool below `directory`, which is made if missing.
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (spool, receiver) = Self::without_thread(directory);
        let load = spool.load.clone();
        let thread = std::thread::Builder::new().name("spool".into());
        thread.spawn(move || write(&receiver, &load))?;
        Ok(spool)
    }

    fn without_thread(directory: &Path) -> (Self, Receiver<Command>) {
        let (commands, receiver) = sync_channel(QUEUE);
        (Self { directory: directory.to_owned(), commands, load: Arc::default() }, receiver)
    }

    /// Opens a file. `None`: the disk refuses or is behind, and the body is not kept.
    pub(super) fn begin(&self) -> Option<SpoolWriter> {
        if !self.load.permits() {
            return None;
        }
        let path = self.directory.join(format!("{:016x}", fastrand::u64(..)));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.and_then(|file| std::fs::remove_file(&path).map(|()| file));
        match file {
            Ok(file) => Some(SpoolWriter {
                file: Arc::new(file),
                commands: self.commands.clone(),
                load: self.load.clone(),
                given_up: Arc::default(),
                finished: false,
            }),
            Err(error) => {
                tracing::debug!(%error, "a body is not spooled");
                None
            }
        }
    }
}

impl SpoolWriter {
    pub(super) fn write(&mut self, data: &Bytes) {
        if !self.given_up.load(Ordering::Relaxed) {
            let (file, given_up) = (self.file.clone(), self.given_up.clone());
            let sent = self.load.send(&self.commands, Command::Write(file, given_up, data.clone()));
            self.given_up.store(!sent, Ordering::Relaxed);
        }
    }

    /// The file, and when all of it is there. `None`: it was given up.
    pub(super) fn finish(mut self) -> Option<(Arc<File>, oneshot::Receiver<bool>)> {
        if self.given_up.load(Ordering::Relaxed) {
            return None;
        }
        let (done, written) = oneshot::channel();
        let finish = Command::Finish(self.file.clone(), done);
        self.finished = self.load.send(&self.commands, finish);
        self.finished.then(|| (self.file.clone(), written))
    }
}

/// What was not finished is not wanted any more.
impl Drop for SpoolWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.given_up.store(true, Ordering::Relaxed);
        }
    }
}

fn write(commands: &Receiver<Command>, load: &Load) {
    // A file that failed once is not whole, whatever is written to it afterwards.
    let mut failed: Vec<std::sync::Weak<File>> = Vec::new();
    while let Ok(command) = commands.recv() {
        match command {
            Command::Write(_, given_up, _) if given_up.load(Ordering::Relaxed) => {}
            Command::Write(file, given_up, data) => {
                if let Err(error) = (&*file).write_all(&data) {
                    tracing::warn!(%error, "a body cannot be spooled; it will be read from main");
                    given_up.store(true, Ordering::Relaxed);
                    failed.push(Arc::downgrade(&file));
                    // The journal needs the room more.
                    if let Err(error) = file.set_len(0) {
                        tracing::debug!(%error, "what was spooled of it stays for now");
                    }
                }
            }
            Command::Finish(file, done) => {
                failed.retain(|weak| weak.strong_count() > 0);
                let whole =
                    !failed.iter().any(|weak| std::ptr::eq(weak.as_ptr(), &raw const *file));
                if done.send(whole).is_err() {
                    tracing::trace!("a spooled body is not wanted any more");
                }
            }
        }
        load.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the next piece of a range, off the runtime's threads.
pub(super) async fn read(file: Arc<File>, at: u64, left: u64) -> std::io::Result<Bytes> {
    let length = usize::try_from(left.min(READ_BYTES)).unwrap_or(0);
    let piece = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
    });
    piece.await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What the disk has no room for is given up at once, and not tried again with every piece.
    #[test]
    fn a_body_that_the_disk_has_no_room_for_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, receiver) = Spool::without_thread(directory.path());
        let mut writer = spool.begin().unwrap();
        writer.file = Arc::new(File::options().write(true).open("/dev/full").unwrap());
        let load = spool.load.clone();
        let thread = std::thread::spawn(move || write(&receiver, &load));
        writer.write(&Bytes::from_static(b"piece"));
        while spool.load.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert!(writer.finish().is_none());
        drop(spool);
        thread.join().unwrap();
    }

    #[test]
    fn while_the_disk_is_behind_nothing_is_begun_and_what_was_given_up_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, receiver) = Spool::without_thread(directory.path());
        let piece = Bytes::from_static(b"piece");
        let mut kept = spool.begin().unwrap();
        kept.write(&piece);
        let mut given_up = spool.begin().unwrap();
        for _ in 0..QUEUE {
            given_up.write(&piece);
        }
        let file = given_up.file.clone();
        assert!(spool.begin().is_none(), "one more would only be given up too");
        assert!(given_up.finish().is_none());
        let load = spool.load.clone();
        let thread = std::thread::spawn(move || write(&receiver, &load));
        while spool.load.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(spool.begin().is_some(), "it has caught up");
        kept.write(&piece);
        let (file, written) = kept.finish().unwrap();
        drop(spool);
        thread.join().unwrap();
        assert_eq!(written.blocking_recv(), Ok(true));
        assert_eq!(file.metadata().unwrap().len(), 10);
    }
}

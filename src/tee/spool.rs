//! Bodies too large for memory, kept in files that have no name.
//!
//! Each file is unlinked as soon as it is open: it takes room while a handle lives and leaves
//! nothing behind after a crash. One thread writes; when it cannot keep up with the network the
//! body is given up, so that a slow disk never slows main (P5).

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Pieces that wait for the disk. A piece is what one read of the network brought, at most some
/// 400 KiB.
const QUEUE: usize = 32;
/// Bytes read from a file at a time.
const READ_BYTES: u64 = 256 * 1024;

enum Command {
    Write(Arc<File>, Bytes),
    /// Everything before it is written, or something failed.
    Finish(Arc<File>, oneshot::Sender<bool>),
}

/// The directory and the thread that writes into it; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    commands: SyncSender<Command>,
}

/// A file being filled.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    file: Arc<File>,
    commands: SyncSender<Command>,
    given_up: bool,
}

impl Spool {
    /// A spool below `directory`, which is made if missing.
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (commands, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("spool".into()).spawn(move || write(&receiver))?;
        Ok(Self { directory: directory.to_owned(), commands })
    }

    /// Opens a file. `None`: the disk refuses, and the body is not kept.
    pub(super) fn begin(&self) -> Option<SpoolWriter> {
        let path = self.directory.join(format!("{:016x}", fastrand::u64(..)));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.and_then(|file| std::fs::remove_file(&path).map(|()| file));
        match file {
            Ok(file) => Some(SpoolWriter {
                file: Arc::new(file),
                commands: self.commands.clone(),
                given_up: false,
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
        if !self.given_up {
            let command = Command::Write(self.file.clone(), data.clone());
            self.given_up = self.commands.try_send(command).is_err();
        }
    }

    /// The file, and when all of it is there. `None`: it was given up.
    pub(super) fn finish(self) -> Option<(Arc<File>, oneshot::Receiver<bool>)> {
        let (done, written) = oneshot::channel();
        let finish = Command::Finish(self.file.clone(), done);
        (!self.given_up && self.commands.try_send(finish).is_ok()).then_some((self.file, written))
    }
}

fn write(commands: &Receiver<Command>) {
    // A file that failed once is not whole, whatever is written to it afterwards.
    let mut failed: Vec<std::sync::Weak<File>> = Vec::new();
    while let Ok(command) = commands.recv() {
        match command {
            Command::Write(file, data) => {
                if let Err(error) = (&*file).write_all(&data) {
                    tracing::warn!(%error, "a body cannot be spooled; it will be read from main");
                    failed.push(Arc::downgrade(&file));
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

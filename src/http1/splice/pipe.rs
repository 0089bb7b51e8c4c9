//! A pipe of Linux, and how many of them there may be.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice};
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::net::TcpStream;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Size of a usual pipe.
const PIPE_BYTES_MIN: usize = 64 * 1024;
/// Descriptors are for connections first: one in so many may go to a pipe, of which there are never more than
/// this.
const SHARE: u64 = 8;
const PIPES_MAX: u64 = 512;

static PIPES: AtomicU64 = AtomicU64::new(0);
static PIPES_LIMIT: LazyLock<u64> = LazyLock::new(|| {
    let descriptors = getrlimit(Resource::Nofile).current;
    descriptors.map_or(PIPES_MAX, |descriptors| (descriptors / SHARE).min(PIPES_MAX))
});

/// A place among the pipes.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let place = Self;
        // It is given back where there was none.
        (PIPES.fetch_add(1, Ordering::Relaxed) < *PIPES_LIMIT).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where bytes stand on their way.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    holds: usize,
    refused: bool,
    _place: Place,
}

impl Pipe {
    /// An empty one, unless there are enough.
    pub fn new() -> Option<Self> {
        let place = Place::take()?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let is_usual = fcntl_getpipe_size(&writer).is_ok_and(|size| size >= PIPE_BYTES_MIN);
        is_usual.then_some(Self { reader, writer, holds: 0, refused: false, _place: place })
    }

    /// Bytes in it.
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// Has the kernel refused to fill it?
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Takes at most `max` bytes from a socket; 0 at its end. To be asked of an empty pipe.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(
        &mut self,
        from: &TcpStream,
        max: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        loop {
            ready!(from.poll_read_ready(context))?;
            let moved = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &self.writer, None, max, FLAGS)?)
            });
            if !is_again(&moved) {
                self.refused = moved.as_ref().is_err_and(super::refuses);
                return Poll::Ready(moved.inspect(|moved| self.holds += moved));
            }
        }
    }

    /// Hands to a socket what it takes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_drain(
        &mut self,
        into: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        loop {
            ready!(into.poll_write_ready(context))?;
            let moved = into.try_io(Interest::WRITABLE, || self.drain(into));
            if !is_again(&moved) {
                return Poll::Ready(moved.inspect(|moved| self.holds -= moved));
            }
        }
    }

    /// As [`Self::poll_drain`], whatever is known of the socket's readiness.
    ///
    /// # Errors
    /// Those of the socket; it takes nothing.
    pub fn drain_now(&mut self, into: &TcpStream) -> Result<usize> {
        self.drain(into).inspect(|moved| self.holds -= moved)
    }

    fn drain(&self, into: &TcpStream) -> Result<usize> {
        Ok(splice(&self.reader, None, into, None, self.holds, FLAGS)?)
    }

    /// Reads what is in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn take(&mut self) -> Result<Bytes> {
        let mut held = BytesMut::zeroed(self.holds);
        let mut read = 0;
        while read < held.len() {
            match rustix::io::read(&self.reader, &mut held[read..])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => read += count,
            }
        }
        self.holds = 0;
        Ok(held.freeze())
    }
}

fn is_again(moved: &Result<usize>) -> bool {
    use std::io::ErrorKind::{Interrupted, WouldBlock};
    matches!(moved, Err(error) if matches!(error.kind(), WouldBlock | Interrupted))
}

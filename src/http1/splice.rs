//! Large bodies moved from socket to socket inside the kernel.
//!
//! What nobody here looks at need not come into memory: with `splice(2)` a pipe holds the pages that one
//! socket has received until the other sends them. Of what a large body costs, two copies go away.
//!
//! # Rules
//! - A pipe is filled only when it is empty, so that "would block" always speaks of the socket.
//! - The last [`TAIL_BYTES`] of a body are read as ever: its end, and whatever waits for that, is
//!   known in one place only.
//! - Where the kernel refuses, the body goes on as it would without this, with nothing lost.
//!
//! # Limits
//! Linux, TCP without TLS on both sides. Each body under way takes two descriptors, of all that the process may have
//! a quarter at most and never more than 1024, and as many pages as a pipe has room for (`pipe(7)`: 16 pieces), which
//! belong to the socket they came from. Where the system gives only smaller pipes (its own limit for
//! a user's pipes), bodies are read: small pipes would cost more than they save.

#[cfg_attr(not(target_os = "linux"), path = "splice/no_pipe.rs")]
mod pipe;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::io::Result;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use tokio::io::AsyncWrite;

pub use pipe::Pipe;

/// Bodies of which less is left are not worth a pipe.
pub const BYTES_MIN: u64 = 128 * 1024;
/// What is left to be read at the end.
pub const TAIL_BYTES: u64 = 16 * 1024;

/// A body whose bytes may stand in a socket, unchanged.
pub trait SpliceBody: Body<Data = Bytes> {
    /// Can it be moved, as far as it is up to this side?
    fn splices(&self) -> bool {
        false
    }

    /// Moves at most `max` bytes into an empty pipe. `None`: the next piece is taken as ever; where the kernel
    /// has refused, all of them.
    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<std::result::Result<usize, Self::Error>>> {
        let _ = (context, pipe, max);
        Poll::Ready(None)
    }
}

/// A transport that may be a socket.
pub trait SpliceSink: AsyncWrite {
    /// Is it one, and nothing stands between it and who writes?
    fn splices(&self) -> bool {
        false
    }

    /// Sends from the pipe as much as goes.
    ///
    /// # Errors
    /// Those of the socket; of one that cannot do it, [`refuses`] is true.
    fn poll_splice(&mut self, context: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize>> {
        let _ = (context, pipe);
        Poll::Ready(Err(std::io::ErrorKind::Unsupported.into()))
    }
}

impl SpliceBody for Full<Bytes> {}

/// Does the error say that this cannot be done here at all (another kernel, a filter of system calls)?
pub fn refuses(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

//! Where there is no `splice(2)`.

use std::convert::Infallible;
use std::io::Result;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpStream;

/// There is none.
#[derive(Debug)]
pub struct Pipe(Infallible);

#[allow(missing_docs, clippy::missing_errors_doc, reason = "nobody has one")]
impl Pipe {
    pub fn new() -> Option<Self> {
        None
    }

    pub fn holds(&self) -> usize {
        match self.0 {}
    }

    pub fn is_refused(&self) -> bool {
        match self.0 {}
    }

    pub fn poll_fill(
        &mut self,
        _: &TcpStream,
        _: usize,
        _: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        match self.0 {}
    }

    pub fn poll_drain(&mut self, _: &TcpStream, _: &mut Context<'_>) -> Poll<Result<usize>> {
        match self.0 {}
    }

    pub fn drain_now(&mut self, _: &TcpStream) -> Result<usize> {
        match self.0 {}
    }

    pub fn take(&mut self) -> Result<Bytes> {
        match self.0 {}
    }
}

//! The transport below: TCP, or TLS over it, and how many bytes it has moved.

use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http1::splice::{Pipe, SpliceSink};

/// A transport.
pub(in super::super) struct Io {
    over: Over,
    moved: u64,
    blocked: bool,
}

/// TLS is boxed: it is large, and connections move between requests.
enum Over {
    Plain(TcpStream),
    Tls(Box<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>),
}

impl Io {
    /// Bytes of both directions so far.
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    /// Does the other side take no more for now?
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    fn wrote(&mut self, polled: Poll<Result<usize>>) -> Poll<Result<usize>> {
        self.blocked = polled.is_pending();
        if let Poll::Ready(Ok(written)) = polled {
            self.moved += u64::try_from(written).unwrap_or(0);
        }
        polled
    }
}

impl Io {
    /// Moves at most `max` bytes that were received into the pipe. `None`: there is TLS over them.
    pub(super) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize>>> {
        let Over::Plain(stream) = &self.over else { return Poll::Ready(None) };
        pipe.poll_fill(stream, max, context).map(|moved| {
            Some(moved.inspect(|moved| self.moved += u64::try_from(*moved).unwrap_or(0)))
        })
    }
}

impl SpliceSink for Io {
    fn splices(&self) -> bool {
        matches!(self.over, Over::Plain(_))
    }

    fn poll_splice(&mut self, context: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize>> {
        let Over::Plain(stream) = &self.over else {
            return Poll::Ready(Err(ErrorKind::Unsupported.into()));
        };
        let polled = pipe.poll_drain(stream, context);
        self.wrote(polled)
    }
}

impl From<MaybeHttpsStream<TokioIo<TcpStream>>> for Io {
    fn from(stream: MaybeHttpsStream<TokioIo<TcpStream>>) -> Self {
        let over = match stream {
            MaybeHttpsStream::Http(plain) => Over::Plain(plain.into_inner()),
            tls @ MaybeHttpsStream::Https(_) => Over::Tls(Box::new(TokioIo::new(tls))),
        };
        Self { over, moved: 0, blocked: false }
    }
}

macro_rules! over {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.over {
            Over::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Over::Tls(io) => {
                let $io = Pin::new(&mut **io);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = over!(self, io => io.poll_read(context, buffer));
        self.moved += u64::try_from(buffer.filled().len() - before).unwrap_or(0);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        let polled = over!(self, io => io.poll_write(context, data));
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = over!(self, io => io.poll_flush(context));
        self.blocked = polled.is_pending();
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        over!(self, io => io.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = over!(self, io => io.poll_write_vectored(context, slices));
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.over {
            Over::Plain(io) => io.is_write_vectored(),
            Over::Tls(io) => io.is_write_vectored(),
        }
    }
}

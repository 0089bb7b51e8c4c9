//! A client's connection, which is given up when the client does not take what it asked for.
//!
//! A `GET` that nobody reads would hold a connection to main, and what is buffered on both sides,
//! for as long as the client likes. As with its body ([`super::patience`]) only the time spent
//! waiting for the client counts, and bytes now and then are not enough. The end is a reset: no
//! client can take it for the end of the object, and the system keeps no buffer for it.
//!
//! Works on the socket itself, below TLS.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::patience::Patience;
use crate::http1::splice::Pipe;

/// The connection of one client.
#[derive(Debug)]
pub(super) struct ClientSocket {
    stream: TcpStream,
    patience: Patience,
}

impl ClientSocket {
    /// A connection whose client may keep writes waiting for so long.
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience: Patience::new(patience) }
    }

    /// Makes the end of the connection a reset.
    pub(super) fn break_off(&self) {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection cannot be reset");
        }
    }

    /// Moves at most `max` bytes that the client has sent.
    pub(super) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Result<usize>> {
        pipe.poll_fill(&self.stream, max, context)
    }

    /// Sends what is in the pipe.
    pub(super) fn poll_drain(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize>> {
        let polled = pipe.poll_drain(&self.stream, context);
        self.sent(context, polled, |stream| pipe.drain_now(stream))
    }

    /// What becomes of a write of `bytes`.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        polled: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        self.sent(context, polled, |stream| SockRef::from(stream).send(bytes))
    }

    /// What becomes of a write that is done `again` when the time is up.
    fn sent(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Result<usize>>,
        again: impl FnOnce(&TcpStream) -> Result<usize>,
    ) -> Poll<Result<usize>> {
        match polled {
            Poll::Ready(Ok(count)) => {
                self.patience.received(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.patience.poll_lost(context));
                Poll::Ready(self.last_try(again))
            }
        }
    }

    /// The time is up. A system wakes a writer only when a good part of its buffer is free, which may
    /// be megabytes, so a client behind a slow line may have taken much without anybody hearing of
    /// it: the socket is asked directly.
    fn last_try(&mut self, again: impl FnOnce(&TcpStream) -> Result<usize>) -> Result<usize> {
        match again(&self.stream) {
            Ok(count) => {
                self.patience.received(count);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                Err(Error::new(ErrorKind::TimedOut, "the client does not take its answer"))
            }
            Err(error) => Err(error),
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, bytes, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        let first = pieces.iter().find(|piece| !piece.is_empty());
        this.written(context, first.map_or(&[], |piece| &**piece), polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_millis(200);

    async fn pair(limit: Duration) -> (ClientSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (ClientSocket::new(stream, limit), client)
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_reset() {
        let (mut server, mut client) = pair(LIMIT).await;
        let endless = vec![0; 64 << 20];
        let failed = server.write_all(&endless).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        drop(server);
        let mut taken = Vec::new();
        let end = client.read_to_end(&mut taken).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }

    /// More is on its way than the writer can be told of in time: a third of its buffer has to be
    /// free before it is woken.
    #[tokio::test]
    async fn a_client_that_reads_slowly_gets_everything() {
        let (mut server, mut client) = pair(LIMIT).await;
        let all = vec![7; 12 << 20];
        let (written, taken) = tokio::join!(server.write_all(&all), async {
            let mut taken = 0;
            let mut piece = vec![0; 64 << 10];
            while taken < all.len() {
                if taken < 2 << 20 {
                    tokio::time::sleep(LIMIT / 5).await;
                }
                taken += client.read(&mut piece).await.unwrap();
            }
            taken
        });
        written.unwrap();
        assert_eq!(taken, all.len());
    }
}

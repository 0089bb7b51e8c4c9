//! A client's connection, shared by who answers on it and who reads the body of its request.

use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::http1::WireError;
use crate::http1::receive::{Framing, Receiving};
use crate::http1::splice::{Pipe, SpliceSink};
use crate::proxy::socket::ClientSocket;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The transport. TLS is boxed: it is large, and most connections have none.
pub(in super::super) enum ClientIo {
    Plain(ClientSocket),
    Tls(Box<TlsStream<ClientSocket>>),
}

impl ClientIo {
    /// Makes the end of the connection a reset, which no client takes for the end of a body.
    fn break_off(&self) {
        match self {
            Self::Plain(socket) => socket.break_off(),
            Self::Tls(stream) => stream.get_ref().0.break_off(),
        }
    }
}

macro_rules! over {
    ($io:expr, $name:ident => $call:expr) => {
        match $io {
            ClientIo::Plain(io) => {
                let $name = Pin::new(io);
                $call
            }
            ClientIo::Tls(io) => {
                let $name = Pin::new(&mut **io);
                $call
            }
        }
    };
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        over!(self.get_mut(), io => io.poll_read(context, buffer))
    }
}

/// A handle on a connection. Locked for single reads and writes only: bodies are polled outside, since the
/// one that is sent may be waiting for the one that is received.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    io: ClientIo,
    /// Read and not yet used.
    buffer: BytesMut,
    /// The body of the present request.
    receiving: Receiving,
    /// Does the client wait for `100 Continue`? So many of its bytes are written.
    go_on: Option<usize>,
    /// Is somebody reading the body?
    held: bool,
    /// Who waits until nobody is.
    waiting: Option<Waker>,
}

impl Wire {
    pub(super) fn new(io: ClientIo) -> Self {
        Self(Arc::new(Mutex::new(State {
            io,
            buffer: BytesMut::new(),
            receiving: Receiving::new(Framing::None),
            go_on: None,
            held: false,
            waiting: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing inside can be left half-changed by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads into `scratch`. For whoever has nothing left from before.
    pub(super) fn poll_more(
        &self,
        context: &mut Context<'_>,
        scratch: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.state().io).poll_read(context, scratch)
    }

    /// What has been read and not used, taken out.
    pub(super) fn take_unused(&self) -> BytesMut {
        std::mem::take(&mut self.state().buffer)
    }

    /// Leaves what is not used yet.
    pub(super) fn leave(&self, unused: BytesMut) {
        self.state().buffer = unused;
    }

    /// Is there anything that has been read and not used?
    pub(super) fn has_unused(&self) -> bool {
        !self.state().buffer.is_empty()
    }

    /// The body of the next request. `waits`: its client wants to be told to go on.
    pub(super) fn body(&self, framing: Framing, waits: bool) -> Http1Body {
        let mut state = self.state();
        state.receiving = Receiving::new(framing);
        state.go_on = waits.then_some(0);
        let ended = state.receiving.ended();
        state.held = !ended;
        drop(state);
        Http1Body((!ended).then(|| self.clone()))
    }

    /// Can nothing follow on this connection, since the body has not come and will not come?
    pub(super) fn is_stuck(&self) -> bool {
        let state = self.state();
        !state.receiving.ended() && (!state.held || state.go_on.is_some())
    }

    /// Resolves when nobody reads the body any more. True: it came to its end.
    pub(super) fn poll_released(&self, context: &Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.held {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(state.receiving.ended())
    }

    /// Makes the end of the connection a reset.
    pub(super) fn break_off(&self) {
        self.state().io.break_off();
    }
}

/// Each call locks for itself alone.
impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.poll_more(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        over!(&mut self.state().io, io => io.poll_write(context, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        over!(&mut self.state().io, io => io.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.state().io {
            ClientIo::Plain(io) => io.is_write_vectored(),
            ClientIo::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.state().io {
            // Nothing is kept back.
            ClientIo::Plain(_) => Poll::Ready(Ok(())),
            ClientIo::Tls(io) => Pin::new(&mut **io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        over!(&mut self.state().io, io => io.poll_shutdown(context))
    }
}

impl SpliceSink for Wire {
    fn splices(&self) -> bool {
        matches!(self.state().io, ClientIo::Plain(_))
    }

    fn poll_splice(&mut self, context: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize>> {
        match &mut self.state().io {
            ClientIo::Plain(socket) => socket.poll_drain(context, pipe),
            ClientIo::Tls(_) => Poll::Ready(Err(ErrorKind::Unsupported.into())),
        }
    }
}

impl State {
    /// Tells the client to go on, if it waits for that.
    fn poll_go_on(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(written) = self.go_on {
            let rest = CONTINUE.get(written..).unwrap_or_default();
            // A client that sends already does not wait.
            if rest.is_empty() || (written == 0 && !self.buffer.is_empty()) {
                self.go_on = None;
                break;
            }
            let count = ready!(over!(&mut self.io, io => io.poll_write(context, rest)))?;
            self.go_on = Some(written + count.max(1));
        }
        over!(&mut self.io, io => io.poll_flush(context))
    }
}

/// The body of a request.
pub(in super::super) struct Http1Body(Option<Wire>);

impl Http1Body {
    pub(in super::super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, WireError>>> {
        let Some(wire) = &self.0 else { return Poll::Ready(None) };
        let mut state = wire.state();
        let state = &mut *state;
        if state.go_on.is_some()
            && let Err(error) = ready!(state.poll_go_on(context))
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        let polled = state.receiving.poll(&mut state.io, &mut state.buffer, context);
        polled.map(|data| data.map(|data| data.map(Frame::data)))
    }

    /// Does it come through a socket alone, and how much of it is known?
    pub(in super::super) fn splices(&self) -> bool {
        self.0.as_ref().is_some_and(|wire| {
            let state = wire.state();
            matches!(state.io, ClientIo::Plain(_)) && state.receiving.left().is_some()
        })
    }

    /// Moves at most `max` bytes into the pipe, if they can be moved now.
    pub(in super::super) fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<std::result::Result<usize, WireError>>> {
        let Some(wire) = &self.0 else { return Poll::Ready(None) };
        let mut state = wire.state();
        let State { io: ClientIo::Plain(socket), buffer, receiving, go_on: None, .. } = &mut *state
        else {
            return Poll::Ready(None);
        };
        let Some(max) = receiving.movable(buffer, max) else { return Poll::Ready(None) };
        socket.poll_fill(context, pipe, max).map(|moved| receiving.moved(moved))
    }

    pub(in super::super) fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|wire| wire.state().receiving.ended())
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        let Some(wire) = self.0.take() else { return };
        let mut state = wire.state();
        state.held = false;
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

//! Real sockets, because that is what the kernel moves bytes between.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;

use bytes::BytesMut;
use http_body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http1::WireError;
use crate::http1::receive::{Framing, Receiving};
use crate::http1::send::{Length, Sending};

/// A body that stands in a socket.
struct Standing {
    stream: TcpStream,
    receiving: Receiving,
    buffer: BytesMut,
    moved: usize,
}

impl Standing {
    fn new(stream: TcpStream, bytes: usize) -> Self {
        let receiving = Receiving::new(Framing::Length(u64::try_from(bytes).unwrap()));
        Self { stream, receiving, buffer: BytesMut::new(), moved: 0 }
    }
}

impl Body for &mut Standing {
    type Data = Bytes;
    type Error = WireError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, WireError>>> {
        let this = &mut **self;
        let polled = this.receiving.poll(&mut this.stream, &mut this.buffer, context);
        polled.map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.ended()
    }
}

impl SpliceBody for &mut Standing {
    fn splices(&self) -> bool {
        true
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<std::result::Result<usize, WireError>>> {
        let Some(max) = self.receiving.movable(&self.buffer, max) else {
            return Poll::Ready(None);
        };
        let polled = pipe.poll_fill(&self.stream, max, context);
        polled.map(|moved| {
            self.moved += *moved.as_ref().unwrap();
            self.receiving.moved(moved)
        })
    }
}

/// A socket that can be sent to from a pipe, or says that it cannot.
struct Outlet {
    stream: TcpStream,
    refuses: bool,
}

impl SpliceSink for Outlet {
    fn splices(&self) -> bool {
        true
    }

    fn poll_splice(&mut self, context: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize>> {
        if self.refuses {
            return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
        }
        pipe.poll_drain(&self.stream, context)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn random_bytes(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(11);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

/// Sends `given` of `announced` bytes from socket to socket; what came out, how it ended, and how
/// much of it was moved.
async fn passed_on(
    given: &[u8],
    announced: usize,
    refuses: bool,
) -> (Vec<u8>, std::result::Result<(), WireError>, usize) {
    let ((mut client, from), (into, mut service)) = (pair().await, pair().await);
    let mut body = Standing::new(from, announced);
    let sending = async {
        let exact = Length::Exact(u64::try_from(announced).unwrap());
        let mut io = Outlet { stream: into, refuses };
        let mut sending = Sending::new(BytesMut::from("HEAD"), &mut body, exact);
        poll_fn(|context| sending.poll(&mut io, context)).await
    };
    let feeding = async move {
        let mut random = fastrand::Rng::with_seed(12);
        let mut rest = given;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..400_000).min(rest.len()));
            client.write_all(piece).await.unwrap();
            rest = behind;
            tokio::task::yield_now().await;
        }
    };
    let taking = async move {
        let mut taken = Vec::new();
        let mut space = vec![0; 50_000];
        while let Ok(count @ 1..) = service.read(&mut space).await {
            taken.extend_from_slice(&space[..count]);
            tokio::task::yield_now().await;
        }
        taken
    };
    let (result, (), taken) = tokio::join!(sending, feeding, taking);
    (taken, result, body.moved)
}

#[tokio::test]
async fn a_large_body_arrives_whole_and_all_but_its_ends_is_moved() {
    for bytes in [300_000, 1 << 20, (5 << 20) + 1] {
        let given = random_bytes(bytes);
        let (taken, result, moved) = passed_on(&given, bytes, false).await;
        result.unwrap();
        assert!(taken == [b"HEAD", &given[..]].concat(), "{bytes}");
        // The first piece goes with the head.
        assert!(moved > bytes / 10 && moved < bytes, "{moved} of {bytes}");
    }
}

#[tokio::test]
async fn where_the_kernel_refuses_nothing_is_lost() {
    let given = random_bytes(3 << 20);
    let (taken, result, moved) = passed_on(&given, given.len(), true).await;
    result.unwrap();
    assert!(taken == [b"HEAD", &given[..]].concat());
    assert!(moved > 0, "what was in the pipe already is read out of it");
}

#[tokio::test]
async fn a_body_that_breaks_off_while_it_is_moved_is_no_end() {
    let given = random_bytes(2 << 20);
    let (taken, result, moved) = passed_on(&given, 3 << 20, false).await;
    assert!(matches!(result, Err(WireError::Body(_))), "{result:?}");
    assert!(taken == [b"HEAD", &given[..]].concat() && moved > 0);
}

#[tokio::test]
async fn small_bodies_are_read() {
    let given = random_bytes(usize::try_from(BYTES_MIN).unwrap() - 1);
    let (taken, result, moved) = passed_on(&given, given.len(), false).await;
    result.unwrap();
    assert!(taken == [b"HEAD", &given[..]].concat() && moved == 0);
}

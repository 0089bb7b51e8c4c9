//! Accepting connections, serving them, and letting them finish.
//!
//! One thread per core, each with a runtime and a pool of upstream connections of its own: a
//! request stays on the core that its connection was given to, from the client's socket to
//! main's and back, and wakes nobody else. Connections are dealt out in turn.
//!
//! Over TLS a connection may speak HTTP/2 (`super::http2`); all else is HTTP/1.1 (`super::http1`).
//!
//! A connection without a request, or with a slow head of one, is closed after `CLIENT_TIMEOUT_SECONDS`;
//! so is one whose client does not take its answer (`super::socket`).

use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::http1::ClientIo;
use super::socket::ClientSocket;
use super::tls::{HTTP2, Tls};
use super::{Proxy, http1, http2};

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Accepted connections that wait for their core.
const BACKLOG: usize = 1024;

/// A core: it takes connections until the sender is gone, then lets them finish.
struct Core {
    connections: mpsc::Sender<TcpStream>,
    finished: oneshot::Receiver<bool>,
    thread: JoinHandle<()>,
}

/// Serves until `stop` resolves, on one core per proxy; then stops accepting and waits, at most
/// `grace`, until the requests under way have ended. Returns whether they all had.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    proxies: Vec<Proxy>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> std::io::Result<bool> {
    let cores: Vec<Core> = proxies
        .into_iter()
        .enumerate()
        .map(|(number, proxy)| Core::start(number, proxy, tls.clone(), grace))
        .collect::<Result<_, _>>()?;
    let mut stop = std::pin::pin!(stop);
    let mut turn = cores.iter().cycle();
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        // Dealing out means leaving this runtime's reactor for that of the core.
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                if let Some(core) = turn.next()
                    && core.connections.send(stream).await.is_err()
                {
                    tracing::error!("a core has stopped");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let mut all = true;
    let waiting: Vec<_> = cores
        .into_iter()
        .map(|core| {
            drop(core.connections);
            (core.finished, core.thread)
        })
        .collect();
    for (finished, thread) in waiting {
        all &= finished.await.unwrap_or(false);
        if thread.join().is_err() {
            tracing::error!("a core ended with a panic");
        }
    }
    Ok(all)
}

impl Core {
    fn start(
        number: usize,
        proxy: Proxy,
        tls: Option<Tls>,
        grace: Duration,
    ) -> std::io::Result<Self> {
        let (connections, arriving) = mpsc::channel(BACKLOG);
        let (done, finished) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("s3-{number}")).spawn(move || {
            let all = runtime.block_on(run(Arc::new(proxy), tls, arriving, grace));
            // Tasks that are left are cut off here; their intents settle as unknown.
            drop(runtime);
            if done.send(all).is_err() {
                tracing::debug!("nobody waits for this core");
            }
        })?;
        Ok(Self { connections, finished, thread })
    }
}

async fn run(
    proxy: Arc<Proxy>,
    tls: Option<Tls>,
    mut arriving: mpsc::Receiver<TcpStream>,
    grace: Duration,
) -> bool {
    // Sends when connections shall end, is closed when they have.
    let (stop, stopping) = watch::channel(());
    while let Some(stream) = arriving.recv().await {
        let stream =
            stream.set_nodelay(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection is gone before it was served");
                continue;
            }
        };
        let stream = ClientSocket::new(stream, proxy.client_timeout);
        let (proxy, stopping) = (proxy.clone(), stopping.clone());
        let Some(tls) = tls.clone() else {
            tokio::spawn(http1::serve(proxy, ClientIo::Plain(stream), stopping));
            continue;
        };
        tokio::spawn(async move {
            match tls.accept(stream).await {
                Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => {
                    http2::serve(proxy, stream, stopping).await;
                }
                Ok(stream) => {
                    http1::serve(proxy, ClientIo::Tls(Box::new(stream)), stopping).await;
                }
                Err(error) => tracing::debug!(%error, "no TLS with a client"),
            }
        });
    }
    drop(stopping);
    stop.send_replace(());
    tokio::time::timeout(grace, stop.closed()).await.is_ok()
}

//! A client for measurements: plain HTTP/1.1 over kept-alive connections, each with one request
//! under way at a time. Bodies are sent from, and received into, one fixed buffer, so a load of
//! gigabytes costs this process next to nothing.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bodies are written in pieces of this size.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// Longest head of a response.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a request carries.
#[derive(Debug, Clone)]
pub enum Payload {
    /// So many zero bytes.
    Zeros(u64),
    /// These bytes.
    Bytes(Bytes),
}

impl Payload {
    fn length(&self) -> u64 {
        match self {
            Self::Zeros(length) => *length,
            Self::Bytes(bytes) => as_u64(bytes.len()),
        }
    }
}

/// Requests to be repeated.
#[derive(Debug, Clone)]
pub struct Job {
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// Path; every request of a `PUT` job gets a number appended to it, so that keys differ.
    pub path: String,
    /// Header lines, each ended by CR LF.
    pub headers: String,
    /// Body of each request.
    pub payload: Payload,
    /// Connections.
    pub connections: usize,
    /// No request begins after this time.
    pub duration: Duration,
    /// Requests per second over all connections; as fast as possible without it.
    pub rate: Option<f64>,
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests answered with a success.
    pub requests: u64,
    /// Requests answered with anything else, and connections that failed.
    pub errors: u64,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Latencies, ascending.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// The latency that `percent` of the requests did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default()
    }
}

/// Runs a job.
pub async fn run(address: SocketAddr, job: Job) -> Report {
    let job = Arc::new(job);
    let numbers = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut connections = JoinSet::new();
    for at in 0..job.connections {
        connections.spawn(repeat(address, job.clone(), numbers.clone(), start, at));
    }
    let mut whole = Report::default();
    while let Some(part) = connections.join_next().await {
        let part = part.unwrap_or_else(|_| Report { errors: 1, ..Report::default() });
        whole.requests += part.requests;
        whole.errors += part.errors;
        whole.bytes += part.bytes;
        whole.latencies.extend(part.latencies);
    }
    whole.took = start.elapsed();
    whole.latencies.sort_unstable();
    whole
}

async fn repeat(
    address: SocketAddr,
    job: Arc<Job>,
    numbers: Arc<AtomicU64>,
    start: Instant,
    at: usize,
) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    let mut due = start;
    let pause = job.rate.map(|rate| {
        let connections = u32::try_from(job.connections).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(connections) / rate)
    });
    if let Some(pause) = pause {
        // The connections take turns.
        let turn = u32::try_from(at).unwrap_or(0);
        due += pause * turn / u32::try_from(job.connections).unwrap_or(1).max(1);
    }
    loop {
        if let Some(pause) = pause {
            tokio::time::sleep_until(due).await;
            due += pause;
        }
        if start.elapsed() >= job.duration {
            return report;
        }
        let began = Instant::now();
        let path = match job.method {
            "PUT" => format!("{}{}", job.path, numbers.fetch_add(1, Ordering::Relaxed)),
            _ => job.path.clone(),
        };
        match once(&mut connection, address, &job, &path).await {
            Ok((status, bytes)) if (200..300).contains(&status) => {
                report.requests += 1;
                report.bytes += bytes;
                report.latencies.push(began.elapsed());
            }
            _ => {
                report.errors += 1;
                connection = None;
            }
        }
    }
}

async fn once(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    job: &Job,
    path: &str,
) -> Result<(u16, u64)> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(Connection::open(address).await?),
    };
    connection.request(job.method, path, &job.headers, &job.payload).await
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ZEROS.len()] })
    }

    /// The connection without its buffer, to be kept open.
    pub fn idle(self) -> TcpStream {
        self.stream
    }

    /// Sends a request and reads its answer to the end; returns the status and the bytes of both
    /// bodies.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        payload: &Payload,
    ) -> Result<(u16, u64)> {
        let length = payload.length();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}");
        if method != "GET" {
            head.push_str("Content-Length: ");
            head.push_str(&length.to_string());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        match payload {
            Payload::Bytes(bytes) => self.stream.write_all(bytes).await?,
            Payload::Zeros(_) => {
                let mut left = length;
                while left > 0 {
                    let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                    self.stream.write_all(&ZEROS[..piece]).await?;
                    left -= as_u64(piece);
                }
            }
        }
        let (status, received) = self.answer().await?;
        Ok((status, length + received))
    }

    /// Reads an answer that has a `Content-Length`, or has no body.
    async fn answer(&mut self) -> Result<(u16, u64)> {
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let seen = &self.buffer[..filled];
            if let Some(at) = seen.windows(4).take(HEAD_BYTES_MAX).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if filled >= HEAD_BYTES_MAX {
                return Err(malformed("the head is too long"));
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| malformed("no status"))?;
        let length =
            lines.find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: u64 = match length {
            Some(length) => length,
            None if status == 204 => 0,
            None => return Err(malformed("no content-length")),
        };
        let mut left = length
            .checked_sub(as_u64(filled - end))
            .ok_or_else(|| malformed("more than was announced"))?;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = self.stream.read(&mut self.buffer[..room]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            left -= as_u64(read);
        }
        Ok((status, length))
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

//! What is measured, and one measurement.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;

use crate::Fault;
use crate::load::{self, Job, Payload};
use crate::peers::Peer;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// A measurement with more errors than one in so many requests is worth nothing. Fewer are told
/// below the table.
const ERRORS_ONE_IN: u64 = 1000;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    /// A `PUT` in the framing of the AWS SDKs: unsigned chunks, CRC-32 in the trailer.
    PutChunked,
}

/// A row of measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) connections: usize,
}

impl Scenario {
    /// Is its figure MiB/s, and its CPU time per GiB?
    pub(crate) fn large(&self) -> bool {
        self.size >= MIB
    }

    pub(crate) fn writes(&self) -> bool {
        self.kind != Kind::Get
    }
}

const fn get(name: &'static str, size: u64, connections: usize) -> Scenario {
    Scenario { name, kind: Kind::Get, size, connections }
}

const fn put(name: &'static str, size: u64, connections: usize) -> Scenario {
    Scenario { name, kind: Kind::Put, size, connections }
}

/// All of them, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    get("GET 1 KiB, 1 connection", KIB, 1),
    get("GET 1 KiB, 64 connections", KIB, 64),
    get("GET 1 KiB, 512 connections", KIB, 512),
    get("GET 64 KiB, 1 connection", 64 * KIB, 1),
    get("GET 64 KiB, 64 connections", 64 * KIB, 64),
    get("GET 64 KiB, 512 connections", 64 * KIB, 512),
    get("GET 64 MiB, 8 connections", 64 * MIB, 8),
    put("PUT 1 KiB, 1 connection", KIB, 1),
    put("PUT 1 KiB, 64 connections", KIB, 64),
    put("PUT 1 KiB, 512 connections", KIB, 512),
    put("PUT 64 KiB, 1 connection", 64 * KIB, 1),
    put("PUT 64 KiB, 64 connections", 64 * KIB, 64),
    put("PUT 64 KiB, 512 connections", 64 * KIB, 512),
    put("PUT 16 MiB, 8 connections", 16 * MIB, 8),
    Scenario {
        name: "PUT aws-chunked 1 MiB, 8 connections",
        kind: Kind::PutChunked,
        size: MIB,
        connections: 8,
    },
];

/// What `--quick` compares: small reads, small writes, large reads, large writes.
pub(crate) const QUICK: [&str; 4] = [
    "GET 1 KiB, 64 connections",
    "PUT 1 KiB, 64 connections",
    "GET 64 MiB, 8 connections",
    "PUT 16 MiB, 8 connections",
];

/// One measurement of one peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the peer while the load ran; zero for the stub.
    pub(crate) cpu: Duration,
    /// The same until its backlog had drained.
    pub(crate) cpu_drained: Duration,
    /// From the end of the load until the backlog had drained.
    pub(crate) drain: Duration,
    pub(crate) resident_kib: u64,
}

/// Loads a peer for `duration` and measures.
pub(crate) async fn measure(
    scenario: &Scenario,
    peer: &Peer,
    duration: Duration,
    scripts: &Path,
) -> Result<Sample, Fault> {
    let cpu = || peer.process.as_ref().map(crate::process::Process::cpu).unwrap_or_default();
    let before = cpu();
    let mut sample = match scenario.kind {
        // wrk sends a body in one piece from Lua, and forgets transfers that are cut short by the
        // end of a run; our own client streams and lets them finish.
        _ if scenario.large() => own(scenario, peer, duration).await,
        _ => wrk(scenario, peer, duration, scripts).await?,
    };
    sample.cpu = cpu().saturating_sub(before);
    sample.resident_kib = peer.process.as_ref().map_or(0, crate::process::Process::resident_kib);
    let ended = tokio::time::Instant::now();
    if scenario.writes() {
        peer.drained().await?;
    }
    sample.drain = ended.elapsed();
    sample.cpu_drained = cpu().saturating_sub(before);
    if sample.errors * ERRORS_ONE_IN > sample.requests || sample.requests == 0 {
        let (errors, requests) = (sample.errors, sample.requests);
        return Err(format!(
            "{}, {}: {errors} errors beside {requests} requests",
            scenario.name, peer.name
        )
        .into());
    }
    Ok(sample)
}

/// A word for keys that no other run has used.
fn unique() -> String {
    format!("{:016x}", fastrand::u64(..))
}

async fn own(scenario: &Scenario, peer: &Peer, duration: Duration) -> Sample {
    let mut headers = "Content-Type: application/octet-stream\r\n".to_owned();
    let payload = if scenario.kind == Kind::PutChunked {
        headers.push_str(
            "Content-Encoding: aws-chunked\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\n\
             X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\
             X-Amz-Decoded-Content-Length: ",
        );
        headers.push_str(&scenario.size.to_string());
        headers.push_str("\r\n");
        Payload::Bytes(chunked(scenario.size))
    } else {
        Payload::Zeros(if scenario.writes() { scenario.size } else { 0 })
    };
    let (method, path) = if scenario.writes() {
        ("PUT", format!("/bench/{}/{}-", scenario.size, unique()))
    } else {
        ("GET", format!("/bench/{}/x", scenario.size))
    };
    let report = load::run(
        peer.address,
        Job {
            method,
            path,
            headers,
            payload,
            connections: scenario.connections,
            duration,
            rate: None,
        },
    )
    .await;
    Sample {
        requests: report.requests,
        errors: report.errors,
        bytes: report.requests * scenario.size,
        took: report.took,
        p50: report.percentile(50),
        p99: report.percentile(99),
        cpu: Duration::ZERO,
        cpu_drained: Duration::ZERO,
        drain: Duration::ZERO,
        resident_kib: 0,
    }
}

/// A body of zeros in chunks of 64 KiB, as the AWS SDKs send it.
pub(crate) fn chunked(size: u64) -> Bytes {
    const CHUNK: usize = 64 * 1024;
    let data = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut body = BytesMut::with_capacity(data.len() + data.len() / CHUNK * 16 + 128);
    for chunk in data.chunks(CHUNK) {
        body.put_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.put_slice(chunk);
        body.put_slice(b"\r\n");
    }
    let checksum = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, &data);
    let checksum = u32::try_from(checksum).unwrap_or_default().to_be_bytes();
    let checksum = base64::engine::general_purpose::STANDARD.encode(checksum);
    body.put_slice(format!("0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n").as_bytes());
    body.freeze()
}

async fn wrk(
    scenario: &Scenario,
    peer: &Peer,
    duration: Duration,
    scripts: &Path,
) -> Result<Sample, Fault> {
    let mut command = Command::new("wrk");
    command
        .arg(format!("-t{}", scenario.connections.min(2)))
        .arg(format!("-c{}", scenario.connections))
        .arg(format!("-d{}s", duration.as_secs().max(1)))
        .args(["--timeout", "30s"])
        .arg("-s")
        .arg(scripts.join(if scenario.writes() { "put.lua" } else { "report.lua" }))
        .arg(format!("http://{}/bench/{}/x", peer.address, scenario.size))
        .stderr(Stdio::inherit());
    if scenario.writes() {
        command.arg("--").arg(scenario.size.to_string()).arg(unique());
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| format!("wrk did not report: {error}\n{text}"))?;
    let figure = |name: &str| report[name].as_u64().unwrap_or(0);
    let requests = figure("requests");
    let kinds = report["errors"].as_object().into_iter().flatten();
    let kinds = kinds.filter_map(|(kind, count)| Some((kind, count.as_u64()?)));
    let kinds: Vec<_> = kinds.filter(|(_, count)| *count > 0).collect();
    if !kinds.is_empty() {
        eprintln!("{}, {}: wrk counts errors of {kinds:?}", scenario.name, peer.name);
    }
    Ok(Sample {
        requests,
        errors: kinds.iter().map(|(_, count)| count).sum(),
        bytes: requests * scenario.size,
        took: Duration::from_micros(figure("duration_us")),
        p50: Duration::from_micros(figure("p50_us")),
        p99: Duration::from_micros(figure("p99_us")),
        cpu: Duration::ZERO,
        cpu_drained: Duration::ZERO,
        drain: Duration::ZERO,
        resident_kib: 0,
    })
}

/// Writes wrk's scripts to a directory.
pub(crate) fn write_scripts(directory: &Path) -> Result<(), Fault> {
    std::fs::write(directory.join("report.lua"), include_str!("report.lua"))?;
    let put = [include_str!("put.lua"), include_str!("report.lua")].join("\n");
    std::fs::write(directory.join("put.lua"), put)?;
    Ok(())
}

/// Is wrk there?
pub(crate) fn check_tools() -> Result<(), Fault> {
    let found = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.map(drop).map_err(|_| "wrk is missing; scripts/bench installs it".into())
}

//! What is not a rate of requests: starting, idling, living with a backlog, catching up.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::load::{self, Connection, Job, Payload};
use crate::peers::{self, Mode, Peer, Stubs};
use crate::process::Process;
use crate::table::{float, median};
use crate::{Fault, Options, http};

const IDLE_CONNECTIONS: u32 = 10_000;
/// Objects of the drain and inventory scenarios.
const DRAIN_OBJECTS: u64 = 50_000;

/// Runs those the filter leaves and prints them.
pub(crate) async fn measure(
    stubs: &Stubs,
    directory: &Path,
    options: &Options,
) -> Result<(), Fault> {
    let wanted = |name: &str| name.contains(&options.filter);
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        directory.join(format!("life-{number}"))
    };
    println!("\n### Life\n\n| | |\n|---|---:|");
    if wanted("start") {
        let mut times = Vec::new();
        let mut idle = 0.0;
        for _ in 0..5 {
            let (peer, took) = start(peers::PLAIN, stubs, &fresh()).await?;
            times.push(took.as_secs_f64() * 1e3);
            idle = resident_mib(&peer);
        }
        row("start to ready, empty journal, ms", median(times));
        row("resident memory at rest, MiB", idle);
    }
    if wanted("idle connections") {
        let (peer, _) = start(peers::PLAIN, stubs, &fresh()).await?;
        row("resident memory per idle connection, KiB", idle_connections(&peer).await?);
    }
    if wanted("replication latency") {
        replication_latency(stubs, &fresh()).await?;
    }
    for mode in [peers::PLAIN, peers::OVERLAP] {
        if wanted("drain") {
            drain(mode, stubs, &fresh()).await?;
        }
    }
    if wanted("inventory rows") {
        inventory_rows(stubs, &fresh()).await?;
    }
    if wanted("backlog") {
        backlog(stubs, &fresh(), options.backlog).await?;
    }
    Ok(())
}

fn row(what: &str, figure: f64) {
    println!("| {what} | {figure:.1} |");
}

fn resident_mib(peer: &Peer) -> f64 {
    peer.process.as_ref().map_or(0.0, |process| float(process.resident_kib()) / 1024.0)
}

fn cpu(peer: &Peer) -> Duration {
    peer.process.as_ref().map(Process::cpu).unwrap_or_default()
}

/// Starts an s3-mirror; how long it took until it was ready.
async fn start(mode: Mode, stubs: &Stubs, data: &Path) -> Result<(Peer, Duration), Fault> {
    let began = Instant::now();
    let peer = peers::s3_mirror(mode, stubs, data)?;
    let admin = peer.admin.ok_or("no admin port")?;
    while !http::ready(admin).await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((peer, began.elapsed()))
}

/// KiB that one more connection costs after it has been used once.
async fn idle_connections(peer: &Peer) -> Result<f64, Fault> {
    let mut connections = Vec::new();
    let mut before = 0.0;
    for number in 0..=IDLE_CONNECTIONS {
        if number == 1 {
            before = resident_mib(peer);
        }
        let mut connection = Connection::open(peer.address).await.map_err(|error| {
            format!(
                "connection {number}: {error}; `ulimit -n` must allow more than {IDLE_CONNECTIONS}"
            )
        })?;
        connection.request("GET", "/bench/1024/x", "", &Payload::Zeros(0)).await?;
        connections.push(connection.idle());
    }
    Ok((resident_mib(peer) - before) * 1024.0 / f64::from(IDLE_CONNECTIONS))
}

/// `PUT`s of 1 KiB to keys of their own over 64 connections.
fn writes(duration: Duration, rate: Option<f64>) -> Job {
    Job {
        method: "PUT",
        path: format!("/bench/1024/{:016x}-", fastrand::u64(..)),
        headers: "Content-Type: application/octet-stream\r\n".to_owned(),
        payload: Payload::Zeros(1024),
        connections: 64,
        duration,
        rate,
    }
}

/// Writes until an s3-mirror has accepted so many objects; how many it were.
async fn write_objects(peer: &Peer, objects: u64) -> Result<u64, Fault> {
    let mut written = 0;
    while written < objects {
        let report = load::run(peer.address, writes(Duration::from_secs(2), None)).await;
        if report.errors > 0 {
            return Err(format!("{} writes failed", report.errors).into());
        }
        written += report.requests;
    }
    Ok(written)
}

async fn replication_latency(stubs: &Stubs, data: &Path) -> Result<(), Fault> {
    let (peer, _) = start(peers::PLAIN, stubs, data).await?;
    let began = Instant::now();
    let report = load::run(peer.address, writes(Duration::from_secs(5), None)).await;
    peer.drained().await?;
    let saturation = float(report.requests) / began.elapsed().as_secs_f64();
    row("PUT 1 KiB, 64 connections: accepted and mirrored per second", saturation);
    drop(peer);
    // The histogram counts from the start of a process, so the half rate has one of its own.
    let (peer, _) = start(peers::PLAIN, stubs, &data.join("half")).await?;
    let report =
        load::run(peer.address, writes(Duration::from_secs(8), Some(saturation / 2.0))).await;
    peer.drained().await?;
    let text = http::metrics(peer.admin.ok_or("no admin port")?).await?;
    row("at half that rate: requests/s", float(report.requests) / report.took.as_secs_f64());
    row("at half that rate: PUT p99, ms", report.percentile(99).as_secs_f64() * 1e3);
    let bound = percentile_bound(&text, "s3_proxy_mirror_latency_seconds", 0.99);
    let bound = bound.ok_or("no histogram")?;
    row("at half that rate: replication latency p99 at most, ms", bound * 1e3);
    Ok(())
}

/// The bound of the bucket that holds a percentile of a Prometheus histogram.
fn percentile_bound(text: &str, name: &str, share: f64) -> Option<f64> {
    let prefix = format!("{name}_bucket{{le=\"");
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "))
        .filter_map(|(bound, count)| {
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        })
        .collect();
    let all = buckets.last()?.1;
    buckets.into_iter().find(|(_, count)| *count >= share * all).map(|(bound, _)| bound)
}

/// How fast a backlog reaches the mirror when no requests arrive.
async fn drain(mode: Mode, stubs: &Stubs, data: &Path) -> Result<(), Fault> {
    let (peer, _) = start(mode, stubs, data).await?;
    stubs.hold_mirror(true).await?;
    let written = write_objects(&peer, DRAIN_OBJECTS).await;
    stubs.hold_mirror(false).await?;
    let (written, before, began) = (float(written?), cpu(&peer), Instant::now());
    peer.drained().await?;
    let name = format!("drain of 1 KiB objects, {}", mode.name);
    row(&format!("{name}: objects/s"), written / began.elapsed().as_secs_f64());
    let used = cpu(&peer).saturating_sub(before).as_secs_f64() * 1e6;
    row(&format!("{name}: CPU µs per object"), used / written);
    Ok(())
}

async fn inventory_rows(stubs: &Stubs, data: &Path) -> Result<(), Fault> {
    let (peer, _) = start(peers::SQLITE, stubs, data).await?;
    let admin = peer.admin.ok_or("no admin port")?;
    let began = Instant::now();
    stubs.hold_mirror(true).await?;
    let written = write_objects(&peer, DRAIN_OBJECTS).await;
    while http::backlog(admin).await?.rows > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed().as_secs_f64();
    stubs.hold_mirror(false).await?;
    row("inventory rows in SQLite while objects are written: rows/s", float(written?) / took);
    peer.drained().await
}

/// Writes with a mirror that does not answer, then a crash, a restart, and the way back.
async fn backlog(stubs: &Stubs, data: &Path, objects: u64) -> Result<(), Fault> {
    let (mut peer, _) = start(peers::PLAIN, stubs, data).await?;
    stubs.hold_mirror(true).await?;
    let written = write_objects(&peer, objects).await;
    let name = format!("backlog of {:.0}", float(objects));
    row(&format!("{name}: resident memory while writing, MiB"), resident_mib(&peer));
    if let Some(process) = peer.process.take() {
        Process::kill(process);
    }
    let (peer, took) = start(peers::PLAIN, stubs, data).await?;
    row(&format!("{name}: start to ready after a crash, ms"), took.as_secs_f64() * 1e3);
    let admin = peer.admin.ok_or("no admin port")?;
    let found = http::backlog(admin).await?;
    let found = u64::try_from(found.operations + found.unsettled)?;
    let written = written?;
    if found < written {
        return Err(format!("{written} writes were accepted, the journal holds {found}").into());
    }
    stubs.hold_mirror(false).await?;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let left = http::backlog(admin).await?;
    let done = found.saturating_sub(u64::try_from(left.operations + left.unsettled)?);
    row(
        &format!("{name}: keys brought to the mirror from the journal alone, keys/s"),
        float(done) / began.elapsed().as_secs_f64(),
    );
    row(&format!("{name}: resident memory while draining, MiB"), resident_mib(&peer));
    Ok(())
}

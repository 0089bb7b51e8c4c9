//! The pieces of the request path one by one: nanoseconds each, medians of repeated runs.
//!
//! `scripts/bench micro [filter]`. A piece is repeated until it has run for a while, so that
//! neither the clock nor a single interruption is seen in the figure.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rules are for the product; a benchmark measures real time"
)]
#![allow(clippy::print_stdout, reason = "the report goes to the standard output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method};
use s3_mirror::config::{JournalSync, Secret};
use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use s3_mirror::journal::{Journal, Settings, now_ms};
use s3_mirror::s3::address::Address;
use s3_mirror::s3::chunked::{ChunkedDecoder, Decoded, StreamingForm};
use s3_mirror::s3::operation::{Change, Operation};
use s3_mirror::upstream::credentials::Credentials;
use s3_mirror::upstream::sign::{Signer, UNSIGNED_PAYLOAD, Unsigned};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Runs whose median is reported.
const RUNS: usize = 7;
/// How long each run lasts, at least.
const RUN: Duration = Duration::from_millis(100);
/// How long each journal is appended to.
const JOURNAL_RUN: Duration = Duration::from_secs(2);

const PATH: &str = "/a-bucket/photos/2025/05/a%20picture%2B1.jpeg";
const QUERY: &str =
    "partNumber=17&uploadId=VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZA";

fn main() -> Result<(), Fault> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` runs every bench without arguments.
        println!("nothing measured; scripts/bench micro runs this");
        return Ok(());
    }
    arguments.retain(|argument| argument != "--bench");
    let filter = arguments.first().cloned().unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);

    println!("| | per call |\n|---|---:|");
    if wanted("address") {
        pure("address and canonical path", || {
            Address::parse("127.0.0.1", PATH, None, &[]).map(|address| address.path())
        });
        pure("address and canonical query", || {
            Address::parse("127.0.0.1", PATH, Some(QUERY), &[])
                .map(|address| (address.path(), address.query.canonical()))
        });
    }
    if wanted("classify") {
        let address = Address::parse("127.0.0.1", PATH, Some(QUERY), &[])?;
        let headers = headers();
        pure("classify UploadPart", || Operation::of(&Method::PUT, &address, &headers));
    }
    if wanted("sign") {
        sign();
    }
    if wanted("decoder") {
        for (name, chunk) in [("64 KiB", 64 << 10), ("1 KiB", 1 << 10)] {
            let body = chunked(1 << 20, chunk);
            pure(&format!("decoder, 1 MiB in chunks of {name}"), || decode(body.clone()));
        }
    }
    if wanted("journal") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        for sync in [JournalSync::Full, JournalSync::Off] {
            for waiters in [1, 64, 1024] {
                let (rate, p50, p99) = runtime.block_on(journal(sync, waiters))?;
                println!(
                    "| journal append, {sync:?}, {waiters} waiters | {rate:.0}/s, p50 {p50:.2} ms, \
                     p99 {p99:.2} ms |"
                );
            }
        }
    }
    Ok(())
}

/// Prints how long one call takes.
fn pure<T>(name: &str, mut call: impl FnMut() -> T) {
    let mut calls = 1;
    let mut per_call = Vec::new();
    while per_call.len() < RUNS {
        let began = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        let took = began.elapsed();
        if took < RUN {
            calls *= 2;
        } else {
            per_call.push(took.as_secs_f64() * 1e9 / f64::from(calls));
        }
    }
    per_call.sort_unstable_by(f64::total_cmp);
    let nanoseconds = per_call[RUNS / 2];
    if nanoseconds < 1e4 {
        println!("| {name} | {nanoseconds:.0} ns |");
    } else {
        println!("| {name} | {:.1} µs |", nanoseconds / 1e3);
    }
}

/// What a small upload of an SDK carries.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("s3.us-east-1.amazonaws.com"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1024"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert("x-amz-meta-owner", HeaderValue::from_static("somebody"));
    headers.insert("x-amz-storage-class", HeaderValue::from_static("STANDARD"));
    headers
}

fn sign() {
    let credentials = Arc::new(Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
    });
    let signer = Signer::new("us-east-1");
    let headers = headers();
    let host = HeaderValue::from_static("s3.example.com");
    let mut out = BytesMut::with_capacity(2048);
    pure("write and sign a head of five headers", || {
        out.clear();
        let unsigned = Unsigned {
            method: &Method::PUT,
            path: PATH,
            query: "",
            host: &host,
            payload: &UNSIGNED_PAYLOAD,
            headers: &headers,
        };
        signer.write(&credentials, SystemTime::now(), &unsigned, |_| false, &mut out)
    });
}

/// An aws-chunked body of zeros without trailer.
fn chunked(size: usize, chunk: usize) -> Bytes {
    let mut body = Vec::with_capacity(size + size / chunk * 16);
    for _ in 0..size / chunk {
        body.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
        body.resize(body.len() + chunk, 0);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body.into()
}

/// Decodes a body that arrives in pieces as large as a socket gives them.
fn decode(mut body: Bytes) -> Result<usize, Fault> {
    let length = u64::try_from(1 << 20)?;
    let mut decoder = ChunkedDecoder::new(StreamingForm::UnsignedTrailer, Some(length), &[], None)?;
    let mut bytes = 0;
    while !body.is_empty() {
        let mut piece = body.split_to(body.len().min(128 << 10));
        loop {
            match decoder.decode(&mut piece)? {
                Decoded::Data(data) => bytes += data.len(),
                Decoded::NeedMore => break,
                Decoded::End(_) => return Ok(bytes),
            }
        }
    }
    Err("the body has no end".into())
}

/// Appends and closes intents: rate, median and 99th percentile of the wait in milliseconds.
async fn journal(sync: JournalSync, waiters: usize) -> Result<(f64, f64, f64), Fault> {
    let directory = tempfile::tempdir()?;
    let settings = Settings { data_dir: directory.path().to_owned(), sync, inventory: false };
    let (journal, _, writer) = Journal::open(&settings).await?;
    let writer = s3_mirror::journal::on_its_own_thread(writer)?;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for waiter in 0..waiters {
        tasks.spawn(wait_for_appends(journal.clone(), waiter, began));
    }
    let mut waits = Vec::new();
    while let Some(task) = tasks.join_next().await {
        waits.extend(task??);
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(journal);
    writer.await?;
    waits.sort_unstable();
    let percentile = |percent: usize| {
        let at = (waits.len() - 1) * percent / 100;
        waits[at].as_secs_f64() * 1e3
    };
    let count = f64::from(u32::try_from(waits.len())?);
    Ok((count / seconds, percentile(50), percentile(99)))
}

async fn wait_for_appends(
    journal: Journal,
    waiter: usize,
    began: Instant,
) -> Result<Vec<Duration>, Fault> {
    let mut waits = Vec::new();
    while began.elapsed() < JOURNAL_RUN {
        let intent = NewIntent {
            object: ObjectKey::new("a-bucket", &format!("{waiter}/{}", waits.len())),
            change: Change::Put,
            request_id: "0123456789ABCDEF".into(),
            accepted_ms: now_ms(),
            facts: None,
        };
        let start = Instant::now();
        let (intents, durable) = journal.append(vec![intent]).await;
        durable.wait().await?;
        waits.push(start.elapsed());
        for intent in intents {
            journal.settle(intent, Outcome::NoEffect, Facts::default(), None).await;
        }
    }
    Ok(waits)
}

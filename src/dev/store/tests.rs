//! The store as a whole: what it promises, below and through HTTP.

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method};
use s3s::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::fault::Answer;
use super::index::Index;
use super::index::buckets::CreateBucket;
use super::index::listing::{Line, Page};
use super::index::objects::{DeleteObjects, Deletion, Want};
use super::index::uploads::{CompleteUpload, UploadName};
use super::multipart::plan::Listed;
use super::object::ObjectRequest;
use super::target::{Domains, Target};
use super::*;

const PART: usize = 5 * 1024 * 1024;

async fn engine(dir: &Path) -> Engine {
    let (index, files) = Index::open(dir, false).await.unwrap();
    Engine { index, files }
}

/// An engine with a bucket `bkt`.
async fn with_bucket(dir: &Path) -> Engine {
    let engine = engine(dir).await;
    let (name, location) = ("bkt".to_owned(), String::new());
    engine.index.submit(CreateBucket { name, location }).await.unwrap();
    engine
}

fn request(uri: &str, headers: &[(&'static str, &str)], body: &[u8]) -> ObjectRequest {
    let mut all: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    all.insert("content-length", body.len().into());
    let target = Target::of(&uri.parse().unwrap(), &all, &Domains(Vec::new())).unwrap();
    let (bucket, key) = target.path.as_object().map(|(b, k)| (b.into(), k.into())).unwrap();
    let body = Body::from(body.to_vec());
    ObjectRequest { bucket, key, target, headers: all, body, trailers: None }
}

async fn put(engine: &Engine, key: &str, body: &[u8]) {
    engine.put_object(request(&format!("/bkt/{key}"), &[], body)).await.unwrap();
}

async fn get(engine: &Engine, uri: &str) -> Answer<Vec<u8>> {
    let response = engine.read_object(request(uri, &[], b""), false).await?;
    Ok(bytes(response.output).await)
}

async fn bytes(body: Body) -> Vec<u8> {
    let pieces: Vec<bytes::Bytes> = body.try_collect().await.unwrap();
    pieces.concat()
}

fn files_in(dir: &Path) -> usize {
    let shards = std::fs::read_dir(dir.join("bodies")).unwrap();
    shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn objects_survive_a_restart_and_orphans_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let big = vec![3; 100_000];
    {
        let engine = with_bucket(dir.path()).await;
        put(&engine, "//small/../", b"tiny").await;
        put(&engine, "big", &big).await;
    }
    std::fs::write(dir.path().join("bodies/00/00000000000000ff"), b"orphan").unwrap();
    let engine = engine(dir.path()).await;
    assert_eq!(get(&engine, "/bkt///small/../").await.unwrap(), b"tiny");
    assert_eq!(get(&engine, "/bkt/big").await.unwrap(), big);
    assert_eq!(files_in(dir.path()), 1);
}

#[tokio::test]
async fn an_overwritten_or_deleted_object_leaves_no_file_but_its_reader_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = with_bucket(dir.path()).await;
    let old = vec![1; 1_000_000];
    put(&engine, "k", &old).await;
    let reading = engine.read_object(request("/bkt/k", &[], b""), false).await.unwrap();
    put(&engine, "k", &vec![2; 50_000]).await;
    let deletions = vec![Deletion { key: "k".to_owned(), ..Deletion::default() }];
    let delete = DeleteObjects { bucket: "bkt".to_owned(), deletions };
    engine.index.submit(delete).await.unwrap();
    assert!(get(&engine, "/bkt/k").await.is_err());
    let read = bytes(reading.output).await;
    assert_eq!(read, old);
    // Removal happens on other threads.
    for _ in 0..100 {
        if files_in(dir.path()) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} files are left", files_in(dir.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_conditional_creators_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let engine = with_bucket(dir.path()).await;
    let racers = (0..32_u8).map(|racer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let only_new = [("if-none-match", "*")];
            let body = vec![racer; if racer % 2 == 0 { 10 } else { 30_000 }];
            engine.put_object(request("/bkt/k", &only_new, &body)).await.is_ok().then_some(body)
        })
    });
    let mut winners = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        winners.extend(racer.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(Some(&get(&engine, "/bkt/k").await.unwrap()), winners.first());
}

#[tokio::test]
async fn an_upload_becomes_one_object_with_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let engine = with_bucket(dir.path()).await;
    let created = engine.create_upload(request("/bkt/k?uploads", &[], b"")).await.unwrap();
    let xml = String::from_utf8(bytes(created.output).await).unwrap();
    let upload_id = xml.split(['<', '>']).skip_while(|word| *word != "UploadId").nth(1).unwrap();
    let mut listed = Vec::new();
    for (number, size) in [(2, PART), (3, 10), (9, 7)] {
        let uri = format!("/bkt/k?uploadId={upload_id}&partNumber={number}");
        let body = vec![u8::try_from(number).unwrap(); size];
        let stored = engine.put_part(request(&uri, &[], &body)).await.unwrap();
        let etag = stored.headers["etag"].to_str().unwrap().trim_matches('"').to_owned();
        listed.push(Listed { number, etag, checksum: None });
    }
    listed.remove(1);
    let complete = CompleteUpload {
        name: UploadName {
            bucket: "bkt".to_owned(),
            key: "k".to_owned(),
            upload_id: upload_id.to_owned(),
        },
        conditions: super::conditions::WriteConditions::default(),
        listed,
        checksum: None,
        coverage: None,
        size: Some(PART as u64 + 7),
    };
    assert!(engine.index.submit(complete).await.unwrap().etag.ends_with("-2"));
    assert_eq!(get(&engine, "/bkt/k?partNumber=2").await.unwrap(), [9; 7]);
    let whole = get(&engine, "/bkt/k").await.unwrap();
    assert_eq!((whole.len(), whole[PART - 1], whole[PART]), (PART + 7, 2, 9));
    let object = engine.index.object("bkt", "k", Want::Body).await.unwrap();
    assert_eq!(object.parts.len(), 2);
}

#[tokio::test]
async fn pages_of_any_size_list_every_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = with_bucket(dir.path()).await;
    for key in ["a", "b/1", "b/2", "b/3", "c", "d/1", "%C3%BC"] {
        put(&engine, key, b"").await;
    }
    let bucket = engine.index.bucket("bkt").await.unwrap();
    for count_max in 1..=6 {
        let delimiter = "/".to_owned();
        let mut page = Page { delimiter, count_max, ..Page::default() };
        let mut names = Vec::new();
        loop {
            let listing = engine.index.list(bucket.id, &page).await.unwrap();
            assert!(listing.lines.len() <= count_max);
            names.extend(listing.lines.iter().map(|line| line.name().to_owned()));
            if !listing.truncated {
                break;
            }
            page.from = listing.lines.last().map(Line::next).unwrap();
        }
        assert_eq!(names, ["a", "b/", "c", "d/", "ü"], "{count_max} a page");
    }
}

#[tokio::test]
async fn it_serves_refuses_the_unsigned_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        data_dir: dir.path().to_owned(),
        access_key_id: "id".to_owned(),
        secret_access_key: "do-not-print".to_owned(),
        domains: Vec::new(),
        fsync: true,
    };
    assert!(!format!("{config:?}").contains("do-not-print"));
    let store = Store::open(config.clone()).await.unwrap();
    let second = Store::open(config.clone()).await;
    assert!(matches!(second, Err(StoreError::InUse(_))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { stopped.await.unwrap_or_default() };
    let serving = tokio::spawn(store.serve(listener, stopped));
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("{} /bkt/key HTTP/1.1\r\nhost: {address}\r\n\r\n", Method::GET);
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
    assert!(answer.contains("x-amz-request-id"), "{answer}");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    Store::open(config).await.unwrap();
}

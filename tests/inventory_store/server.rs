//! A `PostgreSQL` server that crashes, goes away, refuses work or falls silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use s3_mirror::inventory::row::Row;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::inventory::{Database, present, settings, store, write_until_taken};
use crate::postgres::{self, Options, Postgres};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_no_row_it_has_taken() {
    // A server that answers commits before they are written, unless a session asks for more.
    let mut server = Postgres::start_with(Options {
        password: None,
        settings: vec!["synchronous_commit=off".to_owned()],
    });
    let url = server.url("inventory");
    let store = Arc::new(store(settings(&url)).await);
    store.write(&[present("a", "first", 1)]).await.unwrap();
    let restarted = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, restarted) = (Arc::clone(&store), Arc::clone(&restarted));
        async move {
            let mut written = 0;
            while !restarted.load(Ordering::Relaxed) {
                let row = |bucket: &str| present(bucket, &format!("k{written}"), 1);
                write_until_taken(&store, &[row("a"), row("b"), row("c")]).await;
                written += 1;
            }
            written
        }
    });
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| server.restart());
    }
    restarted.store(true, Ordering::Relaxed);
    let written: i64 = writer.await.unwrap();
    let client = postgres::connect(&url).await;
    for table in ["bucket_a", "bucket_b", "bucket_c"] {
        let count = format!("SELECT count(*) FROM {table} WHERE path <> 'first'");
        let count = client.query_one(&count, &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), written);
    }
    assert!(written > 10, "too few rows to tell: {written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cut_by_a_restart_are_not_noticed() {
    let mut server = Postgres::start();
    let store = store(settings(&server.url("inventory"))).await;
    let rows: Vec<Row> = (0..8).map(|n| present(&format!("b{n}"), "k", n)).collect();
    store.write(&rows).await.unwrap();
    tokio::task::block_in_place(|| server.restart());
    assert_eq!(store.write(&rows).await.unwrap(), []);
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_a_quick_transient_error() {
    let mut server = Postgres::start();
    let url = server.url("inventory");
    tokio::task::block_in_place(|| server.stop());
    let store = store(settings(&url)).await;
    let started = Instant::now();
    let rows: Vec<Row> = (0..200).map(|n| present(&format!("b{n}"), "k", n)).collect();
    let error = store.write(&rows).await.unwrap_err();
    assert!(error.is_transient() && store.ping().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    tokio::task::block_in_place(|| server.launch());
    assert_eq!(store.write(&rows).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads_or_is_full_is_transient() {
    let mut server = Postgres::start();
    let store = store(settings(&server.url("inventory"))).await;
    store.write(&[present("b", "k", 1)]).await.unwrap();
    tokio::task::block_in_place(|| {
        server.restart_with(&["default_transaction_read_only=on"]);
    });
    let error = store.write(&[present("b", "l", 1)]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("25006"), "{error}");
    tokio::task::block_in_place(|| {
        server.restart_with(&["max_connections=5", "superuser_reserved_connections=0"]);
    });
    let mut others = Vec::new();
    while others.len() < 5 {
        others.push(postgres::connect(&server.url("inventory")).await);
    }
    let error = store.write(&[present("b", "l", 1)]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("53300"), "{error}");
    drop(others);
    write_until_taken(&store, &[present("b", "l", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_keeps_rows_waiting_and_parks_none() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("b", "k", 1), present("c", "k", 1)]).await.unwrap();
    // What the server says when a file cannot be extended.
    database
        .execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
             END $$;
             CREATE TRIGGER full_disk BEFORE INSERT ON bucket_b
                 FOR EACH ROW EXECUTE FUNCTION full_disk();
             CREATE TRIGGER full_disk BEFORE INSERT ON bucket_c
                 FOR EACH ROW EXECUTE FUNCTION full_disk()",
        )
        .await;
    let rows = [present("b", "l", 1), present("c", "l", 1)];
    let error = store.write(&rows).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("53100"), "{error}");
    database.execute("DROP FUNCTION full_disk CASCADE").await;
    assert_eq!(store.write(&rows).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_to_the_host_that_takes_writes() {
    let read_only = || Options {
        password: None,
        settings: vec!["default_transaction_read_only=on".to_owned()],
    };
    let (mut first, mut second) = (Postgres::start(), Postgres::start_with(read_only()));
    let (one, other) = (first.port(), second.port());
    let hosts = format!("127.0.0.1:{one},127.0.0.1:{other}");
    let store = store(settings(&format!("postgres://postgres@{hosts}/postgres"))).await;
    store.write(&[present("b", "before", 1)]).await.unwrap();
    // The first is demoted and the second promoted; that it has no rows of the first is the
    // test's simplification.
    tokio::task::block_in_place(|| {
        first.restart_with(&["default_transaction_read_only=on"]);
        second.restart_with(&[]);
    });
    write_until_taken(&store, &[present("b", "after", 1)]).await;
    let client = postgres::connect(&second.url("postgres")).await;
    let paths = client.query("SELECT path FROM bucket_b", &[]).await.unwrap();
    assert_eq!(paths.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["after"]);
    tokio::task::block_in_place(|| first.stop());
    assert_eq!(store.write(&[present("b", "later", 1)]).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_made_by_a_role_that_may_and_waited_for_otherwise() {
    let server = Postgres::start();
    let admin = postgres::connect(&server.url("postgres")).await;
    admin
        .batch_execute("CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE user_only LOGIN")
        .await
        .unwrap();
    let url = |role: &str| {
        format!("postgres://{role}@127.0.0.1:{}/new-inventory?sslmode=disable", server.port())
    };
    let barred = store(settings(&url("user_only"))).await;
    let error = barred.write(&[present("b", "k", 1)]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("3D000"), "{error}");
    let maker = store(settings(&url("maker"))).await;
    assert_eq!(maker.write(&[present("b", "k", 1)]).await.unwrap(), []);
    let encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = $1";
    let made = admin.query_one(encoding, &[&"new-inventory"]).await.unwrap();
    assert_eq!(made.get::<_, &str>(0), "UTF8");
}

/// A proxy that can fall silent, as a failed-over host does: nothing is refused, nothing answered.
async fn silenceable(server: u16) -> (u16, Arc<AtomicBool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&silent);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = upstream.into_split();
            tokio::spawn(pump(from_client, to_server, Arc::clone(&flag)));
            tokio::spawn(pump(from_server, to_client, Arc::clone(&flag)));
        }
    });
    (port, silent)
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silent: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while silent.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_holds_nobody_for_long() {
    let server = Postgres::start();
    let (port, silent) = silenceable(server.port()).await;
    let mut settings =
        settings(&format!("postgres://postgres@127.0.0.1:{port}/inventory?sslmode=disable"));
    settings.connect_timeout = Duration::from_millis(500);
    settings.statement_timeout = Duration::from_secs(1);
    let store = store(settings).await;
    store.write(&[present("b", "k", 1)]).await.unwrap();
    silent.store(true, Ordering::Relaxed);
    // The open connection, then a new one.
    for limit in [8, 3] {
        let started = Instant::now();
        let error = store.write(&[present("b", "l", 1)]).await.unwrap_err();
        assert!(error.is_transient() && started.elapsed() < Duration::from_secs(limit), "{error}");
    }
    silent.store(false, Ordering::Relaxed);
    write_until_taken(&store, &[present("b", "l", 1)]).await;
}

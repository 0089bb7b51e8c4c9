//! How fast rows are taken, next to one-row upserts as one would write them by hand, on the same
//! run. `cargo test --test inventory_store speed -- --nocapture` prints the figures; the test fails
//! if a batch is not worth it.
//!
//! The database is on the same machine, with the settings of all tests here (no `fsync`, which is
//! what costs the naive way most); rows are those of plain uploads with keys of some thirty
//! characters, in batches of 1000, of two buckets. Three times as fast is usual, with `fsync` more;
//! the test demands less, because it runs beside others.
#![allow(clippy::print_stdout, reason = "the figures are for a person")]

use std::time::Instant;

use s3_mirror::inventory::row::{Row, RowState};
use s3_mirror::inventory::store::Store;
use tokio_postgres::types::ToSql;

use crate::inventory::{Database, present};

/// Rows of one measurement.
const ROWS: u64 = 20_000;
/// Rows of the naive way, which takes so much longer.
const NAIVE_ROWS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_many_times_as_fast_as_naive_upserts() {
    let database = Database::postgres().await;
    let store = database.store().await;
    // The naive way first and last, so that a machine that gets busier favours nobody.
    let mut naive = naive_upserts(&database).await;
    let best = measure(&database, &store, Some(7)).await;
    naive = naive.min(naive_upserts(&database).await);
    println!("{database}: naive one-row upserts: {naive:.0} rows/s");
    assert!(best > naive, "batches {best:.0} rows/s, one-row upserts {naive:.0} rows/s");
}

#[tokio::test(flavor = "multi_thread")]
async fn speed_of_sqlite_is_printed() {
    let database = Database::sqlite().await;
    let store = database.store().await;
    measure(&database, &store, None).await;
}

/// Prints inserts, updates, repetitions, and a mixture as traffic makes it; yields the slowest, in
/// rows per second.
async fn measure(database: &Database, store: &Store, writer: Option<i64>) -> f64 {
    store.write(&[present("b", "warm", 1), present("c", "warm", 1)]).await.unwrap();
    let mut slowest = f64::INFINITY;
    for (what, first, mirrored) in [
        ("inserts", 0, false),
        ("updates", 0, true),
        ("the same again", 0, true),
        ("half inserts, half updates", ROWS / 2, false),
    ] {
        let rows: Vec<Row> = (first..first + ROWS)
            .map(|n| {
                let key = format!("2026/11/{:02}/upload-{n:012}.bin", n % 30);
                let mut row = present(["b", "c"][usize::from(n % 2 == 0)], &key, n);
                row.mirrored = mirrored;
                row
            })
            .collect();
        let started = Instant::now();
        for batch in rows.chunks(1000) {
            match writer {
                Some(writer) => drop(store.write_as(writer, batch).await.unwrap()),
                None => assert_eq!(store.write(batch).await.unwrap(), []),
            }
        }
        let rate = per_second(ROWS, started);
        println!("{database}: {what}: {rate:.0} rows/s");
        slowest = slowest.min(rate);
    }
    slowest
}

/// One prepared upsert per row, each its own transaction, inserts then updates; rows per second.
async fn naive_upserts(database: &Database) -> f64 {
    let Database::Postgres { client, .. } = database else { unreachable!() };
    client
        .batch_execute(
            "DROP TABLE IF EXISTS naive;
             CREATE TABLE naive (id SERIAL PRIMARY KEY, path TEXT UNIQUE NOT NULL,
                 size BIGINT NOT NULL, content_type TEXT NOT NULL,
                 is_backed_up BOOLEAN DEFAULT FALSE, last_modified TIMESTAMP NOT NULL,
                 deleted BOOLEAN DEFAULT FALSE, created_at TIMESTAMP DEFAULT NOW(),
                 updated_at TIMESTAMP DEFAULT NOW())",
        )
        .await
        .unwrap();
    let upsert = client
        .prepare(
            "INSERT INTO naive (path, size, content_type, last_modified)
             VALUES ($1, $2, $3, '2026-02-03')
             ON CONFLICT (path) DO UPDATE SET size = excluded.size,
                 content_type = excluded.content_type, last_modified = excluded.last_modified,
                 updated_at = NOW()",
        )
        .await
        .unwrap();
    let started = Instant::now();
    for n in 0..NAIVE_ROWS {
        let n = n % (NAIVE_ROWS / 2);
        let row = present("b", &format!("2026/11/{:02}/upload-{n:012}.bin", n % 30), n);
        let RowState::Present { size, content_type, .. } = &row.state else { unreachable!() };
        let size = i64::try_from(*size).unwrap();
        let values: [&(dyn ToSql + Sync); 3] = [&row.key, &size, content_type];
        client.execute(&upsert, &values).await.unwrap();
    }
    per_second(NAIVE_ROWS, started)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for a person")]
fn per_second(rows: u64, started: Instant) -> f64 {
    rows as f64 / started.elapsed().as_secs_f64()
}

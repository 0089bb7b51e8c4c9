//! How fast rows are taken. Figures, not a verdict: `cargo test speed -- --nocapture`.
#![allow(clippy::print_stdout, reason = "the figures are for a person")]

use std::time::Instant;

use s3_mirror::inventory::row::Row;

use crate::inventory::{Database, present};

#[tokio::test(flavor = "multi_thread")]
async fn speed_of_both_stores_is_printed() {
    measure(Database::postgres().await).await;
    measure(Database::sqlite().await).await;
}

async fn measure(database: Database) {
    const ROWS: u64 = 20_000;
    let store = database.store().await;
    store.write(&[present("b", "warm", 1)]).await.unwrap();
    for (what, mirrored) in [("insert", false), ("update", true), ("same again", true)] {
        let rows: Vec<Row> = (0..ROWS)
            .map(|n| {
                let mut row = present(["b", "c"][usize::from(n % 2 == 0)], &format!("key/{n}"), n);
                row.mirrored = mirrored;
                row
            })
            .collect();
        let started = Instant::now();
        for batch in rows.chunks(1000) {
            assert_eq!(store.write(batch).await.unwrap(), []);
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{database}: {what}: {ROWS} rows in {seconds:.2} s");
    }
    let rows: Vec<Row> = (0..500).map(|n| present("b", &format!("key/{n}"), n)).collect();
    let started = Instant::now();
    for row in &rows {
        store.write(std::slice::from_ref(row)).await.unwrap();
    }
    let per_second = 500.0 / started.elapsed().as_secs_f64();
    println!("{database}: one row at a time: {per_second:.0} rows/s");
}

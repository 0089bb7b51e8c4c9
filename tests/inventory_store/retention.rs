//! Removing old rows beside proxies and people who hold them, in `PostgreSQL`.

use std::time::{Duration, Instant};

use s3_mirror::inventory::retention;
use s3_mirror::inventory::row::Row;

use crate::inventory::{Database, absent, present, seen};

const MONTH: Duration = Duration::from_hours(720);

async fn with_old_rows(keys: &[&str]) -> Database {
    let database = Database::postgres().await;
    let gone = |key: &&str| {
        let mut row = absent("b", key);
        row.mirrored = true;
        row
    };
    let rows: Vec<Row> = keys.iter().map(gone).collect();
    database.store().await.write(&rows).await.unwrap();
    database.execute("UPDATE bucket_b SET updated_at = '2020-01-01'").await;
    database
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_left_for_the_next_round_and_not_waited_for() {
    let database = with_old_rows(&["held", "free"]).await;
    let store = database.store().await;
    database.execute("BEGIN; SELECT 1 FROM bucket_b WHERE path = 'held' FOR UPDATE").await;
    let started = Instant::now();
    assert_eq!(retention::round(&store, MONTH).await, 1);
    // The limit of a wait for a lock is two seconds, and there was none.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    database.execute("ROLLBACK").await;
    assert_eq!(retention::round(&store, MONTH).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_return_while_rows_are_removed_are_never_lost() {
    let database = with_old_rows(&["first"]).await;
    let names: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    let writer = database.store().await;
    let (one, other) = (database.store().await, database.store().await);
    for _ in 0..5 {
        let gone = names.iter().map(|key| {
            let mut row = absent("b", key);
            row.mirrored = true;
            row
        });
        let gone: Vec<Row> = gone.collect();
        writer.write(&gone).await.unwrap();
        database.execute("UPDATE bucket_b SET updated_at = '2020-01-01'").await;
        let back: Vec<Row> = names.iter().map(|key| present("b", key, 1)).collect();
        let return_of_all = async {
            for part in back.chunks(20) {
                assert_eq!(writer.write(part).await.unwrap(), []);
            }
        };
        tokio::join!(return_of_all, retention::round(&one, MONTH), retention::round(&other, MONTH));
        let rows = seen(&database, "bucket_b").await;
        assert_eq!(rows.iter().filter(|row| !row.deleted).count(), names.len());
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_read_stops_no_other() {
    let database = with_old_rows(&["old"]).await;
    let store = database.store().await;
    store.write(&[present("a", "k", 1)]).await.unwrap();
    database.execute("ALTER TABLE bucket_a DROP COLUMN updated_at").await;
    assert_eq!(retention::round(&store, MONTH).await, 1);
}

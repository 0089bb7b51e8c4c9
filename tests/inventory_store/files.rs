//! What can be wrong with the file of a `SQLite` inventory.

use s3_mirror::inventory::row::Row;
use s3_mirror::inventory::store::{Store, StoreError};

use crate::inventory::{Database, present, seen, write_until_taken};

#[tokio::test]
async fn a_file_that_is_no_database_is_rejected_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inventory.db");
    let letter = "Dear diary, ".repeat(500);
    std::fs::write(&path, &letter).unwrap();
    let error = Store::sqlite(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
    let missing = directory.path().join("no/such/directory/inventory.db");
    assert!(Store::sqlite(&missing).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn another_programs_lock_is_waited_for_and_then_transient() {
    let database = Database::sqlite().await;
    let store = database.store().await;
    store.write(&[present("b", "k", 1)]).await.unwrap();
    database.execute("BEGIN IMMEDIATE").await;
    let error = store.write(&[present("b", "l", 1)]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    database.execute("COMMIT").await;
    write_until_taken(&store, &[present("b", "l", 1)]).await;
    assert_eq!(seen(&database, "bucket_b").await.len(), 2);
}

#[tokio::test]
async fn the_views_take_more_tables_than_one_compound_select() {
    let database = Database::sqlite().await;
    let store = database.store().await;
    let rows: Vec<Row> = (0..450).map(|n| present(&format!("bucket-{n}"), "k", 1)).collect();
    assert_eq!(store.write(&rows).await.unwrap(), []);
    let sql = "SELECT count(*), sum(objects), sum(total_bytes) FROM s3_mirror_bucket_summary";
    assert_eq!(database.query(sql).await[0], ["450"; 3].map(|text| Some(text.to_owned())));
    assert_eq!(database.query("SELECT * FROM s3_mirror_pending").await.len(), 450);
}

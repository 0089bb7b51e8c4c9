use super::*;
use crate::inventory::row::{Row, RowState};

fn row(key: &str) -> Row {
    Row {
        bucket: "b".into(),
        key: key.into(),
        state: RowState::Absent,
        mirrored: true,
        unsure: false,
        last_error: None,
    }
}

#[tokio::test]
async fn after_a_transaction_that_the_file_took_back_by_itself_rows_are_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&directory.path().join("inventory.sqlite")).await.unwrap();
    let write = async |key: &str| {
        let row = row(key);
        store.try_apply("b", &[&row], Purpose::Change(None)).await.map(drop)
    };
    write("before").await.unwrap();
    // What SQLite does when the disk is full: the transaction is over, and nobody has said so.
    let mut transaction = store.begin().await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    write("after").await.unwrap();
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM bucket_b").fetch_one(&store.pool).await.unwrap();
    assert_eq!(count, 2);
}

/// 2 is memory: a container with a read-only root has no directory for temporary files.
#[tokio::test]
async fn no_connection_needs_a_directory_for_temporary_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inventory.sqlite");
    let kept = async |store: &Sqlite| -> i64 {
        sqlx::query_scalar("PRAGMA temp_store").fetch_one(&store.pool).await.unwrap()
    };
    assert_eq!(kept(&Sqlite::open(&path).await.unwrap()).await, 2);
    assert_eq!(kept(&Sqlite::open_as_it_is(&path).await.unwrap()).await, 2);
    assert_eq!(kept(&Sqlite::open_read_only(&path).await.unwrap()).await, 2);
}

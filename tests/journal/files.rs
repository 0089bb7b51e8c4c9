//! Whose the files are, and what they may be.

use std::collections::HashSet;

use s3_mirror::config::JournalSync;
use s3_mirror::journal::{Journal, OpenError, Settings};
use s3_mirror::s3::operation::Change;

use super::support::{append, claim, copy_files, on_disk, open, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _run = open(directory.path(), false).await;
    let second = Journal::open(&settings(directory.path(), false)).await;
    assert!(matches!(second.err(), Some(OpenError::InUse(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_belong_to_a_writer_until_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path(), false);
    let (journal, _, writer) = Journal::open(&settings).await.unwrap();
    drop(journal);
    let second = Journal::open(&settings).await;
    assert!(matches!(second.err(), Some(OpenError::InUse(_))), "it may still have to write");
    writer.await;
    assert!(Journal::open(&settings).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_journal_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.sqlite");
    std::fs::write(&file, b"this is not a database, but it may be all that is left").unwrap();
    let refused = Journal::open(&settings(directory.path(), false)).await;
    assert!(matches!(refused.err(), Some(OpenError::Unreadable { .. })));
    assert!(std::fs::read(&file).unwrap().starts_with(b"this is not"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_format_2_kept_as_a_table_is_taken_over() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    run.journal.flush().await;
    run.crash();
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let mut db = options.filename(directory.path().join("journal.sqlite")).connect().await.unwrap();
    for sql in [
        "CREATE TABLE log (number INTEGER PRIMARY KEY, intents TEXT NOT NULL)",
        r#"INSERT INTO log VALUES (0, '[[5,"b","old",0,1,"R",{},2],[6,"b","older",0,1,"R",{},2]]')"#,
        "PRAGMA user_version = 2",
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
    let run = open(directory.path(), false).await;
    assert_eq!(on_disk(&run, directory.path()).await.len(), 2);
    assert!(claim(&run.journal).await.entry.unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_that_of_format_2_is_refused_and_left_alone() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let directory = tempfile::tempdir().unwrap();
    let (journal, _, writer) = Journal::open(&settings(directory.path(), false)).await.unwrap();
    drop(journal);
    writer.await;
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let options = options.filename(directory.path().join("journal.sqlite"));
    let mut db = options.connect().await.unwrap();
    for sql in ["CREATE TABLE log (other TEXT)", "INSERT INTO log VALUES ('all that is left')"] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let refused = Journal::open(&settings(directory.path(), false)).await;
    assert!(matches!(refused.err(), Some(OpenError::Unreadable { .. })));
    let left: String =
        sqlx::query_scalar("SELECT other FROM log").fetch_one(&mut db).await.unwrap();
    assert_eq!(left, "all that is left");
    db.close().await.unwrap();
}

/// The files of lines are written over by and by, while `normal` leaves to the system when the rows that
/// stand for the lines reach the disk.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_the_previous_run_are_rows_on_disk_before_their_files_are_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    std::mem::forget(append(&run.journal, "k", Change::Put).await);
    run.crash();
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    copy_files(directory.path(), &copy).unwrap();
    let normal = Settings { sync: JournalSync::Normal, ..settings(&copy, false) };
    let (journal, _, writer) = Journal::open(&normal).await.unwrap();
    // What is left if nothing else of this run reaches the disk.
    let bare = directory.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    std::fs::copy(copy.join("journal.sqlite"), bare.join("journal.sqlite")).unwrap();
    drop(journal);
    drop(writer);
    let run = open(&bare, false).await;
    assert_eq!(on_disk(&run, &bare).await, HashSet::from(["k".to_owned()]));
}

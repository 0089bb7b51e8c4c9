//! A disk that takes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use s3_mirror::journal::{AppendError, Journal};
use s3_mirror::s3::operation::Change;
use tokio::time::timeout;

use super::support::{
    append, append_lazily, claim, figures, hold_file, leave_backlog, let_file_go, on_disk, open,
    open_forgotten, put, settings,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_only_the_log_cannot_be_written_intents_are_rows_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    // Where its first file would be.
    std::fs::create_dir(directory.path().join("journal.log.0")).unwrap();
    put(&run.journal, "during").await;
    assert!(!run.journal.health().failing());
    std::mem::forget(append(&run.journal, "open", Change::Put).await);
    run.crash();
    std::fs::remove_dir(directory.path().join("journal.log.0")).unwrap();
    let run = open_forgotten(directory.path(), false).await;
    assert_eq!(on_disk(&run, &directory.path().join("copy")).await.len(), 2);
    put(&run.journal, "after").await;
    assert_eq!(figures(&run.journal).await.pending_operations, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_says_so_and_writes_later_what_it_kept() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let obstacle = directory.path().join("journal.log.0");
    std::fs::create_dir(&obstacle).unwrap();
    let other = hold_file(directory.path()).await;
    let intent = NewIntent {
        object: ObjectKey::new("b", "during"),
        change: Change::Put,
        request_id: "R".into(),
        accepted_ms: 1,
        facts: None,
    };
    let (mut intents, durable) = run.journal.append(vec![intent]).await;
    assert_eq!(durable.wait().await, Err(AppendError::Unavailable));
    assert!(run.journal.health().failing());
    run.journal.settle(intents.remove(0), Outcome::Changed, Facts::default(), None).await;
    std::fs::remove_dir(&obstacle).unwrap();
    let_file_go(&run.journal, other).await;
    assert_eq!(figures(&run.journal).await.pending_operations, 1);
    put(&run.journal, "after").await;
    assert_eq!(figures(&run.journal).await.pending_operations, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_only_the_database_cannot_be_written_intents_are_durable_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    put(&run.journal, "before").await;
    run.journal.flush().await;
    let other = hold_file(directory.path()).await;
    put(&run.journal, "during").await;
    run.journal.flush().await;
    assert!(run.journal.health().failing());
    // They do not wait for it either, which takes a second each time.
    let many = async {
        for number in 0..100 {
            put(&run.journal, &format!("many{number}")).await;
        }
    };
    timeout(Duration::from_secs(5), many).await.unwrap();
    std::mem::forget(append(&run.journal, "open", Change::Put).await);
    run.crash();
    drop(other);
    let run = open_forgotten(directory.path(), false).await;
    let figures = figures(&run.journal).await;
    assert_eq!((figures.pending_operations, figures.unsettled_intents), (103, 102), "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_found_no_room_while_the_disk_failed_are_written_when_it_recovers() {
    // More than a lane holds.
    const KEYS: usize = 9000;
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let journal = &run.journal;
    let other = hold_file(directory.path()).await;
    for number in 0..KEYS {
        let intent = append_lazily(journal, &format!("k{number}")).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    let mut seen = HashSet::new();
    // So many that there is room, and the disk is looked at, which has nothing of them.
    for row in journal.try_claim_rows(5000) {
        journal.row_written(&row).await;
        seen.insert(row.object.key.to_string());
    }
    assert_eq!(seen.len(), 5000);
    for _ in 0..3 {
        journal.flush().await;
    }
    assert!(journal.health().failing());
    let_file_go(journal, other).await;
    let rest = async {
        while seen.len() < KEYS {
            for row in journal.claim_rows(1000).await {
                journal.row_written(&row).await;
                seen.insert(row.object.key.to_string());
            }
        }
    };
    let ended = timeout(Duration::from_secs(10), rest).await;
    assert!(ended.is_ok(), "{} of {KEYS} rows", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_look_that_cannot_be_struck_off_is_not_taken_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    journal.recheck(ObjectKey::new("b", "k"), s3_mirror::journal::now_ms() + 3000).await;
    journal.flush().await;
    let other = hold_file(directory.path()).await;
    drop(append_lazily(journal, "other").await);
    journal.flush().await;
    assert!(journal.health().failing());
    let mut looks = 0;
    let looked = async {
        loop {
            let work = journal.claim().await;
            looks += usize::from(&*work.entry.object.key == "k");
            journal.complete(work, Facts::default()).await;
        }
    };
    assert!(timeout(Duration::from_secs(4), looked).await.is_err());
    assert_eq!(looks, 0, "it waits for the disk, as the note of it does");
    let_file_go(journal, other).await;
    while &*claim(journal).await.entry.object.key != "k" {}
}

/// Nobody can tell which of those on disk are over: done once, they would be done again and again.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_fails_what_is_on_disk_only_is_not_done_again_and_again() {
    // More than is read at a time.
    const KEYS: usize = 3000;
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), false).await.crash();
    leave_backlog(directory.path(), 3000).await;
    let (journal, _, writer) = Journal::open(&settings(directory.path(), false)).await.unwrap();
    tokio::spawn(writer);
    let other = hold_file(directory.path()).await;
    drop(append_lazily(&journal, "other").await);
    journal.flush().await;
    assert!(journal.health().failing());
    let feeder = journal.clone();
    let feeder = tokio::spawn(async move { feeder.feed().await });
    let mut seen: HashMap<String, usize> = HashMap::new();
    let done = async |seen: &mut HashMap<String, usize>| {
        let work = journal.claim().await;
        *seen.entry(work.entry.object.key.to_string()).or_default() += 1;
        journal.complete(work, Facts::default()).await;
    };
    let looked = async {
        loop {
            done(&mut seen).await;
        }
    };
    assert!(timeout(Duration::from_secs(5), looked).await.is_err());
    assert!(seen.values().all(|times| *times == 1), "{:?}", seen.values().max());
    let_file_go(&journal, other).await;
    let rest = async {
        while seen.len() <= KEYS {
            done(&mut seen).await;
        }
    };
    let ended = timeout(Duration::from_secs(20), rest).await;
    assert!(ended.is_ok(), "{} of {KEYS} keys and another one", seen.len());
    feeder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_fails_any_key_may_be_on_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let keys = ["quiet", "written"];
    assert!(run.journal.pending_among("b", &keys).await.unwrap().is_empty());
    let other = hold_file(directory.path()).await;
    drop(append_lazily(&run.journal, "written").await);
    assert_eq!(run.journal.pending_among("b", &keys).await.unwrap().len(), 2);
    let_file_go(&run.journal, other).await;
    let pending = run.journal.pending_among("b", &keys).await.unwrap();
    assert_eq!(pending, HashSet::from(["written".to_owned()]));
}

//! The operator's functions on a real journal file.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::JournalSync;
use crate::journal::Settings;
use crate::journal::entry::{Facts, NewIntent, Outcome};

async fn open(directory: &Path, inventory: bool) -> Journal {
    let settings = Settings { data_dir: directory.to_owned(), sync: JournalSync::Off, inventory };
    let (journal, _, writer) = Journal::open(&settings).await.unwrap();
    tokio::spawn(writer);
    let feeder = journal.clone();
    tokio::spawn(async move { feeder.feed().await });
    journal
}

async fn put(journal: &Journal, bucket: &str, key: &str) {
    let intent = NewIntent {
        object: ObjectKey::new(bucket, key),
        change: Change::Put,
        request_id: "R".into(),
        accepted_ms: now_ms(),
        facts: None,
    };
    let (mut intents, durable) = journal.append(vec![intent]).await;
    durable.wait().await.unwrap();
    let facts = Facts { size: Some(5), ..Facts::default() };
    journal.settle(intents.remove(0), Outcome::Changed, facts, None).await;
}

/// Puts a key and has the mirror refuse it for ever.
async fn park(journal: &Journal, bucket: &str, key: &str) {
    put(journal, bucket, key).await;
    let work = journal.claim().await;
    journal.park(work, "refused".into()).await;
}

async fn claim(journal: &Journal) -> super::super::Work {
    let work = tokio::time::timeout(Duration::from_secs(10), journal.claim());
    work.await.expect("work within ten seconds")
}

fn bucket(name: &str) -> Selection {
    Selection { bucket: Some(name.into()), key: None }
}

use crate::s3::operation::Change;

#[tokio::test(flavor = "multi_thread")]
async fn a_note_survives_a_restart_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), false).await;
    assert_eq!(journal.note("pause").await.unwrap(), None);
    journal.set_note("pause", Some("it's \u{0}ü")).await.unwrap();
    assert_eq!(journal.note("pause").await.unwrap().as_deref(), Some("it's \u{0}ü"));

    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let again = open(copy.path(), false).await;
    assert_eq!(again.note("pause").await.unwrap().as_deref(), Some("it's \u{0}ü"));
    again.set_note("pause", Some("other")).await.unwrap();
    again.set_note("pause", None).await.unwrap();
    assert_eq!(again.note("pause").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_keys_are_listed_page_by_page_with_their_reason() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), false).await;
    for key in ["c", "a", "b"] {
        park(&journal, "one", key).await;
    }
    park(&journal, "two", "x").await;
    journal.flush().await;
    let all = journal.parked(&Selection::default(), None, 3).await.unwrap();
    let names: Vec<String> = all.iter().map(|p| format!("{}/{}", p.bucket, p.key)).collect();
    assert_eq!(names, ["one/a", "one/b", "one/c"]);
    assert_eq!((all[0].reason.as_str(), all[0].bytes, all[0].attempts), ("refused", 5, 1));
    assert!(all[0].mirror && !all[0].inventory);
    assert!(all[0].parked_ms.unwrap() >= all[0].accepted_ms);
    let last = &all[2];
    let after = After { bucket: "one".into(), key: "c".into(), sequence: last.sequence };
    let rest = journal.parked(&Selection::default(), Some(&after), 3).await.unwrap();
    assert_eq!((rest.len(), rest[0].key.as_str()), (1, "x"));
    let key = Selection { bucket: Some("one".into()), key: Some("b".into()) };
    assert_eq!(journal.parked(&key, None, 9).await.unwrap().len(), 1);
    assert_eq!(journal.parked(&bucket("two"), None, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_key_is_claimed_again_and_others_stay_parked() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), false).await;
    park(&journal, "one", "a").await;
    park(&journal, "two", "b").await;
    journal.flush().await;
    let handled = journal.retry_parked(&bucket("one"), None).await.unwrap();
    assert_eq!((handled.entries, handled.keys.as_slice()), (1, &["one/a".to_owned()][..]));
    let work = claim(&journal).await;
    assert_eq!(&*work.entry.object.key, "a");
    journal.complete(work, Facts::default()).await;
    journal.flush().await;
    let figures = journal.figures().await.unwrap();
    assert_eq!((figures.parked, figures.pending_operations), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parked_keys_than_a_page_holds_are_all_retried_and_all_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), false).await;
    let count = PAGE_MAX + 5;
    for number in 0..count {
        park(&journal, "b", &format!("{number:05}")).await;
    }
    journal.flush().await;
    assert_eq!(journal.retry_parked(&bucket("b"), None).await.unwrap().entries, u64::from(count));
    for _ in 0..count {
        let work = claim(&journal).await;
        journal.park(work, "refused again".into()).await;
    }
    journal.flush().await;
    let handled = journal.discard(&Selection::default(), None).await.unwrap();
    assert_eq!((handled.entries, handled.bytes), (u64::from(count), 5 * i64::from(count)));
    assert_eq!(handled.keys.len(), NAMED_MAX);
    assert_eq!(journal.figures().await.unwrap(), crate::journal::Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_copy_never_gives_up_the_row_that_has_yet_to_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), true).await;
    park(&journal, "b", "k").await;
    journal.flush().await;
    let handled = journal.discard(&bucket("b"), None).await.unwrap();
    assert_eq!((handled.entries, handled.left), (0, 1));
    assert_eq!(journal.figures().await.unwrap().parked, 1);
    for row in journal.claim_rows(10).await {
        journal.row_written(&row).await;
    }
    journal.flush().await;
    assert_eq!(journal.discard(&bucket("b"), None).await.unwrap().entries, 1);
    assert_eq!(journal.figures().await.unwrap(), crate::journal::Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_row_is_written_when_it_is_retried() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), true).await;
    put(&journal, "b", "k").await;
    let work = claim(&journal).await;
    journal.complete(work, Facts::default()).await;
    let rows = journal.claim_rows(10).await;
    journal.row_parked(&rows[0], "a character it cannot hold".into()).await;
    journal.flush().await;
    let parked = journal.parked(&bucket("b"), None, 10).await.unwrap();
    assert!(parked[0].inventory && !parked[0].mirror);
    assert_eq!(parked[0].reason, "a character it cannot hold");
    assert_eq!(journal.figures().await.unwrap().parked_rows, 1);

    journal.retry_parked(&bucket("b"), None).await.unwrap();
    let rows = tokio::time::timeout(Duration::from_secs(10), journal.claim_rows(10)).await.unwrap();
    assert_eq!(&*rows[0].object.key, "k");
    assert!(rows[0].mirrored);
    journal.row_written(&rows[0]).await;
    journal.flush().await;
    assert_eq!(journal.figures().await.unwrap(), crate::journal::Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_each_state_of_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), false).await;
    let object = ObjectKey::new("b", "k");
    let mirror = async || {
        journal.flush().await;
        let entries = journal.explain(&object).await.unwrap().entries;
        entries.iter().map(|entry| entry.mirror).collect::<Vec<_>>()
    };
    assert_eq!(mirror().await, Vec::<&str>::new());
    put(&journal, "b", "k").await;
    assert_eq!(mirror().await, ["waiting"]);
    let work = claim(&journal).await;
    assert_eq!(mirror().await, ["claimed"]);
    journal.retry(work, Duration::from_hours(1), "no answer".into()).await;
    assert_eq!(mirror().await, ["retrying"]);
    let told = journal.explain(&object).await.unwrap().entries.remove(0);
    assert_eq!((told.attempts, told.error.as_deref()), (1, Some("no answer")));
    assert!(told.next_try_ms.unwrap() > now_ms() + 3_000_000);
    // A person who has mended the cause does not wait for the hour to be over.
    journal
        .retry_parked(&Selection { bucket: Some("b".into()), key: Some("k".into()) }, None)
        .await
        .unwrap();
    let work = claim(&journal).await;
    journal.park(work, "refused".into()).await;
    assert_eq!(mirror().await, ["parked"]);
    let figures = journal.bucket_figures().await.unwrap();
    assert_eq!((figures[0].bucket.as_str(), figures[0].parked), ("b", 1));
}

/// Parked entries, put into the file of a journal that nobody has open.
async fn park_in_file(directory: &Path, count: u32) {
    let path = directory.join("journal.sqlite");
    let mut db = store::open_writer(&path, JournalSync::Off).await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         INSERT INTO entry (sequence, bucket, key, change, state, accepted_ms, request_id, bytes,
                            mirror, inventory, error)
         SELECT n, 'b', printf('%08d', n), 0, 1, 1, 'R', 2, 3, 2, 'refused' FROM n",
    )
    .bind(count)
    .execute(&mut db)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_number_is_given_up_in_pieces_that_join_up() {
    let piece = PAGE_MAX * u32::try_from(CHUNK_PAGES).unwrap();
    let count = piece + PAGE_MAX + 7;
    let directory = tempfile::tempdir().unwrap();
    park_in_file(directory.path(), count).await;
    let journal = open(directory.path(), false).await;
    let first = journal.discard(&bucket("b"), None).await.unwrap();
    assert_eq!((first.entries, first.bytes), (u64::from(piece), 2 * i64::from(piece)));
    let next = first.next.expect("there is more");
    assert_eq!(next.key, format!("{piece:08}"));
    assert_eq!(journal.figures().await.unwrap().parked, i64::from(PAGE_MAX) + 7);
    let rest = journal.discard(&bucket("b"), Some(&next)).await.unwrap();
    assert_eq!((rest.entries, rest.next), (u64::from(PAGE_MAX) + 7, None));
    assert_eq!(journal.figures().await.unwrap(), crate::journal::Figures::default());
}

//! What is offered to the inventory's writer.

use std::collections::HashSet;
use std::time::Duration;

use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use s3_mirror::journal::{FOREVER, Journal, Trust};
use s3_mirror::s3::operation::Change;
use tokio::time::timeout;

use super::support::{append, claim, claim_row, figures, open, open_forgotten, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_previous_run_is_doubted_for_nobody_knows_what_was_written_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    put(&run.journal, "k").await;
    let work = claim(&run.journal).await;
    run.journal.complete(work, Facts::default()).await;
    let row = claim_row(&run.journal).await;
    assert!(row.mirrored && row.trust == Trust::Told);
    run.journal.flush().await;
    run.crash();
    let run = open(directory.path(), true).await;
    let row = claim_row(&run.journal).await;
    assert!(row.mirrored && row.trust == Trust::Doubtful, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_of_a_parked_key_is_covered_by_that_of_a_newer_entry_which_waits() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    put(&run.journal, "k").await;
    let row = claim_row(&run.journal).await;
    run.journal.row_written(&row).await;
    for reason in ["first", "second"] {
        let work = claim(&run.journal).await;
        if reason == "first" {
            put(&run.journal, "k").await;
        }
        run.journal.park(work, reason.into()).await;
        let row = claim_row(&run.journal).await;
        run.journal.row_written(&row).await;
    }
    let left = figures(&run.journal).await;
    assert_eq!((left.pending_rows, left.pending_operations), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_key_is_mirrored_but_for_versions_to_be_deleted_is_written_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    put(&run.journal, "k").await;
    let row = claim_row(&run.journal).await;
    run.journal.row_written(&row).await;
    let work = claim(&run.journal).await;
    let aside = (FOREVER, "not yet".into());
    run.journal.hold_versions(work, aside, vec!["v".into()], Facts::default()).await;
    assert_eq!(figures(&run.journal).await.held_deletes, 1);
    run.crash();

    let run = open(directory.path(), true).await;
    let row = claim_row(&run.journal).await;
    assert!(row.mirrored, "{row:?}");
    run.journal.row_written(&row).await;
    assert_eq!(figures(&run.journal).await.pending_rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_says_why_the_mirror_refused_and_says_so_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    put(&run.journal, "k").await;
    let row = claim_row(&run.journal).await;
    assert_eq!((row.mirrored, row.error.as_deref()), (false, None));
    run.journal.row_written(&row).await;
    let work = claim(&run.journal).await;
    run.journal.park(work, "no room".into()).await;
    let row = claim_row(&run.journal).await;
    assert_eq!((row.mirrored, row.error.as_deref()), (false, Some("no room")));
    assert_eq!(figures(&run.journal).await.pending_rows, 1);
    run.crash();

    let run = open(directory.path(), true).await;
    let row = claim_row(&run.journal).await;
    assert_eq!((row.mirrored, row.error.as_deref()), (false, Some("no room")));
    run.journal.row_written(&row).await;
    let left = figures(&run.journal).await;
    assert_eq!((left.pending_rows, left.parked), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_row_relieves_an_older_one_that_could_not_be_stored() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    for (key, mirrored) in [("mirrored", true), ("pending", false)] {
        put(&run.journal, key).await;
        let row = claim_row(&run.journal).await;
        run.journal.row_parked(&row, "refused".into()).await;
        if mirrored {
            let work = claim(&run.journal).await;
            run.journal.complete(work, Facts::default()).await;
            let row = claim_row(&run.journal).await;
            run.journal.row_parked(&row, "refused".into()).await;
        }
    }
    put(&run.journal, "other").await;
    let row = claim_row(&run.journal).await;
    run.journal.row_written(&row).await;
    assert_eq!(figures(&run.journal).await.parked_rows, 2);
    // After a restart too the newer rows are known to matter.
    run.journal.flush().await;
    run.crash();
    let run = open(directory.path(), true).await;
    put(&run.journal, "mirrored").await;
    let row = claim_row(&run.journal).await;
    run.journal.row_written(&row).await;
    assert_eq!(figures(&run.journal).await.parked_rows, 1);
    put(&run.journal, "pending").await;
    let row = claim_row(&run.journal).await;
    run.journal.row_parked(&row, "refused again".into()).await;
    assert_eq!(figures(&run.journal).await.parked_rows, 1);
}

/// A second look has a later number than a change that was under way when it began, and may tell
/// older news all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_of_a_key_while_it_changed_is_doubtful_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let _under_way = append(&run.journal, "k", Change::Delete).await;
    run.journal.look_again(ObjectKey::new("b", "k")).await;
    let row = claim_row(&run.journal).await;
    assert!(row.trust == Trust::Unknown && !row.mirrored);
    run.journal.row_written(&row).await;
    let work = claim(&run.journal).await;
    run.journal.complete(work, Facts::default()).await;
    let row = claim_row(&run.journal).await;
    assert!(row.mirrored && row.trust == Trust::Doubtful);
    run.journal.flush().await;
    let run = open_forgotten(directory.path(), true).await;
    // That of the change, which is unknown now, may be claimed on its own before.
    let mut row = claim_row(&run.journal).await;
    if !row.mirrored {
        assert_eq!(row.trust, Trust::Unknown);
        run.journal.row_written(&row).await;
        row = claim_row(&run.journal).await;
    }
    assert!(row.mirrored && row.trust == Trust::Doubtful, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_that_overlapped_make_a_doubtful_row() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let mirrored = async || {
        let work = claim(&run.journal).await;
        run.journal.complete(work, Facts::default()).await;
        let row = claim_row(&run.journal).await;
        run.journal.row_written(&row).await;
        assert!(row.mirrored);
        row.trust == Trust::Doubtful
    };
    put(&run.journal, "k").await;
    run.journal.look_again(ObjectKey::new("b", "other")).await;
    assert!(!mirrored().await && !mirrored().await);
    let first = append(&run.journal, "k", Change::Put).await;
    let second = append(&run.journal, "k", Change::Put).await;
    run.journal.settle(second, Outcome::Changed, Facts::default(), None).await;
    assert!(mirrored().await);
    run.journal.settle(first, Outcome::Changed, Facts::default(), None).await;
    assert!(mirrored().await);
    put(&run.journal, "k").await;
    assert!(!mirrored().await);
}

/// Changes so many keys of a bucket.
async fn change(journal: &Journal, bucket: &str, keys: usize) {
    let changes = (0..keys).map(|key| NewIntent {
        object: ObjectKey::new(bucket, &key.to_string()),
        change: Change::Put,
        request_id: "R".into(),
        accepted_ms: s3_mirror::journal::now_ms(),
        facts: None,
    });
    let changes: Vec<NewIntent> = changes.collect();
    let (intents, durable) = journal.append(changes).await;
    durable.wait().await.unwrap();
    for intent in intents {
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
}

/// Claims rows for so long, and hands in those of `stuck` for a rest; yields the others' keys.
async fn claim_around(journal: &Journal, stuck: &str, rest: Duration) -> HashSet<String> {
    let mut others = HashSet::new();
    while let Ok(rows) = timeout(Duration::from_millis(500), journal.claim_rows(1000)).await {
        let rows = journal.without_resting(rows).await;
        let (fails, fine): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| &*row.object.bucket == stuck);
        if !fails.is_empty() {
            journal.rows_rest(stuck, fails, rest).await;
        }
        for row in fine {
            journal.row_written(&row).await;
            others.insert(row.object.key.to_string());
        }
    }
    others
}

/// More rows than memory holds, of a table that takes none.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_rows_of_a_bucket_cannot_be_written_those_of_others_pass() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let journal = &run.journal;
    change(journal, "stuck", 9000).await;
    change(journal, "fine", 3000).await;
    let hour = Duration::from_hours(1);
    assert_eq!(claim_around(journal, "stuck", hour).await.len(), 3000);
    change(journal, "later", 10).await;
    assert_eq!(claim_around(journal, "stuck", hour).await.len(), 10);

    // A restart tries again, and forgets none.
    journal.flush().await;
    run.crash();
    let run = open(directory.path(), true).await;
    assert_eq!(claim_around(&run.journal, "none", hour).await.len(), 9000);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_again_after_the_rest_of_their_bucket_and_are_doubted() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let journal = &run.journal;
    change(journal, "stuck", 20).await;
    let rows = journal.claim_rows(100).await;
    assert!(rows.iter().all(|row| row.trust == Trust::Told));
    journal.rows_rest("stuck", rows, Duration::from_millis(300)).await;
    // One that comes meanwhile rests too, once it is met.
    change(journal, "stuck", 21).await;
    let mut seen = HashSet::new();
    while seen.len() < 21 {
        let rows = timeout(Duration::from_secs(10), journal.claim_rows(100)).await.unwrap();
        for row in journal.without_resting(rows).await {
            assert_ne!(row.trust, Trust::Told, "{row:?}");
            journal.row_written(&row).await;
            seen.insert(row.object.key.to_string());
        }
    }
}

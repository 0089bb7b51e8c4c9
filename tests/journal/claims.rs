//! What is offered to the workers, and what becomes of it.

use std::time::Duration;

use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use s3_mirror::journal::{FOREVER, Figures, Window};
use s3_mirror::s3::operation::Change;
use tokio::time::timeout;

use super::support::{append, append_lazily, claim, figures, open, put};

#[tokio::test(flavor = "multi_thread")]
async fn what_had_no_effect_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let intent = append(&run.journal, "k", Change::Put).await;
    run.journal.settle(intent, Outcome::NoEffect, Facts::default(), None).await;
    assert_eq!(figures(&run.journal).await, Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_leaves_only_when_mirror_and_inventory_are_both_done() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let journal = &run.journal;
    put(journal, "k").await;
    let rows = journal.claim_rows(10).await;
    assert!(!rows[0].mirrored);
    journal.row_written(&rows[0]).await;
    let state = figures(journal).await;
    assert_eq!((state.pending_operations, state.pending_rows), (1, 0));

    let work = claim(journal).await;
    let facts = Facts { size: Some(7), ..Facts::default() };
    journal.complete(work, facts.clone()).await;
    let state = figures(journal).await;
    assert_eq!((state.pending_operations, state.pending_rows), (0, 1));
    let rows = journal.claim_rows(10).await;
    assert!(rows[0].mirrored && *rows[0].facts == facts);
    journal.row_written(&rows[0]).await;
    assert_eq!(figures(journal).await, Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrites_of_a_waiting_key_are_one_piece_of_work_with_the_age_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    put(&run.journal, "k").await;
    let first = figures(&run.journal).await.oldest_pending_ms;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for _ in 0..10 {
        put(&run.journal, "k").await;
    }
    let state = figures(&run.journal).await;
    assert_eq!(state.pending_operations, 1);
    assert_eq!(state.oldest_pending_ms, first);
    let work = claim(&run.journal).await;
    run.journal.complete(work, Facts::default()).await;
    assert_eq!(figures(&run.journal).await.pending_operations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_key_comes_back_when_due_and_a_parked_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    put(journal, "retry").await;
    let work = claim(journal).await;
    journal.retry(work, Duration::from_millis(150), "503".into()).await;
    let again = claim(journal).await;
    assert_eq!(again.entry.attempts, 1);
    journal.park(again, "KeyTooLongError".into()).await;
    let state = figures(journal).await;
    assert_eq!((state.pending_operations, state.parked), (0, 1));
    assert!(timeout(Duration::from_millis(300), journal.claim()).await.is_err());

    put(journal, "retry").await;
    let work = claim(journal).await;
    journal.complete(work, Facts::default()).await;
    assert_eq!(figures(journal).await, Figures::default(), "a newer copy settles the parked one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_time_has_not_come_rests_without_a_try_and_lets_those_behind_it_pass() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    put(journal, "first").await;
    put(journal, "second").await;
    let first = claim(journal).await;
    let until = tokio::time::Instant::now() + Duration::from_millis(300);
    assert!(journal.rest(first, until).await.is_none());
    put(journal, "first").await;
    let second = claim(journal).await;
    assert_eq!(&*second.entry.object.key, "second");
    journal.complete(second, Facts::default()).await;
    let first = claim(journal).await;
    assert!(tokio::time::Instant::now() >= until, "a newer write of the key rests with it");
    assert_eq!((&*first.entry.object.key, first.entry.attempts), ("first", 0));
    journal.complete(first, Facts::default()).await;
    assert_eq!(figures(journal).await, Figures::default(), "both writes of it are settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_memory_is_short_a_key_that_should_rest_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    for at in 0..10_000 {
        let intent = append_lazily(journal, &format!("key-{at}")).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    let until = tokio::time::Instant::now() + Duration::from_hours(1);
    let work = claim(journal).await;
    let key = work.entry.object.key.clone();
    let back = journal.rest(work, until).await.expect("there is no room to rest");
    assert_eq!(back.entry.object.key, key);
    // It is still claimed: others come, and it does not come twice.
    let other = claim(journal).await;
    assert_ne!(other.entry.object.key, key);
    for work in [back, other] {
        journal.complete(work, Facts::default()).await;
    }
}

/// Main may tell a version of every state, whether or not the mirror keeps any.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_state_alone_settles_older_trouble_whatever_version_main_tells() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let told = || Facts { version_id: Some("v".into()), ..Facts::default() };
    for (keeps_versions, parked) in [(true, 1), (false, 0)] {
        put(&run.journal, "k").await;
        let work = claim(&run.journal).await;
        if parked == 1 {
            run.journal.park(work, "no room".into()).await;
            put(&run.journal, "k").await;
            let work = claim(&run.journal).await;
            run.journal.complete(work, told()).await;
        } else {
            run.journal.complete_current(work, told()).await;
        }
        assert_eq!(figures(&run.journal).await.parked, parked, "versions kept: {keeps_versions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_job_had_appended_is_settled_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let objects: Vec<_> = (0..64).map(|n| ObjectKey::new("b", &format!("k{n}"))).collect();
    let window = Window::new(100);
    // Stopped where it waits for the first time, unless the disk is faster.
    let appended = run.journal.append_background(&window, objects, "job");
    drop(timeout(Duration::ZERO, appended).await);
    let settled = async {
        loop {
            // What is not settled is not pending.
            if figures(&run.journal).await.pending_operations == 64 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), settled).await.expect("they are settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_no_key_that_a_live_change_has_settled_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let (journal, window) = (&run.journal, Window::new(100));
    journal.append_background(&window, vec![ObjectKey::new("b", "k")], "job").await.unwrap();
    let work = claim(journal).await;
    journal.defer(work, Duration::from_hours(1), "waits behind others").await;
    put(journal, "k").await;
    let work = claim(journal).await;
    journal.complete(work, Facts::default()).await;
    timeout(Duration::from_secs(5), window.settled()).await.expect("nothing is left of it");
    let tally = window.tally();
    assert_eq!((tally.outstanding, tally.covered), (0, 1));
    assert_eq!(figures(journal).await.pending_operations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_finds_something_does_not_stand_behind_those_who_wait() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    // Of keys that a job brings only one may be claimed at a time.
    journal.limit_background(1);
    let objects = (0..20).map(|number| ObjectKey::new("b", &format!("k{number}"))).collect();
    journal.append_background(&Window::new(100), objects, "job").await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let journal = journal.clone();
        workers.spawn(async move {
            loop {
                let work = journal.claim().await;
                journal.complete(work, Facts::default()).await;
            }
        });
    }
    let done = async {
        while figures(journal).await != Figures::default() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), done).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_one_dozes_is_found_by_whoever_is_left_to_look() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    for round in 0..30 {
        put(journal, "first").await;
        let work = claim(journal).await;
        journal.complete(work, Facts::default()).await;
        // One of them dozes, the others wait to be woken.
        let (found, mut finds) = tokio::sync::mpsc::channel(3);
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (journal, found) = (journal.clone(), found.clone());
                tokio::spawn(async move { found.try_send(journal.claim().await).unwrap() })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        put(journal, "next").await;
        workers[round % 3].abort();
        let work = timeout(Duration::from_secs(5), finds.recv()).await.unwrap().unwrap();
        journal.complete(work, Facts::default()).await;
        for worker in workers {
            worker.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_settles_older_trouble_of_its_key_also_after_a_time_without_any() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    // Long enough to be noticed: nothing is looked for while there is nothing to be found.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    put(journal, "calm").await;
    let work = claim(journal).await;
    journal.complete(work, Facts::default()).await;
    put(journal, "last").await;
    assert_eq!(figures(journal).await.pending_operations, 1);
    let work = claim(journal).await;
    journal.park(work, "no".into()).await;
    assert_eq!(figures(journal).await.parked, 1);
    put(journal, "last").await;
    let work = claim(journal).await;
    journal.complete(work, Facts::default()).await;
    assert_eq!(figures(journal).await, Figures::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_keys_one_moment_brings_the_next_write_is_not_refused() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let journal = &run.journal;
    let intent = |number| NewIntent {
        object: ObjectKey::new("b", &format!("k{number}")),
        change: Change::Delete,
        request_id: "R".into(),
        accepted_ms: 1,
        facts: None,
    };
    // As sixty `DeleteObjects` of a thousand keys each.
    let (mut many, durable) = journal.append((0..60_000).map(intent).collect::<Vec<_>>()).await;
    // These wait while those are written.
    let mut next = Vec::new();
    for number in 0..20 {
        let (intents, durable) = journal.append(vec![intent(60_000 + number)]).await;
        many.extend(intents);
        next.push(durable);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    durable.wait().await.unwrap();
    for durable in next {
        durable.wait().await.unwrap();
    }
    for intent in many {
        journal.settle(intent, Outcome::NoEffect, Facts::default(), None).await;
    }
    assert_eq!(figures(journal).await, Figures::default());
}

#[tokio::test]
async fn what_is_set_aside_takes_no_room_survives_a_restart_and_comes_back_ripe() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), false).await;
    // More than a lane holds.
    for number in 0..9000 {
        let intent = append_lazily(&first.journal, &format!("k{number}")).await;
        first.journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    for _ in 0..9000 {
        let work = claim(&first.journal).await;
        assert!(!work.entry.ripe);
        first.journal.hold(work, FOREVER, "held".into()).await;
    }
    put(&first.journal, "live").await;
    assert_eq!(&*claim(&first.journal).await.entry.object.key, "live", "nothing is in its way");
    let counted = figures(&first.journal).await;
    assert_eq!((counted.held_deletes, counted.pending_operations, counted.parked), (9000, 1, 0));
    first.crash();

    let second = open(directory.path(), false).await;
    assert_eq!(second.journal.buckets_held().await.unwrap(), ["b"]);
    assert_eq!(&*claim(&second.journal).await.entry.object.key, "live");
    for _ in 0..5 {
        second.journal.unhold("b", 0).await;
    }
    second.journal.flush().await;
    assert!(second.journal.buckets_held().await.unwrap().is_empty());
    let work = claim(&second.journal).await;
    assert!(work.entry.ripe);
    // A ripe one that fails stays ripe over another restart.
    second.journal.retry(work, Duration::from_millis(1), "refused".into()).await;
    second.journal.flush().await;
    second.crash();
    let third = open(directory.path(), false).await;
    for _ in 0..9000 {
        let work = claim(&third.journal).await;
        let ripe = work.entry.ripe;
        assert_eq!(ripe, &*work.entry.object.key != "live");
        third.journal.complete(work, Facts::default()).await;
    }
    third.crash();
}

#[tokio::test]
async fn of_several_set_aside_entries_of_a_key_the_newest_is_left_and_a_copy_settles_all() {
    let directory = tempfile::tempdir().unwrap();
    let open = open(directory.path(), false).await;
    for _ in 0..3 {
        put(&open.journal, "k").await;
        let work = claim(&open.journal).await;
        open.journal.hold(work, FOREVER, "held".into()).await;
    }
    assert_eq!(figures(&open.journal).await.held_deletes, 1);
    put(&open.journal, "k").await;
    let work = claim(&open.journal).await;
    open.journal.complete(work, Facts::default()).await;
    assert_eq!(figures(&open.journal).await, Figures::default());
    open.crash();
}

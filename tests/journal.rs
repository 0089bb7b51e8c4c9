//! The journal as its users see it: what is durable, what a restart finds, what memory holds.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]
#![allow(
    clippy::disallowed_types,
    reason = "the rules are for the product; tests wait for a real disk in real time"
)]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use s3_mirror::config::JournalSync;
use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome, PartLayout};
use s3_mirror::journal::events::Say;
use s3_mirror::journal::operator::Selection;
use s3_mirror::journal::{
    AppendError, FOREVER, Figures, Intent, Journal, OpenError, RowWork, Settings, Trust, Window,
    Work,
};
use s3_mirror::s3::event::EventName;
use s3_mirror::s3::operation::Change;
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Open {
    journal: Journal,
    writer: JoinHandle<()>,
    feeder: JoinHandle<()>,
}

impl Open {
    /// Ends as a crash does: nothing is flushed.
    fn crash(self) {
        self.feeder.abort();
        self.writer.abort();
    }
}

fn settings(directory: &Path, inventory: bool) -> Settings {
    Settings { data_dir: directory.to_owned(), sync: JournalSync::Full, inventory }
}

async fn open(directory: &Path, inventory: bool) -> Open {
    // The lock of the previous run goes with its last handle, which an aborted task holds a
    // moment longer.
    for _ in 0..100 {
        match Journal::open(&settings(directory, inventory)).await {
            Ok((journal, _, writer)) => {
                let feeder = journal.clone();
                return Open {
                    journal,
                    writer: tokio::spawn(writer),
                    feeder: tokio::spawn(async move { feeder.feed().await }),
                };
            }
            Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the lock is never released");
}

async fn append(journal: &Journal, key: &str, change: Change) -> Intent {
    let intent = NewIntent {
        object: ObjectKey::new("b", key),
        change,
        request_id: "R".into(),
        accepted_ms: s3_mirror::journal::now_ms(),
        facts: None,
    };
    let (mut intents, durable) = journal.append(vec![intent]).await;
    durable.wait().await.unwrap();
    intents.remove(0)
}

/// Not waited for until it is on disk.
async fn append_lazily(journal: &Journal, key: &str) -> Intent {
    let intent = NewIntent {
        object: ObjectKey::new("b", key),
        change: Change::Delete,
        request_id: "R".into(),
        accepted_ms: s3_mirror::journal::now_ms(),
        facts: None,
    };
    journal.append(vec![intent]).await.0.remove(0)
}

async fn put(journal: &Journal, key: &str) {
    let intent = append(journal, key, Change::Put).await;
    journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
}

async fn claim(journal: &Journal) -> Work {
    timeout(Duration::from_secs(5), journal.claim()).await.expect("work within five seconds")
}

async fn figures(journal: &Journal) -> Figures {
    journal.flush().await;
    journal.figures().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_without_outcome_is_found_as_unknown_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let intent = append(&run.journal, "k\u{0}& ü\n\"'", Change::Put).await;
    assert_eq!(figures(&run.journal).await.unsettled_intents, 1);
    std::mem::forget(intent);
    run.crash();

    let run = open_forgotten(directory.path(), false).await;
    let work = claim(&run.journal).await;
    assert!(work.entry.unknown);
    assert_eq!(&*work.entry.object.key, "k\u{0}& ü\n\"'");
    run.journal.complete(work, Facts::default()).await;
    assert_eq!(figures(&run.journal).await, Figures::default());
}

/// Opens a copy of the directory, as after a crash of the machine: the first process's lock, which
/// a leaked handle keeps, does not matter to it.
async fn open_forgotten(directory: &Path, inventory: bool) -> Open {
    let copy = directory.join("copy");
    std::fs::create_dir(&copy).unwrap();
    // The first process may still be closing its file, which takes the log beside it away.
    while let Err(error) = copy_files(directory, &copy) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&copy).unwrap();
        std::fs::create_dir(&copy).unwrap();
    }
    open(&copy, inventory).await
}

/// Fails where a file goes away meanwhile.
fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for file in std::fs::read_dir(from)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_is_dropped_unsettled_becomes_unknown_work() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    drop(append(&run.journal, "k", Change::Put).await);
    assert!(claim(&run.journal).await.entry.unknown);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn more_keys_than_memory_holds_all_come_out_also_after_a_restart() {
    const KEYS: usize = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let mut appended = Vec::new();
    for at in 0..KEYS {
        appended.push(NewIntent {
            object: ObjectKey::new("b", &format!("key-{at}")),
            change: Change::Put,
            request_id: "R".into(),
            accepted_ms: 1,
            facts: None,
        });
    }
    let (intents, durable) = run.journal.append(appended).await;
    durable.wait().await.unwrap();
    for intent in intents {
        run.journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..KEYS / 2 {
        let work = claim(&run.journal).await;
        assert!(seen.insert(work.entry.object.key.clone()));
        run.journal.complete(work, Facts::default()).await;
    }
    run.journal.flush().await;
    run.crash();
    let run = open(directory.path(), false).await;
    while seen.len() < KEYS {
        let work = claim(&run.journal).await;
        seen.insert(work.entry.object.key.clone());
        run.journal.complete(work, Facts::default()).await;
    }
    assert_eq!(figures(&run.journal).await, Figures::default());
}

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

/// Somebody else writes the file and does not end: every write of the journal fails.
async fn hold_file(directory: &Path) -> sqlx::SqliteConnection {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", directory.join("journal.sqlite").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

async fn let_file_go(journal: &Journal, mut other: sqlx::SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    recovered(journal).await;
}

async fn recovered(journal: &Journal) {
    let recovered = async {
        while journal.health().failing() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), recovered).await.expect("it recovers");
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
async fn part_sizes_survive_until_their_upload_ends() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    run.journal.record_part("u", 1, "aa", 5 << 20).await;
    run.journal.record_part("u", 1, "bb", 6 << 20).await;
    run.journal.record_part("u", 7, "cc", 3).await;
    run.journal.flush().await;
    run.crash();
    let run = open(directory.path(), false).await;
    let parts = run.journal.recorded_parts("u").await;
    assert_eq!(parts.get(&(1, "bb".into())), Some(&(6 << 20)), "the part uploaded last counts");
    assert_eq!(parts.len(), 2);
    run.journal.upload_ended("u").await;
    assert!(run.journal.recorded_parts("u").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layout_of_a_multipart_object_survives_a_crash_before_its_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let layout = PartLayout::new([5 << 20, 3], Some("e-2".into()));
    let intent = NewIntent {
        object: ObjectKey::new("b", "k"),
        change: Change::Complete,
        request_id: "R".into(),
        accepted_ms: 1,
        facts: Some(Box::new(Facts { layout: Some(layout.clone()), ..Facts::default() })),
    };
    let (intents, durable) = run.journal.append(vec![intent]).await;
    durable.wait().await.unwrap();
    std::mem::forget(intents);
    run.crash();
    let run = open_forgotten(directory.path(), false).await;
    assert_eq!(claim(&run.journal).await.entry.facts.layout, Some(layout));
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

async fn claim_row(journal: &Journal) -> RowWork {
    let rows = timeout(Duration::from_secs(5), journal.claim_rows(1)).await;
    rows.expect("a row within five seconds").remove(0)
}

/// An intent that makes an event, as the proxy names it while somebody is told.
async fn append_told(journal: &Journal, key: &str) -> Intent {
    let intent = NewIntent {
        object: ObjectKey::new("b", key),
        change: Change::Put,
        request_id: "R".into(),
        accepted_ms: s3_mirror::journal::now_ms(),
        facts: Some(Box::new(Facts { event: Some(EventName::CreatedPut), ..Facts::default() })),
    };
    let (mut intents, durable) = journal.append(vec![intent]).await;
    durable.wait().await.unwrap();
    intents.remove(0)
}

async fn events_waiting(journal: &Journal) -> Vec<(String, bool)> {
    journal.flush().await;
    let events = journal.events_waiting(100).await.unwrap();
    events.into_iter().map(|event| (event.object.key.to_string(), event.unknown)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_outlives_its_entry_and_a_crash_until_it_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let settled = append_told(&run.journal, "settled").await;
    run.journal.settle(settled, Outcome::Changed, Facts::default(), None).await;
    let work = claim(&run.journal).await;
    run.journal.complete(work, Facts::default()).await;
    let refused = append_told(&run.journal, "refused").await;
    run.journal.settle(refused, Outcome::NoEffect, Facts::default(), None).await;
    assert_eq!(figures(&run.journal).await.pending_operations, 0);
    std::mem::forget(append_told(&run.journal, "cut off").await);
    assert_eq!(events_waiting(&run.journal).await, [("settled".to_owned(), false)]);
    run.crash();

    let run = open_forgotten(directory.path(), false).await;
    let mut waiting = events_waiting(&run.journal).await;
    waiting.sort();
    // What nobody answered has its event too, of which main is asked.
    assert_eq!(waiting, [("cut off".to_owned(), true), ("settled".to_owned(), false)]);
    let ids = run.journal.events_waiting(100).await.unwrap().iter().map(|event| event.id).collect();
    run.journal.events_delivered(ids).await;
    assert_eq!(run.journal.event_figures().await.unwrap().pending, 0);
    run.crash();

    // The run before worked in a copy.
    let run = open_forgotten(&directory.path().join("copy"), false).await;
    assert_eq!(events_waiting(&run.journal).await, [] as [(String, bool); 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_holds_up_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    for key in ["a", "b", "a", "c"] {
        let intent = append_told(&journal, key).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    let keys = |events: Vec<(String, bool)>| -> Vec<String> {
        events.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(events_waiting(&journal).await), ["a", "b", "a", "c"]);
    let first = journal.events_waiting(1).await.unwrap().remove(0);
    let later = s3_mirror::journal::now_ms() + 3_600_000;
    journal.event_refused(&first, later, "422".into()).await;
    assert_eq!(keys(events_waiting(&journal).await), ["b", "c"]);
    let figures = journal.event_figures().await.unwrap();
    assert_eq!((figures.pending, figures.refused), (3, 1));
    assert_eq!(figures.error.as_deref(), Some("422"));

    // Its time has come, and it is taken: what waited behind it goes on.
    journal.event_refused(&first, 0, "422".into()).await;
    journal.flush().await;
    let due = journal.events_due(10).await.unwrap();
    assert_eq!((due.len(), due[0].id, due[0].again), (1, first.id, false));
    journal.events_delivered(vec![first.id]).await;
    assert_eq!(keys(events_waiting(&journal).await), ["b", "a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_a_refused_event_sent_again_or_gives_it_up_and_what_waits_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    for key in ["a", "b", "a"] {
        let intent = append_told(&journal, key).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    journal.flush().await;
    let first = journal.events_waiting(1).await.unwrap().remove(0);
    let later = s3_mirror::journal::now_ms() + 3_600_000;
    journal.event_refused(&first, later, "422".into()).await;
    let all = Selection::default();
    let of =
        |bucket: &str, key: &str| Selection { bucket: Some(bucket.into()), key: Some(key.into()) };
    let refused = journal.events_untold(&all, false, 0, 10).await.unwrap();
    assert_eq!((refused.len(), refused[0].id, refused[0].refused), (1, first.id, true));
    assert_eq!(refused[0].reason.as_deref(), Some("422"));
    assert_eq!(refused[0].event, "ObjectCreated:Put");
    let untold = journal.events_untold(&all, true, 0, 10).await.unwrap();
    assert_eq!(untold.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
    let behind = journal.events_untold(&all, true, first.id, 10).await.unwrap();
    assert_eq!(behind.len(), 2);

    assert!(journal.events_due(10).await.unwrap().is_empty());
    let elsewhere = journal.handle_events(&of("other", "a"), Say::Retry, None).await.unwrap();
    assert_eq!(elsewhere.entries, 0);
    let retried = journal.handle_events(&of("b", "a"), Say::Retry, None).await.unwrap();
    assert_eq!((retried.entries, retried.keys.as_slice()), (1, &["b/a".to_owned()][..]));
    assert_eq!(journal.events_due(10).await.unwrap()[0].id, first.id);

    // What only waits is not given up with what is refused.
    let given_up = journal.handle_events(&all, Say::Discard, None).await.unwrap();
    assert_eq!((given_up.entries, given_up.next), (1, None));
    let waiting = |events: Vec<(String, bool)>| -> Vec<String> {
        events.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(waiting(events_waiting(&journal).await), ["b", "a"]);
    let rest = journal.handle_events(&of("b", "b"), Say::DiscardWaiting, None).await.unwrap();
    assert_eq!(rest.entries, 1);
    assert_eq!(waiting(events_waiting(&journal).await), ["a"]);
    let figures = journal.event_figures().await.unwrap();
    assert_eq!((figures.pending, figures.refused, figures.error), (1, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_looked_at_once_more_after_its_event_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    let intent = append_told(&journal, "k").await;
    journal.settle(intent, Outcome::Unknown, Facts::default(), None).await;
    journal.flush().await;
    let told = journal.events_waiting(1).await.unwrap().remove(0);
    assert!(told.unknown);
    let seen = Facts { etag: Some("e".into()), ..Facts::default() };
    journal.event_again(&told, 0, seen).await;
    assert!(events_waiting(&journal).await.is_empty());
    assert_eq!(journal.event_figures().await.unwrap().pending, 0);
    let again = journal.events_due(10).await.unwrap().remove(0);
    assert!(again.again && again.facts.etag.as_deref() == Some("e"));
    // Main has moved: it is told anew, in its turn, and that is the last look.
    journal.event_anew(&again).await;
    journal.events_delivered(vec![again.id]).await;
    let anew = journal.events_waiting(1).await.unwrap().remove(0);
    assert!(anew.unknown && anew.attempts == 1 && anew.id > again.id && anew.facts.etag.is_none());
}

/// Writes so many pending entries into a journal that nobody has open, as a long outage leaves them.
async fn leave_backlog(directory: &Path, entries: i64) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let mut db = options.filename(directory.join("journal.sqlite")).connect().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO entry (sequence, bucket, key, change, state, accepted_ms, request_id, inventory)
         SELECT i, 'b', 'k' || i, 0, 1, 1, 'R', 2 FROM n",
    )
    .bind(entries)
    .execute(&mut db)
    .await
    .unwrap();
    db.close().await.unwrap();
}

async fn rechecks(journal: &Journal, key: &str) -> usize {
    journal.flush().await;
    journal.explain(&ObjectKey::new("b", key)).await.unwrap().rechecks_ms.len()
}

#[tokio::test]
async fn every_key_pending_at_a_crash_is_looked_at_once_more() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), false).await.crash();
    leave_backlog(directory.path(), 50_000).await;
    let found = open(directory.path(), false).await;
    for key in ["k1", "k25000", "k50000"] {
        assert_eq!(rechecks(&found.journal, key).await, 1, "{key}");
    }
    // One that was not pending then.
    put(&found.journal, "new").await;
    assert_eq!(rechecks(&found.journal, "new").await, 0);
}

#[tokio::test]
async fn of_a_backlog_too_long_to_be_noted_every_key_copied_soon_is_looked_at_once_more() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), false).await.crash();
    leave_backlog(directory.path(), 50_001).await;
    let found = open(directory.path(), false).await;
    assert_eq!(rechecks(&found.journal, "k1").await, 0, "none is noted at the start");
    // The older one was under way when the process died, and is overtaken by a change of this run.
    put(&found.journal, "k50001").await;
    // What is in memory already comes first; the backlog on disk does not.
    let mut copied: Vec<String> = Vec::new();
    while copied.last().is_none_or(|key| key != "k50001") {
        assert!(copied.len() < 10_000, "the live key waits behind the backlog");
        let work = claim(&found.journal).await;
        copied.push(work.entry.object.key.to_string());
        found.journal.complete(work, Facts::default()).await;
    }
    for key in [copied.first().unwrap(), copied.last().unwrap()] {
        assert_eq!(rechecks(&found.journal, key).await, 1, "{key}");
    }
}

#[tokio::test]
async fn a_delete_that_was_under_way_when_its_time_had_come_is_looked_at_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), false).await;
    for (key, due_ms) in [("ripe", 1), ("later", FOREVER)] {
        put(&first.journal, key).await;
        let work = claim(&first.journal).await;
        first.journal.hold(work, due_ms, "held".into()).await;
    }
    first.journal.flush().await;
    first.crash();
    let found = open(directory.path(), false).await;
    assert_eq!(rechecks(&found.journal, "ripe").await, 1);
    assert_eq!(rechecks(&found.journal, "later").await, 0);
}

/// The keys that the database has rows of.
async fn on_disk(run: &Open, directory: &Path) -> HashSet<String> {
    use sqlx::{ConnectOptions as _, Connection as _};
    run.journal.flush().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let mut db = options.filename(directory.join("journal.sqlite")).connect().await.unwrap();
    let keys: Vec<String> =
        sqlx::query_scalar("SELECT key FROM entry").fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    keys.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_never_became_a_row_is_found_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), true).await;
    let intent = append(&run.journal, "k\u{0}& ü\n\"'", Change::Put).await;
    std::mem::forget(intent);
    run.crash();
    let run = open_forgotten(directory.path(), true).await;
    let work = claim(&run.journal).await;
    assert!(work.entry.unknown);
    assert_eq!(&*work.entry.object.key, "k\u{0}& ü\n\"'");
    assert_eq!(on_disk(&run, &directory.path().join("copy")).await.len(), 1);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_forgotten_stands_beside_its_line_and_wins_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let intents = ["parked", "open"].map(|key| NewIntent {
        object: ObjectKey::new("b", key),
        change: Change::Put,
        request_id: "R".into(),
        accepted_ms: 1,
        facts: None,
    });
    let (mut intents, durable) = run.journal.append(intents.to_vec()).await;
    durable.wait().await.unwrap();
    std::mem::forget(intents.remove(1));
    run.journal.settle(intents.remove(0), Outcome::Changed, Facts::default(), None).await;
    let work = claim(&run.journal).await;
    run.journal.park(work, "no".into()).await;
    // It becomes a row with the next transaction of its own accord, while its line is still young.
    let wait = async {
        while run.journal.parked(&Selection::default(), None, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.unwrap();
    run.crash();
    let run = open_forgotten(directory.path(), false).await;
    let figures = figures(&run.journal).await;
    assert_eq!((figures.parked, figures.unsettled_intents), (1, 1), "{figures:?}");
}

/// What the mirror and the inventory have been told in a run that nobody planned.
#[derive(Default)]
struct Told {
    /// Keys whose last write the mirror has not confirmed.
    owed: HashSet<String>,
    /// Does the last row of a key say that it is mirrored?
    rows: HashMap<String, bool>,
}

impl Told {
    /// One step of the mirror's worker: mostly it succeeds.
    async fn mirror(&mut self, journal: &Journal, random: &mut fastrand::Rng) {
        let claimed = timeout(Duration::from_millis(5), journal.claim()).await;
        let Ok(work) = claimed else { return };
        match random.u8(..10) {
            0 => journal.park(work, "no".into()).await,
            1 => journal.retry(work, Duration::from_hours(1), "later".into()).await,
            2 => journal.hold(work, FOREVER, "not yet".into()).await,
            _ => self.confirm(journal, work).await,
        }
    }

    async fn confirm(&mut self, journal: &Journal, work: Work) {
        self.owed.remove(&*work.entry.object.key);
        journal.complete(work, Facts::default()).await;
    }

    /// One step of the inventory's worker.
    async fn write_rows(&mut self, journal: &Journal, random: &mut fastrand::Rng) {
        let rows = journal.try_claim_rows(random.usize(1..20));
        if random.u8(..5) == 0 {
            return journal.rows_back(rows).await;
        }
        for row in rows {
            self.rows.insert(row.object.key.to_string(), row.mirrored);
            journal.row_written(&row).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_forgotten_whenever_a_crash_comes_and_nothing_is_left_of_what_is_done() {
    let runs: Vec<_> = (1..=6).map(|seed| tokio::spawn(unplanned(seed))).collect();
    for run in runs {
        run.await.unwrap();
    }
}

/// Writes, copies, rows, failures, pauses and crashes in an order that the seed decides.
async fn unplanned(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let inventory = seed.is_multiple_of(2);
    let directory = tempfile::tempdir().unwrap();
    let mut run = open(directory.path(), inventory).await;
    let mut told = Told::default();
    for _ in 0..400 {
        match random.u8(..100) {
            0..45 => {
                let key = format!("k{}", random.u8(..40));
                put(&run.journal, &key).await;
                told.owed.insert(key);
            }
            45..75 => told.mirror(&run.journal, &mut random).await,
            75..85 => told.write_rows(&run.journal, &mut random).await,
            85..95 => tokio::time::sleep(Duration::from_millis(random.u64(..60))).await,
            95..98 => run.journal.flush().await,
            _ => {
                run.crash();
                run = open(directory.path(), inventory).await;
                let keys = on_disk(&run, directory.path()).await;
                let lost: Vec<_> = told.owed.difference(&keys).collect();
                assert!(lost.is_empty(), "seed {seed}: {lost:?}");
            }
        }
    }
    // A newer write of each key settles whatever is left of it.
    for key in 0..40 {
        put(&run.journal, &format!("k{key}")).await;
    }
    run.journal.hasten().await;
    let drained = async {
        while figures(&run.journal).await != Figures::default() {
            while let Ok(work) = timeout(Duration::from_millis(20), run.journal.claim()).await {
                told.confirm(&run.journal, work).await;
            }
            for row in run.journal.try_claim_rows(100) {
                told.rows.insert(row.object.key.to_string(), row.mirrored);
                run.journal.row_written(&row).await;
            }
        }
    };
    let ended = timeout(Duration::from_secs(30), drained).await;
    assert!(ended.is_ok(), "seed {seed}: {:?}", run.journal.figures().await);
    assert!(on_disk(&run, directory.path()).await.is_empty(), "seed {seed}");
    assert_eq!(told.rows.len(), if inventory { 40 } else { 0 }, "seed {seed}");
    assert!(told.rows.values().all(|mirrored| *mirrored), "seed {seed}: {:?}", told.rows);
    // Nothing of the log comes back.
    run.crash();
    let run = open(directory.path(), inventory).await;
    assert_eq!(figures(&run.journal).await, Figures::default(), "seed {seed}");
}

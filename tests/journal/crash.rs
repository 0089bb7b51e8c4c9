//! What a restart finds.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome, PartLayout};
use s3_mirror::journal::operator::Selection;
use s3_mirror::journal::{FOREVER, Figures, Journal, Work};
use s3_mirror::s3::operation::Change;
use tokio::time::timeout;

use super::support::{
    append, claim, figures, leave_backlog, on_disk, open, open_forgotten, put, rechecks,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_is_dropped_unsettled_becomes_unknown_work() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    drop(append(&run.journal, "k", Change::Put).await);
    assert!(claim(&run.journal).await.entry.unknown);
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

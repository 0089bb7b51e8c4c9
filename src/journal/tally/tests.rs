use std::path::Path;

use super::super::store;
use super::*;
use crate::config::JournalSync;

/// The same figures in one pass over the rows, as plainly as SQL can say them.
async fn seen(db: &mut SqliteConnection) -> Counted {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE state > 0 AND mirror IN (0, 2)),
                coalesce(sum(bytes) FILTER (WHERE state > 0 AND mirror IN (0, 2)), 0),
                min(accepted_ms) FILTER (WHERE state > 0 AND mirror IN (0, 2)),
                count(*) FILTER (WHERE mirror = 3),
                count(*) FILTER (WHERE mirror = 4),
                count(*) FILTER (WHERE state > 0
                    AND (inventory = 0 OR (inventory = 1 AND mirror = 1))),
                count(*) FILTER (WHERE inventory = 3),
                count(*) FILTER (WHERE state = 0 OR (state = 2 AND mirror = 0))
         FROM entry",
    )
    .fetch_one(&mut *db)
    .await
    .unwrap();
    let figures = Figures {
        pending_operations: row.get(0),
        pending_bytes: row.get(1),
        oldest_pending_ms: row.get(2),
        parked: row.get(3),
        held_deletes: row.get(4),
        pending_rows: row.get(5),
        parked_rows: row.get(6),
        unsettled_intents: row.get(7),
    };
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1) FROM event",
    )
    .fetch_one(&mut *db)
    .await
    .unwrap();
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT accepted_ms FROM event WHERE state = 0 ORDER BY id LIMIT 1")
            .fetch_optional(db)
            .await
            .unwrap();
    let events = EventFigures {
        pending: row.get(0),
        oldest_pending_ms: oldest,
        refused: row.get(1),
        error: None,
    };
    (figures, events)
}

async fn open(directory: &Path) -> (SqliteConnection, SqliteConnection) {
    let path = directory.join("journal.sqlite");
    let writer = store::open_writer(&path, JournalSync::Off).await.unwrap();
    (writer, store::open_reader(&path).await.unwrap())
}

async fn run(db: &mut SqliteConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(db).await.unwrap();
}

/// One change of some rows, of every kind that rows can change in.
fn change(rng: &mut fastrand::Rng) -> String {
    let sequence = rng.i64(1..60);
    let some = format!("sequence % {} = {}", rng.i64(1..9), rng.i64(0..3));
    let (state, mirror, inventory) = (rng.i64(0..3), rng.i64(0..5), rng.i64(0..4));
    let (bytes, accepted) = (rng.i64(0..1000), rng.i64(0..1000));
    match rng.u8(0..10) {
        0..=3 => format!(
            "INSERT OR REPLACE INTO entry
                (sequence, bucket, key, change, state, accepted_ms, request_id, bytes, mirror, inventory)
             VALUES ({sequence}, 'b', 'k', 0, {state}, {accepted}, 'R', {bytes}, {mirror}, {inventory})"
        ),
        4 => format!("UPDATE entry SET state = {state}, bytes = {bytes} WHERE {some}"),
        5 => format!("UPDATE entry SET mirror = {mirror}, error = 'e' WHERE {some}"),
        6 => format!("UPDATE entry SET inventory = max(inventory, {inventory}) WHERE {some}"),
        7 => format!("UPDATE entry SET accepted_ms = {accepted} WHERE {some}"),
        8 => format!("DELETE FROM entry WHERE {some}"),
        _ => [
            format!(
                "INSERT OR IGNORE INTO event
                    (id, bucket, key, accepted_ms, request_id, unknown, facts, state)
                 VALUES ({sequence}, 'b', 'k', {accepted}, 'R', 0, '{{}}', {state})"
            ),
            format!("UPDATE event SET state = {state} WHERE id % 3 = 0"),
            format!("DELETE FROM event WHERE id = {sequence}"),
        ][rng.usize(0..3)]
        .clone(),
    }
}

#[tokio::test]
async fn whatever_happens_to_rows_the_figures_are_those_of_a_count() {
    let directory = tempfile::tempdir().unwrap();
    let (mut db, mut reader) = open(directory.path()).await;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut tally = Tally::default();
    for step in 0..600 {
        // Some of it is taken back, as a transaction is that the disk refuses.
        let kept = rng.u8(0..4) > 0;
        run(&mut db, "BEGIN IMMEDIATE".into()).await;
        for _ in 0..rng.u8(1..4) {
            run(&mut db, change(&mut rng)).await;
        }
        run(&mut db, if kept { "COMMIT".into() } else { "ROLLBACK".into() }).await;
        let told = tally.read(&mut db).await.unwrap();
        assert_eq!(told, seen(&mut reader).await, "step {step}");
        assert_eq!(told, count(&mut reader).await.unwrap(), "step {step}, counted");
    }
}

#[tokio::test]
async fn what_another_connection_writes_is_counted_and_a_new_connection_counts_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (mut db, mut other) = open(directory.path()).await;
    let mut rng = fastrand::Rng::with_seed(8);
    let mut tally = Tally::default();
    for _ in 0..40 {
        run(&mut db, change(&mut rng)).await;
    }
    let before = tally.read(&mut db).await.unwrap();
    run(&mut other, "DELETE FROM entry WHERE sequence % 2 = 0".into()).await;
    let after = tally.read(&mut db).await.unwrap();
    assert_ne!(after, before);
    assert_eq!(after, seen(&mut other).await);
    let (mut db, _) = open(directory.path()).await;
    assert_eq!(Tally::default().read(&mut db).await.unwrap(), after);
}

#[tokio::test]
async fn the_oldest_waiting_entry_is_found_without_a_look_at_the_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (mut db, _) = open(directory.path()).await;
    let plan: Vec<String> = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {ENDS}")))
        .fetch_all(&mut db)
        .await
        .unwrap()
        .iter()
        .map(|row| row.get::<String, _>("detail"))
        .collect();
    let plan = plan.join("\n");
    assert!(plan.contains("SEARCH entry USING INDEX entry_waiting"), "{plan}");
    assert!(!plan.contains("SCAN entry"), "{plan}");
    assert!(plan.contains("event_refused"), "{plan}");
}

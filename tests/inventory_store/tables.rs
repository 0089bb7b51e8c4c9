//! Tables that earlier deployments or people made, changed, locked or dropped, in `PostgreSQL`.

use std::fmt::Write as _;

use s3_mirror::inventory::row::{Row, RowFault};
use s3_mirror::inventory::store::Store;

use crate::inventory::{Database, absent, present, seen};

/// The documented table, as earlier deployments made it.
const EARLIER_TABLE: &str = "
CREATE TABLE bucket_my_data (
    id SERIAL PRIMARY KEY,
    path TEXT UNIQUE NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    is_backed_up BOOLEAN DEFAULT FALSE,
    last_modified TIMESTAMP NOT NULL,
    deleted BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW()
);

-- Indexes for performance
CREATE INDEX idx_bucket_my_data_path ON bucket_my_data(path);
CREATE INDEX idx_bucket_my_data_backup ON bucket_my_data(is_backed_up);
CREATE INDEX idx_bucket_my_data_deleted ON bucket_my_data(deleted);
";

#[tokio::test]
async fn a_table_of_an_earlier_deployment_is_taken_over_without_loss() {
    let database = Database::postgres().await;
    database.execute(EARLIER_TABLE).await;
    database
        .execute(
            "INSERT INTO bucket_my_data (path, size, content_type, is_backed_up, last_modified)
             VALUES ('old', 1, 'a/b', TRUE, '2020-01-01'),
                    ('stale', 2, 'a/b', FALSE, '2020-01-01')",
        )
        .await;
    let store = database.store().await;
    let rows = [present("my-data", "stale", 20), present("my-data", "new", 3)];
    assert_eq!(store.write(&rows).await.unwrap(), []);

    let rows = seen(&database, "bucket_my_data").await;
    let facts: Vec<(i64, &str, i64, bool)> =
        rows.iter().map(|row| (row.id, row.path.as_str(), row.size, row.is_backed_up)).collect();
    assert_eq!(facts, [(3, "new", 3, false), (1, "old", 1, true), (2, "stale", 20, false)]);
    let indexes = database
        .query("SELECT indexname FROM pg_indexes WHERE tablename = 'bucket_my_data' ORDER BY 1")
        .await;
    let names: Vec<&str> = indexes.iter().map(|row| row[0].as_deref().unwrap()).collect();
    assert_eq!(
        names,
        [
            "bucket_my_data_path_key",
            "bucket_my_data_pkey",
            "idx_bucket_my_data_backup",
            "idx_bucket_my_data_deleted",
            "idx_bucket_my_data_path"
        ]
    );
    let columns = database
        .query(
            "SELECT column_name FROM information_schema.columns
             WHERE table_name = 'bucket_my_data' ORDER BY ordinal_position",
        )
        .await;
    assert_eq!(columns.len(), 14);
}

#[tokio::test]
async fn a_new_table_has_exactly_the_documented_columns_first() {
    let documented = Database::postgres().await;
    documented.execute(EARLIER_TABLE).await;
    let ours = Database::postgres().await;
    ours.store().await.write(&[present("my-data", "k", 1)]).await.unwrap();
    let shape = "SELECT column_name, data_type, is_nullable, column_default
                 FROM information_schema.columns WHERE table_name = 'bucket_my_data'
                 ORDER BY ordinal_position LIMIT 9";
    assert_eq!(ours.query(shape).await, documented.query(shape).await);
    let indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'bucket_my_data'
                   AND indexname LIKE 'idx%' ORDER BY 1";
    assert_eq!(ours.query(indexes).await, documented.query(indexes).await);
}

#[tokio::test]
async fn a_table_of_another_shape_is_left_alone() {
    let database = Database::postgres().await;
    database.execute("CREATE TABLE bucket_b (thing INTEGER); CREATE SEQUENCE bucket_c").await;
    let store = database.store().await;
    assert_eq!(store.write(&[present("b", "k", 1), present("c", "k", 1)]).await.unwrap(), []);
    assert_eq!(database.query("SELECT * FROM bucket_b").await.len(), 0);
    let tables = database.query("SELECT table_name FROM s3_mirror_buckets").await;
    assert!(tables.iter().all(|row| row[0].as_ref().unwrap().len() == "bucket_b_".len() + 8));
}

#[tokio::test]
async fn overwriting_rows_burns_no_ids() {
    let database = Database::postgres().await;
    let store = database.store().await;
    let rows: Vec<Row> = (0..100).map(|n| present("b", &format!("k{n}"), n)).collect();
    for _ in 0..10 {
        store.write(&rows).await.unwrap();
    }
    store.write(&[present("b", "last", 1), absent("b", "k1")]).await.unwrap();
    let ids =
        database.query("SELECT max(id), last_value FROM bucket_b, bucket_b_id_seq GROUP BY 2");
    assert_eq!(ids.await[0], [Some("101".to_owned()), Some("101".to_owned())]);
}

#[tokio::test]
async fn a_lost_registry_is_rebuilt_without_mixing_buckets() {
    let database = Database::postgres().await;
    let rows = [present("my-data", "hyphen", 1), present("my.data", "dot", 1)];
    let store = database.store().await;
    store.write(&rows[..1]).await.unwrap();
    store.write(&rows[1..]).await.unwrap();
    let sql = "SELECT bucket, table_name FROM s3_mirror_buckets ORDER BY bucket";
    let before = database.query(sql).await;
    database.execute("DROP TABLE s3_mirror_buckets").await;
    let store = database.store().await;
    // The second comer asks first this time.
    assert_eq!(store.write(&rows[1..]).await.unwrap(), []);
    assert_eq!(store.write(&rows[..1]).await.unwrap(), []);
    assert_eq!(database.query(sql).await, before);
}

#[tokio::test]
async fn a_table_altered_by_a_person_is_repaired() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("b", "k", 1), present("c", "k", 1)]).await.unwrap();
    database
        .execute(
            "ALTER TABLE bucket_b DROP COLUMN last_error, DROP COLUMN content_type;
             ALTER TABLE bucket_b DROP CONSTRAINT idx_bucket_b_path;
             DROP INDEX idx_bucket_b_backup",
        )
        .await;
    assert_eq!(store.write(&[present("b", "k", 2), present("b", "l", 3)]).await.unwrap(), []);
    let rows = seen(&database, "bucket_b").await;
    assert_eq!(rows.iter().map(|row| row.size).collect::<Vec<_>>(), [2, 3]);

    // What no repair can mend concerns that table alone.
    database.execute("ALTER TABLE bucket_b ADD COLUMN mine INTEGER NOT NULL DEFAULT 0").await;
    database.execute("ALTER TABLE bucket_b ALTER COLUMN mine DROP DEFAULT").await;
    let faults = store.write(&[present("b", "n", 2), present("c", "l", 3)]).await.unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].0 == 0 && faults[0].1.is_transient(), "{faults:?}");
    database.execute("ALTER TABLE bucket_b DROP COLUMN mine; DROP TABLE bucket_c").await;
    database.execute("CREATE VIEW bucket_c AS SELECT 1 AS path").await;
    let faults = store.write(&[present("b", "n", 2), present("c", "l", 3)]).await.unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].0 == 1 && faults[0].1.is_transient(), "{faults:?}");
}

#[tokio::test]
async fn a_value_the_server_refuses_faults_that_row_alone() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("b", "k", 1)]).await.unwrap();
    database.execute("ALTER TABLE bucket_b ADD CHECK (path <> 'odd-333')").await;
    let mut rows: Vec<Row> = (0..1000).map(|n| present("b", &format!("odd-{n}"), n)).collect();
    // Incompressible and over the limit of a B-tree entry; no S3 allows it, but a mirror may.
    let mut noise = String::new();
    let mut state = 1_u64;
    while noise.len() < 8000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        write!(noise, "{:x}", state >> 20).unwrap();
    }
    rows.push(present("b", &noise, 1));
    let faults = store.write(&rows).await.unwrap();
    assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [333, 1000]);
    for (_, fault) in &faults {
        assert!(matches!(fault, RowFault::Unstorable { .. }), "{fault:?}");
        assert!(fault.reason().contains("SQLSTATE"), "{fault:?}");
    }
    assert_eq!(seen(&database, "bucket_b").await.len(), 1000);
}

#[tokio::test]
async fn a_locked_table_stops_no_other_table() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("slow", "k", 1), present("b", "k", 1)]).await.unwrap();
    database.execute("BEGIN; LOCK TABLE bucket_slow IN ACCESS EXCLUSIVE MODE").await;
    let faults = store.write(&[present("slow", "l", 1), present("b", "l", 1)]).await.unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].0 == 0 && faults[0].1.is_transient());
    assert_eq!(seen(&database, "bucket_b").await.len(), 2);
    database.execute("ROLLBACK").await;
    assert_eq!(store.write(&[present("slow", "l", 1)]).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_write_the_same_keys_never_fail_each_other() {
    let database = Database::postgres().await;
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let store = database.store().await;
        writers.push(tokio::spawn(async move {
            for round in 0..15_u64 {
                let start = (writer * 37 + round * 101) % 400;
                let rows: Vec<Row> = (start..start + 400)
                    .map(|n| present("b", &format!("k{}", n * 7919 % 800), n))
                    .collect();
                assert_eq!(store.write(&rows).await.unwrap(), []);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.query(deadlocks).await[0][0].as_deref(), Some("0"));
    let (count, ids) = ("SELECT count(*) FROM bucket_b", "SELECT last_value FROM bucket_b_id_seq");
    let count: i64 = database.query(count).await[0][0].as_ref().unwrap().parse().unwrap();
    let ids: i64 = database.query(ids).await[0][0].as_ref().unwrap().parse().unwrap();
    assert!(count <= 800 && ids < 4 * 800, "{count} rows took {ids} numbers");
}

/// The indices of contested rows.
async fn contested(store: &Store, writer: i64, rows: &[Row]) -> Vec<usize> {
    store.write_as(writer, rows).await.unwrap().contested
}

#[tokio::test]
async fn a_row_that_a_second_proxy_has_written_is_contested_from_then_on() {
    let database = Database::postgres().await;
    let (first, second) = (database.store().await, database.store().await);
    let rows = [present("b", "a", 1), present("b", "k", 1), present("b", "z", 1)];
    // One proxy alone is never told anything, however often it writes.
    for _ in 0..3 {
        assert_eq!(contested(&first, 7, &rows).await, [0; 0]);
    }
    assert_eq!(contested(&second, 8, &[present("b", "new", 1)]).await, [0; 0]);
    let told = contested(&second, 8, &rows[1..2]).await;
    assert_eq!(told, [0], "the second one is told at once");
    let told = contested(&second, 8, &rows[1..2]).await;
    assert_eq!(told, [0], "although the last writer was itself");
    let told = contested(&first, 7, &rows).await;
    assert_eq!(told, [1], "and the first one, for this row alone");
    let writers = database.query("SELECT path, writer FROM bucket_b ORDER BY path").await;
    let told: Vec<_> = writers.iter().map(|row| row[1].as_deref().unwrap()).collect();
    assert_eq!(told, ["7", "-7", "8", "7"]);
}

#[tokio::test]
async fn a_row_of_an_earlier_version_is_nobodys_and_a_nameless_writer_leaves_a_warning() {
    let database = Database::postgres().await;
    let store = database.store().await;
    let row = [present("b", "k", 1)];
    store.write(&row).await.unwrap();
    assert_eq!(contested(&store, 7, &row).await, [0; 0]);
    store.write(&row).await.unwrap();
    assert_eq!(contested(&store, 7, &row).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_proxies_that_write_one_new_row_at_once_one_is_told() {
    let database = Database::postgres().await;
    let (first, second) = (database.store().await, database.store().await);
    first.write(&[present("b", "so that there is a table", 1)]).await.unwrap();
    second.write(&[present("b", "so that there is a table", 1)]).await.unwrap();
    for number in 0..100 {
        let rows = [present("b", &format!("k{number}"), 1)];
        let (one, other) = tokio::join!(first.write_as(7, &rows), second.write_as(8, &rows));
        let told = one.unwrap().contested.len() + other.unwrap().contested.len();
        assert_eq!(told, 1, "row {number}");
    }
}

/// How the system that this one takes over from writes its rows.
const EARLIER_UPSERT: &str = "
INSERT INTO bucket_my_data (path, size, content_type, is_backed_up, last_modified, deleted)
VALUES ('shared', 9, 'a/b', FALSE, '2026-01-01', FALSE)
ON CONFLICT (path) DO UPDATE SET size = EXCLUDED.size, content_type = EXCLUDED.content_type,
    is_backed_up = EXCLUDED.is_backed_up, last_modified = EXCLUDED.last_modified,
    deleted = EXCLUDED.deleted, updated_at = NOW()";

#[tokio::test]
async fn two_versions_may_write_one_table_and_the_newer_one_s_shared_objects_stay() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("my-data", "shared", 1), present("my-data", "own", 1)]).await.unwrap();
    // An earlier version knows nothing of the later columns.
    database.execute(EARLIER_UPSERT).await;
    database.execute(&EARLIER_UPSERT.replace("shared", "theirs")).await;
    // A later version has added a column of its own, and changed a view.
    database
        .execute(
            "INSERT INTO s3_mirror_migrations (version) VALUES (99);
             ALTER TABLE bucket_my_data ADD COLUMN storage_class TEXT;
             DROP VIEW s3_mirror_pending;
             CREATE VIEW s3_mirror_pending AS SELECT 'of version 99'::text AS told",
        )
        .await;
    let ours = database.store().await;
    let rows = [present("my-data", "shared", 2), present("my-data", "theirs", 3)];
    assert_eq!(ours.write(&rows).await.unwrap(), []);
    assert_eq!(ours.write(&[present("another", "k", 1)]).await.unwrap(), []);
    let rows = seen(&database, "bucket_my_data").await;
    assert_eq!(rows.iter().map(|row| row.size).collect::<Vec<_>>(), [1, 2, 3]);
    let told = database.query("SELECT told FROM s3_mirror_pending").await;
    assert_eq!(told[0][0].as_deref(), Some("of version 99"));
    let versions = "SELECT count(*) FROM s3_mirror_migrations WHERE version = 99";
    assert_eq!(database.query(versions).await[0][0].as_deref(), Some("1"));
}

#[tokio::test]
async fn a_table_whose_numbers_were_copied_without_their_sequence_takes_new_rows() {
    let database = Database::postgres().await;
    let store = database.store().await;
    store.write(&[present("b", "first", 1)]).await.unwrap();
    // As a logical replication leaves it, and while the table is known.
    database
        .execute(
            "INSERT INTO bucket_b (id, path, size, content_type, last_modified)
             SELECT n, 'copied-' || n, 1, 'a/b', '2020-01-01' FROM generate_series(2, 3000) n",
        )
        .await;
    let rows: Vec<Row> = (0..50).map(|n| present("b", &format!("new-{n}"), n)).collect();
    assert_eq!(store.write(&rows).await.unwrap(), []);
    let found =
        database.query("SELECT count(*), min(id), max(id) FROM bucket_b WHERE path LIKE 'new-%'");
    let numbers = ["50", "3001", "3050"].map(|number| Some(number.to_owned()));
    assert_eq!(found.await[0], numbers);
}

#[tokio::test]
async fn a_column_that_a_person_gives_another_collation_goes_on_taking_rows() {
    let database = Database::postgres().await;
    let store = database.store().await;
    let rows: Vec<Row> = (0..5).map(|n| present("b", &format!("k{n}"), n)).collect();
    for collation in ["POSIX", "C"] {
        assert_eq!(store.write(&rows).await.unwrap(), []);
        let sql =
            format!("ALTER TABLE bucket_b ALTER COLUMN path TYPE TEXT COLLATE \"{collation}\"");
        database.execute(&sql).await;
        assert_eq!(store.write(&rows).await.unwrap(), [], "{collation}");
    }
}

//! One list of behaviours, over both stores.

use std::time::Duration;

use s3_mirror::inventory::import::{AsOf, Taken};
use s3_mirror::inventory::retention;
use s3_mirror::inventory::row::{Row, RowFault, RowState};
use s3_mirror::inventory::table::REGISTRY;

use crate::inventory::{Database, Seen, absent, present, seen};

/// Runs one test body over both stores.
macro_rules! over_both_stores {
    ($($(#[$doc:meta])* $name:ident)+) => {
        mod on_postgres {
            $($(#[$doc])* #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Database::postgres().await).await;
            })+
        }
        mod on_sqlite {
            $($(#[$doc])* #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Database::sqlite().await).await;
            })+
        }
    };
}

over_both_stores! {
    a_row_follows_its_key_through_its_life
    an_absent_key_without_a_row_leaves_a_tombstone
    a_second_look_changes_the_flag_only_of_a_row_that_was_wrong
    hostile_bucket_names_get_tables_of_their_own
    buckets_that_want_one_name_get_two_tables
    two_processes_make_one_table
    a_table_dropped_by_a_person_is_made_again
    a_nul_in_a_key_faults_that_row_alone
    the_documented_queries_run_verbatim
    the_views_cover_all_tables
    a_reopened_store_finds_its_tables
    large_batches_arrive_whole
    an_import_adds_what_is_missing_and_leaves_newer_news_alone
    an_import_fills_what_a_row_lacks_and_keeps_what_it_has
    rows_of_keys_deleted_long_ago_are_removed_and_no_others
    the_keys_of_a_bucket_are_counted_and_one_without_rows_is_no_fault
}

async fn a_row_follows_its_key_through_its_life(database: Database) {
    let store = database.store().await;
    store.write(&[present("my-data", "a/b c.txt", 11)]).await.unwrap();
    let first = seen(&database, "bucket_my_data").await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].path, "a/b c.txt");
    assert_eq!(first[0].size, 11);
    assert_eq!(first[0].content_type, "text/plain; n=11");
    assert_eq!(first[0].last_modified, "2026-02-03 04:05:06.123456");
    assert_eq!(first[0].etag.as_deref(), Some("\"etag-11\""));
    assert!(!first[0].deleted && !first[0].is_backed_up);
    assert_eq!(first[0].mirrored_at, None);

    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut mirrored = present("my-data", "a/b c.txt", 12);
    mirrored.mirrored = true;
    store.write(std::slice::from_ref(&mirrored)).await.unwrap();
    let second = seen(&database, "bucket_my_data").await;
    assert_eq!((second[0].size, second[0].is_backed_up), (12, true));
    assert!(second[0].mirrored_at.is_some());
    assert_eq!(second[0].id, first[0].id);
    assert_eq!(second[0].created_at, first[0].created_at);
    assert!(second[0].updated_at > first[0].updated_at, "{second:?} after {first:?}");

    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut gone = absent("my-data", "a/b c.txt");
    gone.last_error = Some("the mirror refuses".to_owned());
    store.write(&[gone]).await.unwrap();
    let third = seen(&database, "bucket_my_data").await;
    assert!(third[0].deleted && !third[0].is_backed_up);
    assert_eq!((third[0].size, third[0].mirrored_at.as_ref()), (12, None));
    assert_eq!(third[0].etag, second[0].etag);
    assert_eq!(third[0].last_error.as_deref(), Some("the mirror refuses"));
    assert!(third[0].updated_at > second[0].updated_at);

    store.write(&[mirrored]).await.unwrap();
    let fourth = seen(&database, "bucket_my_data").await;
    assert!(!fourth[0].deleted && fourth[0].is_backed_up);
    assert_eq!((fourth[0].id, fourth[0].last_error.as_ref()), (first[0].id, None));
}

async fn an_absent_key_without_a_row_leaves_a_tombstone(database: Database) {
    let store = database.store().await;
    let rows = [absent("b", "never"), present("b", "there", 1)];
    assert!(store.write(&rows).await.unwrap().is_empty());
    let rows = seen(&database, "bucket_b").await;
    let told: Vec<_> = rows.iter().map(|row| (row.path.as_str(), row.deleted, row.size)).collect();
    assert!(told.contains(&("never", true, 0)) && told.contains(&("there", false, 1)), "{told:?}");
}

async fn a_second_look_changes_the_flag_only_of_a_row_that_was_wrong(database: Database) {
    let store = database.store().await;
    let mut mirrored = [present("b", "same", 1), present("b", "other", 1), absent("b", "gone")];
    for row in &mut mirrored {
        row.mirrored = true;
    }
    let mut refused = present("b", "refused", 1);
    refused.last_error = Some("why".to_owned());
    store.write(&mirrored).await.unwrap();
    store.write(&[refused]).await.unwrap();
    let before = seen(&database, "bucket_b").await;
    let mut looked = [
        present("b", "same", 1),
        present("b", "other", 2),
        absent("b", "gone"),
        present("b", "refused", 1),
        present("b", "new", 1),
    ];
    for row in &mut looked {
        row.unsure = true;
    }
    assert_eq!(store.write(&looked).await.unwrap(), []);
    let after = seen(&database, "bucket_b").await;
    let told = |path: &str| {
        let find = |rows: &[Seen]| rows.iter().find(|row| row.path == path).cloned();
        (find(&before), find(&after).unwrap())
    };
    for path in ["same", "gone"] {
        let (before, after) = told(path);
        assert!(after.is_backed_up, "{path}");
        assert_eq!(before.unwrap().mirrored_at, after.mirrored_at);
    }
    assert!(!told("other").1.is_backed_up && !told("new").1.is_backed_up);
    assert_eq!(told("other").1.mirrored_at, None);
    assert_eq!(told("refused").1.last_error.as_deref(), Some("why"));
    for row in &mut looked {
        row.unsure = false;
    }
    store.write(&looked).await.unwrap();
    assert!(seen(&database, "bucket_b").await.iter().all(|row| !row.is_backed_up));
}

async fn hostile_bucket_names_get_tables_of_their_own(database: Database) {
    let store = database.store().await;
    let long = "n".repeat(63);
    let longer = format!("{}x", "n".repeat(62));
    let fits = "f".repeat(56);
    let buckets = [
        "select",
        "user",
        "table",
        "group.by",
        "x",
        "x-id-seq",
        "x-pkey",
        "x-path-key",
        "...",
        "-a-",
        "a--b",
        "1",
        "UPPER",
        "upper",
        "it's",
        "\"; DROP TABLE s3_mirror_buckets; --",
        "$1",
        "%I",
        "ünï",
        "日本",
        "bucket-x",
        "s3-mirror-buckets",
        "\\'; --",
        &long,
        &longer,
        &fits,
    ];
    let rows: Vec<Row> = buckets.iter().map(|bucket| present(bucket, bucket, 1)).collect();
    assert_eq!(store.write(&rows).await.unwrap(), []);
    assert_eq!(store.write(&rows).await.unwrap(), []);

    let sql = format!("SELECT bucket, table_name FROM {REGISTRY} ORDER BY bucket");
    let owners = database.query(&sql).await;
    assert_eq!(owners.len(), buckets.len());
    for owner in &owners {
        let (bucket, table) = (owner[0].clone().unwrap(), owner[1].clone().unwrap());
        assert!(table.len() <= 63 && table.starts_with("bucket_"), "{table}");
        let rows = seen(&database, &table).await;
        assert_eq!(rows.len(), 1, "{bucket} in {table}");
        assert_eq!(rows[0].path, bucket);
    }
    let listed = database
        .query(
            "SELECT tablename FROM pg_tables
             WHERE schemaname = 'public' AND tablename LIKE 'bucket_%'",
        )
        .await;
    assert_eq!(listed.len(), buckets.len());
    let sql = format!("SELECT table_name FROM {REGISTRY} WHERE bucket = '{fits}'");
    assert_eq!(database.query(&sql).await[0][0], Some(format!("bucket_{fits}")));
    let counts = database.query("SELECT bucket, objects FROM s3_mirror_bucket_summary").await;
    assert_eq!(counts.len(), buckets.len());
}

async fn buckets_that_want_one_name_get_two_tables(database: Database) {
    let store = database.store().await;
    store.write(&[present("my-data", "first", 1)]).await.unwrap();
    store.write(&[present("my.data", "second", 2)]).await.unwrap();
    store.write(&[present("My-Data", "third", 3)]).await.unwrap();
    let rows = seen(&database, "bucket_my_data").await;
    assert_eq!(rows.iter().map(|row| row.path.as_str()).collect::<Vec<_>>(), ["first"]);
    for (bucket, path) in [("my.data", "second"), ("My-Data", "third")] {
        let sql = format!("SELECT table_name FROM {REGISTRY} WHERE bucket = '{bucket}'");
        let table = database.query(&sql).await[0][0].clone().unwrap();
        assert!(table.starts_with("bucket_my_data_") && table.len() == "bucket_my_data_".len() + 8);
        assert_eq!(seen(&database, &table).await[0].path, path);
    }
}

async fn two_processes_make_one_table(database: Database) {
    let mut writers = Vec::new();
    for writer in 0..6_u64 {
        let store = database.store().await;
        writers.push(tokio::spawn(async move {
            for round in 0..5_u64 {
                let rows = [
                    present(&format!("new-{round}"), &format!("k{writer}"), writer),
                    present(&format!("new.{round}"), &format!("k{writer}"), writer),
                    present(&format!("new-{round}"), "shared", writer),
                ];
                let mut tries = 0;
                // SQLite lets one process in at a time and a waiting one may be told so.
                while let Err(error) = store.write(&rows).await {
                    assert!(error.is_transient() && tries < 5, "{error}");
                    tries += 1;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let sql = format!("SELECT bucket, table_name FROM {REGISTRY} ORDER BY bucket");
    let owners = database.query(&sql).await;
    assert_eq!(owners.len(), 10);
    for owner in owners {
        let rows = seen(&database, owner[1].as_ref().unwrap()).await;
        let expected = if owner[0].as_ref().unwrap().contains('-') { 7 } else { 6 };
        assert_eq!(rows.len(), expected, "{owner:?}");
    }
}

async fn a_table_dropped_by_a_person_is_made_again(database: Database) {
    let store = database.store().await;
    store.write(&[present("b", "old", 1), present("c", "kept", 1)]).await.unwrap();
    database.execute("DROP TABLE bucket_b").await;
    assert_eq!(store.write(&[present("b", "new", 1), present("c", "more", 1)]).await.unwrap(), []);
    assert_eq!(seen(&database, "bucket_b").await[0].path, "new");
    assert_eq!(seen(&database, "bucket_c").await.len(), 2);
    let summary = database.query("SELECT bucket, objects FROM s3_mirror_bucket_summary").await;
    assert_eq!(summary.len(), 2);
}

async fn a_nul_in_a_key_faults_that_row_alone(database: Database) {
    let store = database.store().await;
    let rows = [present("b", "a", 1), present("b", "b\0", 1), present("b", "c", 1)];
    let faults = store.write(&rows).await.unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].0, 1);
    assert!(matches!(&faults[0].1, RowFault::Unstorable { reason } if reason.contains("NUL")));
    assert_eq!(seen(&database, "bucket_b").await.len(), 2);
}

async fn the_documented_queries_run_verbatim(database: Database) {
    let store = database.store().await;
    let mut saved = present("my-data", "saved", 5);
    saved.mirrored = true;
    let rows = [present("my-data", "a", 10), present("my-data", "b", 20), saved];
    store.write(&rows).await.unwrap();
    store.write(&[present("my-data", "gone", 99)]).await.unwrap();
    store.write(&[absent("my-data", "gone")]).await.unwrap();

    let tables = database
        .query(
            "SELECT tablename FROM pg_tables
WHERE schemaname = 'public' AND tablename LIKE 'bucket_%';",
        )
        .await;
    assert_eq!(tables, [[Some("bucket_my_data".to_owned())]]);
    let pending = database
        .query(
            "SELECT * FROM bucket_my_data
WHERE is_backed_up = FALSE AND deleted = FALSE;",
        )
        .await;
    assert_eq!(pending.len(), 2);
    let total = database
        .query(
            "SELECT SUM(size) as total_bytes
FROM bucket_my_data WHERE deleted = FALSE;",
        )
        .await;
    assert_eq!(total[0][0].as_deref(), Some("35"));
    let types = database
        .query(
            "SELECT content_type, COUNT(*), SUM(size) as total_size
FROM bucket_my_data WHERE deleted = FALSE
GROUP BY content_type;",
        )
        .await;
    assert_eq!(types.len(), 3);
    // "Check all buckets backup status": as documented it names a table `public.tablename`; this is
    // the form that runs.
    let all = database
        .query(
            "SELECT table_name AS bucket, pending_backup, deleted_files
             FROM s3_mirror_bucket_summary",
        )
        .await;
    let expected = ["bucket_my_data", "3", "1"].map(|text| Some(text.to_owned()));
    assert_eq!(all, [expected]);
}

async fn the_views_cover_all_tables(database: Database) {
    let store = database.store().await;
    store.write(&[present("a", "1", 5), present("a", "2", 6), present("b", "1", 7)]).await.unwrap();
    let mut done = present("a", "1", 5);
    done.mirrored = true;
    store.write(&[done]).await.unwrap();
    let sql = "SELECT bucket, path, size FROM s3_mirror_pending ORDER BY bucket, path";
    let text = |row: [&str; 3]| row.map(|text| Some(text.to_owned())).to_vec();
    assert_eq!(database.query(sql).await, [text(["a", "2", "6"]), text(["b", "1", "7"])]);
    let sql = "SELECT bucket, objects, total_bytes FROM s3_mirror_bucket_summary ORDER BY bucket";
    assert_eq!(database.query(sql).await, [text(["a", "2", "11"]), text(["b", "1", "7"])]);
}

async fn a_reopened_store_finds_its_tables(database: Database) {
    {
        let store = database.store().await;
        store.write(&[present("my.data", "x", 1), present("other", "x", 1)]).await.unwrap();
        store.write(&[present("my-data", "y", 1)]).await.unwrap();
    }
    let store = database.store().await;
    store.ping().await.unwrap();
    store.close().await;
    assert!(store.ping().await.is_err());
    let store = database.store().await;
    store.write(&[present("my-data", "z", 1), present("my.data", "w", 1)]).await.unwrap();
    let paths = |rows: Vec<Seen>| rows.into_iter().map(|r| r.path).collect::<Vec<_>>();
    assert_eq!(paths(seen(&database, "bucket_my_data").await), ["w", "x"]);
    let sql = format!("SELECT table_name FROM {REGISTRY} WHERE bucket = 'my-data'");
    let table = database.query(&sql).await[0][0].clone().unwrap();
    assert_eq!(paths(seen(&database, &table).await), ["y", "z"]);
}

async fn large_batches_arrive_whole(database: Database) {
    let store = database.store().await;
    let key = |n: u64| format!("{n:05}-{}", "k".repeat(1000));
    let rows: Vec<Row> = (0..5000).map(|n| present("b", &key(n), n)).collect();
    assert_eq!(store.write(&rows).await.unwrap(), []);
    let halved = |n| {
        if n % 2 == 0 { absent("b", &key(n)) } else { present("b", &key(n), 1) }
    };
    let rows: Vec<Row> = (0..5000).map(halved).collect();
    assert_eq!(store.write(&rows).await.unwrap(), []);
    let sql = "SELECT count(*), sum(CASE WHEN deleted THEN 1 ELSE 0 END), sum(size) FROM bucket_b";
    let sums = database.query(sql).await;
    let evens: u64 = (0..5000).filter(|n| n % 2 == 0).sum();
    assert_eq!(sums[0], ["5000", "2500", &(evens + 2500).to_string()].map(|t| Some(t.to_owned())));
}

/// An object as a listing tells it: without media type, and saying nothing of the mirror.
fn listed(key: &str, size: u64) -> Row {
    let mut row = present("b", key, size);
    if let RowState::Present { content_type, .. } = &mut row.state {
        content_type.clear();
    }
    row.unsure = true;
    row
}

async fn an_import_adds_what_is_missing_and_leaves_newer_news_alone(database: Database) {
    let store = database.store().await;
    let mut gone = absent("b", "gone since");
    gone.mirrored = true;
    store.write(&[present("b", "stale", 1), present("b", "as before", 1)]).await.unwrap();
    database.execute("UPDATE bucket_b SET updated_at = '2020-01-01 00:00:00'").await;
    let moment = store.clock().await.unwrap();
    let as_of = AsOf { moment, only_if_newer: false };
    // What proxies write from here on is newer than the listing.
    store.write(&[present("b", "overwritten since", 9), gone]).await.unwrap();
    let rows = [
        listed("new", 5),
        listed("stale", 2),
        listed("as before", 1),
        listed("overwritten since", 1),
        listed("gone since", 1),
        listed("nul\0", 1),
    ];
    let taken = store.import(&rows, as_of).await.unwrap();
    assert_eq!((taken.added, taken.updated), (1, 1), "{taken:?}");
    assert_eq!(taken.faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [5]);
    let rows = seen(&database, "bucket_b").await;
    let told: Vec<_> =
        rows.iter().map(|r| (r.path.as_str(), r.size, r.deleted, &*r.content_type)).collect();
    assert_eq!(
        told,
        [
            ("as before", 1, false, "text/plain; n=1"),
            ("gone since", 0, true, "binary/octet-stream"),
            ("new", 5, false, ""),
            ("overwritten since", 9, false, "text/plain; n=9"),
            ("stale", 2, false, ""),
        ]
    );
    // Importing again changes nothing, and a list that is older than a row's object is no news.
    let taken = store.import(&[listed("new", 5), listed("stale", 2)], as_of).await.unwrap();
    assert_eq!(taken, Taken::default());
    database
        .execute("UPDATE bucket_b SET updated_at = '2020-01-01 00:00:00', last_modified = '2030-01-01 00:00:00'")
        .await;
    let old = AsOf { moment, only_if_newer: true };
    assert_eq!(store.import(&[listed("stale", 3)], old).await.unwrap(), Taken::default());
    assert_eq!(store.import(&[listed("stale", 3)], as_of).await.unwrap().updated, 1);
}

async fn an_import_fills_what_a_row_lacks_and_keeps_what_it_has(database: Database) {
    let store = database.store().await;
    let mut mirrored = present("b", "earlier", 1);
    mirrored.mirrored = true;
    store.write(&[mirrored, present("b", "untyped", 1), present("b", "copied", 1)]).await.unwrap();
    database
        .execute(
            "UPDATE bucket_b SET etag = NULL WHERE path = 'earlier';
             UPDATE bucket_b SET content_type = '' WHERE path = 'untyped';
             UPDATE bucket_b SET last_error = 'refused' WHERE path = 'copied';
             UPDATE bucket_b SET updated_at = '2020-01-01 00:00:00'",
        )
        .await;
    let mut copied = listed("copied", 1);
    (copied.unsure, copied.mirrored) = (false, true);
    let rows = [listed("earlier", 1), present("b", "untyped", 1), copied];
    let moment = store.clock().await.unwrap();
    let taken = store.import(&rows, AsOf { moment, only_if_newer: false }).await.unwrap();
    assert_eq!((taken.added, taken.updated), (0, 3));
    let rows = seen(&database, "bucket_b").await;
    let row = |path: &str| rows.iter().find(|row| row.path == path).unwrap();
    assert_eq!(row("earlier").etag.as_deref(), Some("\"etag-1\""));
    assert!(row("earlier").is_backed_up && row("earlier").mirrored_at.is_some());
    assert_eq!(row("earlier").content_type, "text/plain; n=1");
    assert_eq!(row("untyped").content_type, "text/plain; n=1");
    assert!(!row("untyped").is_backed_up);
    assert!(row("copied").is_backed_up && row("copied").mirrored_at.is_some());
    assert_eq!(row("copied").last_error, None);
    // An object that is another one is not mirrored because the one before was.
    database.execute("UPDATE bucket_b SET updated_at = '2020-01-01 00:00:00'").await;
    store.import(&[listed("earlier", 2)], AsOf { moment, only_if_newer: false }).await.unwrap();
    let rows = seen(&database, "bucket_b").await;
    let earlier = rows.iter().find(|row| row.path == "earlier").unwrap();
    assert!(!earlier.is_backed_up && earlier.mirrored_at.is_none());
}

async fn rows_of_keys_deleted_long_ago_are_removed_and_no_others(database: Database) {
    let store = database.store().await;
    let gone = |bucket: &str, key: &str| {
        let mut row = absent(bucket, key);
        row.mirrored = true;
        row
    };
    // More than one statement takes.
    let mut rows: Vec<Row> = (0..1500).map(|n| gone("b", &format!("old {n}"))).collect();
    rows.extend([gone("b", "recent"), absent("b", "still mirrored"), present("b", "there", 1)]);
    rows.push(gone("c", "old"));
    store.write(&rows).await.unwrap();
    for table in ["bucket_b", "bucket_c"] {
        let old = "SET updated_at = '2020-01-01 00:00:00' WHERE path <> 'recent'";
        database.execute(&format!("UPDATE {table} {old}")).await;
    }
    let month = Duration::from_hours(720);
    assert_eq!(retention::round(&store, month).await, 1501);
    let left: Vec<_> = seen(&database, "bucket_b").await.into_iter().map(|r| r.path).collect();
    assert_eq!(left, ["recent", "still mirrored", "there"]);
    assert_eq!(seen(&database, "bucket_c").await, []);
    // A key that returns has a row again.
    store.write(&[present("c", "old", 3)]).await.unwrap();
    assert_eq!(seen(&database, "bucket_c").await[0].size, 3);
    assert_eq!(retention::round(&store, month).await, 0);
}

async fn the_keys_of_a_bucket_are_counted_and_one_without_rows_is_no_fault(database: Database) {
    let store = database.store().await;
    let hour = Duration::from_hours(1);
    assert_eq!(store.known_keys("b", 10, hour).await, Ok(None), "nothing has ever been written");
    store.write(&[present("b", "k1", 1), present("b", "k2", 1)]).await.unwrap();
    assert_eq!(store.known_keys("b", 10, hour).await, Ok(Some(2)));
    assert_eq!(store.known_keys("b", 1, hour).await, Ok(Some(1)), "no further than asked for");
    assert_eq!(store.known_keys("other", 10, hour).await, Ok(None));
    database.execute("DROP TABLE bucket_b").await;
    assert_eq!(store.known_keys("b", 10, hour).await.ok().flatten(), None);
}

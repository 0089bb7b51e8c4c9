//! Looking through an inventory that is too large to be looked through: what is found, by which way
//! (the plans of the databases, not times), and how far one answer goes. Times are in
//! `benches/inventory`.

use s3_mirror::inventory::browse::search::{Dialect, Search, Statement};
use s3_mirror::inventory::browse::walk::LOOK_AT_MAX;
use s3_mirror::inventory::browse::{Browser, Wanted};
use s3_mirror::inventory::postgres::PostgresSettings;

use crate::inventory::{Database, fill, present};

const TABLE: &str = "bucket_b";

fn browser(database: &Database) -> Browser {
    match database {
        Database::Postgres { url, .. } => {
            Browser::postgres(PostgresSettings::from_url(url).unwrap()).unwrap()
        }
        Database::Sqlite { directory, .. } => {
            Browser::sqlite(&directory.path().join("inventory.db"))
        }
    }
}

fn wanted() -> Wanted {
    Wanted { bucket: "b".into(), limit: 100, ..Wanted::default() }
}

/// Keys of all pages, and how many pages there were.
async fn all(browser: &Browser, mut wanted: Wanted) -> (Vec<String>, usize) {
    let (mut keys, mut pages) = (Vec::new(), 0);
    loop {
        let page = browser.page(&wanted).await.unwrap();
        pages += 1;
        assert!(page.rows.len() <= usize::try_from(wanted.limit).unwrap());
        assert!(page.looked_at <= LOOK_AT_MAX);
        keys.extend(page.rows.into_iter().map(|row| row.key));
        match page.next {
            Some(next) => wanted.after = Some(next),
            None => return (keys, pages),
        }
    }
}

/// A table of the bucket `b` that this version made, or with the collation of the database.
async fn make_table(database: &Database, collation: Option<&str>) {
    database.store().await.write(&[present("b", "zzz/last", 1)]).await.unwrap();
    if let Some(collation) = collation {
        let sql =
            format!("ALTER TABLE {TABLE} ALTER COLUMN path TYPE TEXT COLLATE \"{collation}\"");
        database.execute(&sql).await;
    }
}

async fn found_by_prefix_part_and_state(database: Database, collation: Option<&str>) {
    make_table(&database, collation).await;
    fill(&database, TABLE, 5_000).await;
    database
        .execute(
            "UPDATE bucket_b SET is_backed_up = FALSE WHERE path LIKE '%/00007_.bin';
             UPDATE bucket_b SET deleted = TRUE WHERE path LIKE '%/00001%'",
        )
        .await;
    let browser = browser(&database);
    let keys = async |more: Wanted| {
        let (mut keys, _) = all(&browser, more).await;
        let found = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), found, "no key is on two pages");
        keys
    };
    let with = |prefix: &str, contains: &str| Wanted {
        prefix: prefix.into(),
        contains: contains.into(),
        ..wanted()
    };

    // Numbers 10000 to 19999 are gone, of which the table has none, and 00001x.
    assert_eq!(keys(wanted()).await.len(), 5_001 - 10);
    assert_eq!(keys(Wanted { deleted: true, ..wanted() }).await.len(), 5_001);
    let january = keys(with("2026/01/", "")).await;
    assert!(january.iter().all(|key| key.starts_with("2026/01/")) && january.len() > 160);
    assert_eq!(keys(with("2026/01/", "00031.bin")).await, ["2026/01/000031.bin"]);
    assert_eq!(keys(with("", "last")).await, ["zzz/last"]);
    assert_eq!(keys(with("", "LAST")).await, [""; 0], "letters count as they are");
    for pattern in ["%", "_", "2026/01/0000%"] {
        assert_eq!(keys(with("", pattern)).await, [""; 0], "{pattern} is no pattern");
    }
    let lacking = keys(Wanted { pending: true, ..wanted() }).await;
    // 000070 to 000079, and what was written as not mirrored.
    assert_eq!(lacking.len(), 11, "{lacking:?}");
    let (prefix, pending) = ("2026/".to_owned(), true);
    assert_eq!(keys(Wanted { prefix, pending, limit: 3, ..wanted() }).await.len(), 10);

    let exact = Wanted { limit: 500, ..with("2026/00/", "") };
    let count = u32::try_from(keys(exact.clone()).await.len()).unwrap();
    let next = async |limit| browser.page(&Wanted { limit, ..exact.clone() }).await.unwrap().next;
    assert_eq!(next(count).await, None, "a last page that is full says that it is the last");
    assert!(next(count - 1).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_by_prefix_part_and_state_on_postgres() {
    found_by_prefix_part_and_state(Database::postgres().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_in_an_older_table_that_sorts_as_people_do() {
    let database = Database::postgres().await;
    found_by_prefix_part_and_state(database, Some("en-x-icu")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_by_prefix_part_and_state_on_sqlite() {
    found_by_prefix_part_and_state(Database::sqlite().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_finds_little_is_answered_in_part_and_goes_on() {
    let database = Database::sqlite().await;
    make_table(&database, None).await;
    let rows = LOOK_AT_MAX + LOOK_AT_MAX / 2;
    fill(&database, TABLE, rows).await;
    let browser = browser(&database);
    let rare = Wanted { contains: "last".into(), ..wanted() };
    let page = browser.page(&rare).await.unwrap();
    assert_eq!((page.rows.len(), page.looked_at), (0, LOOK_AT_MAX));
    assert!(page.next.is_some(), "it says where it stands");
    assert_eq!(all(&browser, rare).await, (vec!["zzz/last".to_owned()], 2));
    // Many are found by windows, few at once.
    database.execute("UPDATE bucket_b SET is_backed_up = FALSE").await;
    let pending = Wanted { pending: true, limit: 500, ..wanted() };
    let page = browser.page(&pending).await.unwrap();
    assert_eq!((page.rows.len(), page.looked_at), (500, 1000));
    database.execute("UPDATE bucket_b SET is_backed_up = path <> 'zzz/last'").await;
    let page = browser.page(&pending).await.unwrap();
    assert_eq!((page.rows.len(), page.looked_at, page.next), (1, 1, None));
}

async fn plan(database: &Database, statement: &Statement) -> String {
    let explain = match database {
        Database::Postgres { .. } => "EXPLAIN",
        Database::Sqlite { .. } => "EXPLAIN QUERY PLAN",
    };
    // From the last, so that $1 is not found in $10.
    let mut sql = statement.sql.clone();
    for (at, text) in statement.texts.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", at + 1), &format!("'{text}'"));
    }
    let rows = database.query(&format!("{explain} {sql}")).await;
    rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
}

/// Every statement of every kind of question, with the ways that are good.
async fn ways(database: Database, dialect: Dialect, rows: u64) {
    make_table(&database, None).await;
    fill(&database, TABLE, rows).await;
    database.execute("UPDATE bucket_b SET is_backed_up = FALSE WHERE path LIKE '%/00001%'").await;
    let (scan, path, backup) = match database {
        Database::Postgres { .. } => {
            database.execute("VACUUM ANALYZE bucket_b").await;
            ("Seq Scan", "idx_bucket_b_path", "idx_bucket_b_backup")
        }
        // It is never told how many rows there are.
        Database::Sqlite { .. } => {
            ("SCAN bucket_b\n", "sqlite_autoindex_bucket_b_1", "idx_bucket_b_backup")
        }
    };
    let table = "\"bucket_b\"";
    for prefix in ["", "2026/03/"] {
        for contains in ["", "70.bin"] {
            for (deleted, pending) in [(false, false), (true, false), (false, true)] {
                let (prefix, contains) = (prefix.to_owned(), contains.to_owned());
                let wanted = Wanted { prefix, contains, deleted, pending, ..wanted() };
                let search = Search { dialect, table, wanted: &wanted };
                for after in [None, Some("2026/03/001000.bin")] {
                    let window = search.window(after, 1_000);
                    let plan_of_window = plan(&database, &window).await;
                    for word in ["TEMP B-TREE", "Sort"] {
                        assert!(!plan_of_window.contains(word), "{}\n{plan_of_window}", window.sql);
                    }
                    for statement in [window, search.rows(after, "2026/03/040003.bin", 101)] {
                        let plan = plan(&database, &statement).await;
                        assert!(plan.contains(path), "{}\n{plan}", statement.sql);
                        assert!(!format!("{plan}\n").contains(scan), "{}\n{plan}", statement.sql);
                    }
                    let few = search.few(after, 101);
                    let plan = plan(&database, &few).await;
                    assert!(plan.contains(backup), "{}\n{plan}", few.sql);
                    assert!(!format!("{plan}\n").contains(scan), "{}\n{plan}", few.sql);
                }
                let lacking = search.lacking();
                let plan = plan(&database, &lacking).await;
                assert!(plan.contains(backup), "{}\n{plan}", lacking.sql);
                assert!(!format!("{plan}\n").contains(scan), "{}\n{plan}", lacking.sql);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_goes_by_an_index_on_postgres() {
    ways(Database::postgres().await, Dialect::Postgres { byte_order: true }, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_goes_by_an_index_on_sqlite() {
    ways(Database::sqlite().await, Dialect::Sqlite, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_signs_of_life_do_not_wait_for_a_count() {
    let database = Database::postgres().await;
    make_table(&database, None).await;
    let browser = browser(&database);
    // Counting the rows waits for a lock, as a long count would take its time.
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let holder = crate::postgres::connect(url).await;
    let table = "CREATE TABLE bucket_a (LIKE bucket_b);
                 INSERT INTO s3_mirror_buckets (bucket, table_name) VALUES ('a', 'bucket_a')";
    holder.batch_execute(table).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE bucket_a IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut counting = Box::pin(browser.totals());
    tokio::select! {
        counted = &mut counting => panic!("the lock did not hold: {counted:?}"),
        () = async {
            let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            while database.query(waiting).await.is_empty() {}
            browser.ping().await.unwrap();
            assert_eq!(browser.page(&wanted()).await.unwrap().rows.len(), 1);
            assert_eq!(browser.names().await.unwrap(), ["a", "b"]);
        } => {}
    }
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(counting.await.unwrap().len(), 2);
}

//! What the tests of the journal do with it.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use s3_mirror::config::JournalSync;
use s3_mirror::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use s3_mirror::journal::{Figures, Intent, Journal, OpenError, RowWork, Settings, Work};
use s3_mirror::s3::event::EventName;
use s3_mirror::s3::operation::Change;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) struct Open {
    pub(super) journal: Journal,
    pub(super) writer: JoinHandle<()>,
    pub(super) feeder: JoinHandle<()>,
}

impl Open {
    /// Ends as a crash does: nothing is flushed.
    pub(super) fn crash(self) {
        self.feeder.abort();
        self.writer.abort();
    }
}

pub(super) fn settings(directory: &Path, inventory: bool) -> Settings {
    Settings { data_dir: directory.to_owned(), sync: JournalSync::Full, inventory }
}

pub(super) async fn open(directory: &Path, inventory: bool) -> Open {
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

pub(super) async fn append(journal: &Journal, key: &str, change: Change) -> Intent {
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
pub(super) async fn append_lazily(journal: &Journal, key: &str) -> Intent {
    let intent = NewIntent {
        object: ObjectKey::new("b", key),
        change: Change::Delete,
        request_id: "R".into(),
        accepted_ms: s3_mirror::journal::now_ms(),
        facts: None,
    };
    journal.append(vec![intent]).await.0.remove(0)
}

pub(super) async fn put(journal: &Journal, key: &str) {
    let intent = append(journal, key, Change::Put).await;
    journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
}

pub(super) async fn claim(journal: &Journal) -> Work {
    timeout(Duration::from_secs(5), journal.claim()).await.expect("work within five seconds")
}

pub(super) async fn figures(journal: &Journal) -> Figures {
    journal.flush().await;
    journal.figures().await.unwrap()
}

/// Opens a copy of the directory, as after a crash of the machine: the first process's lock, which
/// a leaked handle keeps, does not matter to it.
pub(super) async fn open_forgotten(directory: &Path, inventory: bool) -> Open {
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
pub(super) fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for file in std::fs::read_dir(from)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}

/// Somebody else writes the file and does not end: every write of the journal fails.
pub(super) async fn hold_file(directory: &Path) -> sqlx::SqliteConnection {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", directory.join("journal.sqlite").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

pub(super) async fn let_file_go(journal: &Journal, mut other: sqlx::SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    recovered(journal).await;
}

pub(super) async fn recovered(journal: &Journal) {
    let recovered = async {
        while journal.health().failing() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), recovered).await.expect("it recovers");
}

pub(super) async fn claim_row(journal: &Journal) -> RowWork {
    let rows = timeout(Duration::from_secs(5), journal.claim_rows(1)).await;
    rows.expect("a row within five seconds").remove(0)
}

/// An intent that makes an event, as the proxy names it while somebody is told.
pub(super) async fn append_told(journal: &Journal, key: &str) -> Intent {
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

pub(super) async fn events_waiting(journal: &Journal) -> Vec<(String, bool)> {
    journal.flush().await;
    let events = journal.events_waiting(100).await.unwrap();
    events.into_iter().map(|event| (event.object.key.to_string(), event.unknown)).collect()
}

/// Writes so many pending entries into a journal that nobody has open, as a long outage leaves them.
pub(super) async fn leave_backlog(directory: &Path, entries: i64) {
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

pub(super) async fn rechecks(journal: &Journal, key: &str) -> usize {
    journal.flush().await;
    journal.explain(&ObjectKey::new("b", key)).await.unwrap().rechecks_ms.len()
}

/// The keys that the database has rows of.
pub(super) async fn on_disk(run: &Open, directory: &Path) -> HashSet<String> {
    use sqlx::{ConnectOptions as _, Connection as _};
    run.journal.flush().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let mut db = options.filename(directory.join("journal.sqlite")).connect().await.unwrap();
    let keys: Vec<String> =
        sqlx::query_scalar("SELECT key FROM entry").fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    keys.into_iter().collect()
}

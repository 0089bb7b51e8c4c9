//! Entries that are set aside: deletes that wait for their time, or for a person.
//!
//! They stay in the file and take no room in the lane. When their time has come (`due_ms`) they
//! are *ripe*: `feed` offers them again, and whoever claims them knows that they have waited. A
//! newer entry of the key that is mirrored, or set aside itself, settles them.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::background::End;
use super::entry::{Entry, Facts, VersionFacts};
use super::writer::{Aside, Command};
use super::{Journal, RowWork, Work, lock, row, store};

/// `due_ms` of what waits until it is let go.
pub const FOREVER: i64 = i64::MAX;

/// `entry.mirror` of what is set aside.
pub(super) const HELD: i64 = 4;

pub(super) const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS entry_held ON entry(due_ms, bucket) WHERE mirror = 4";

/// Entries let go in one statement: requests wait for the same writer.
const CHUNK: i64 = 2000;
/// Buckets told of at a time.
const BUCKETS_MAX: usize = 1000;

impl Journal {
    /// Sets a claimed entry aside until `due_ms`, or until it is let go ([`FOREVER`]).
    pub async fn hold(&self, work: Work, due_ms: i64, reason: String) {
        if self.background_ended(work.entry.sequence, End::Covered) {
            self.offer_row(row(&work.entry, false)).await;
        }
        let held = work.entry.settles_older();
        let Entry { sequence, object, attempts, .. } = work.entry;
        let error = reason;
        if let Some(object) = &held {
            self.background_covered(object, sequence);
        }
        let aside = Aside { object: held, attempts, due_ms, error, row_anew: false };
        self.send(Command::Hold { sequence, aside: Box::new(aside) }).await;
        self.release(&object);
    }

    /// The mirror has confirmed main's state of the key, which `facts` describe, and keeps these of
    /// its versions until `due_ms`, although main has deleted theirs. The entry is set aside until
    /// then and brings them along when it is claimed again.
    pub async fn hold_versions(
        &self,
        work: Work,
        (due_ms, reason): (i64, String),
        condemned: Vec<String>,
        facts: impl Into<Arc<Facts>>,
    ) {
        let (mut entry, facts) = (work.entry, facts.into());
        self.background_ended(entry.sequence, End::Confirmed);
        let (sequence, object) = (entry.sequence, entry.object.clone());
        entry.facts = Arc::new(Facts {
            versions: Some(Box::new(VersionFacts { condemned, ..VersionFacts::default() })),
            ..Facts::clone(&facts)
        });
        self.recheck_if_landing_late(&object).await;
        // The last word about its facts, whatever else has been said of them just now.
        self.send(Command::Merge {
            sequence,
            since_ms: entry.since_ms,
            unknown: false,
            facts: entry.facts.clone(),
        })
        .await;
        let Entry { attempts, .. } = entry;
        let (error, row_anew) = (reason, true);
        let aside = Aside { object: None, attempts, due_ms, error, row_anew };
        self.send(Command::Hold { sequence, aside: Box::new(aside) }).await;
        let newer_waits = lock(&self.shared.mirror).newer_waits(&object, sequence);
        if newer_waits {
            self.row_covered(&object, sequence).await;
        } else {
            self.offer_row(RowWork { facts, ..row(&entry, true) }).await;
        }
        self.release(&object);
    }

    /// Lets some of what a bucket holds [`FOREVER`] go, each to be due `delay_ms` after it was
    /// accepted. To be called again while [`Journal::buckets_held`] names the bucket.
    pub async fn unhold(&self, bucket: &str, delay_ms: i64) {
        self.send(Command::Unhold { bucket: bucket.to_owned(), delay_ms }).await;
    }

    /// Buckets with entries held [`FOREVER`]; a thousand of them at most.
    pub async fn buckets_held(&self) -> Result<Vec<String>, sqlx::Error> {
        let mut reader = self.shared.reader.lock().await;
        let mut found: Vec<String> = Vec::new();
        // One step in the index per bucket, however many entries each has.
        while found.len() < BUCKETS_MAX {
            let last = found.last().map_or("", String::as_str);
            let next: Option<String> = sqlx::query_scalar(
                "SELECT bucket FROM entry WHERE mirror = 4 AND due_ms = ?1 AND bucket > ?2
                 ORDER BY bucket LIMIT 1",
            )
            .bind(FOREVER)
            .bind(last)
            .fetch_optional(&mut *reader)
            .await?;
            match next {
                Some(bucket) => found.push(bucket),
                None => break,
            }
        }
        Ok(found)
    }

    /// How many entries of a bucket are held [`FOREVER`], and when the oldest was accepted.
    pub async fn held_in(&self, bucket: &str) -> Result<(i64, Option<i64>), sqlx::Error> {
        let mut reader = self.shared.reader.lock().await;
        let row = sqlx::query(
            "SELECT count(*), min(accepted_ms) FROM entry
             WHERE mirror = 4 AND due_ms = ?1 AND bucket = ?2",
        )
        .bind(FOREVER)
        .bind(bucket)
        .fetch_one(&mut *reader)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}

/// Entries whose time has come.
pub(super) async fn due(
    db: &mut SqliteConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let sql = format!(
        "SELECT {} FROM entry WHERE mirror = 4 AND due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
        store::COLUMNS
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_ms).bind(limit).fetch_all(db).await?;
    rows.iter().map(|row| store::entry(row).map(|(entry, _)| entry)).collect()
}

/// See [`Journal::unhold`].
pub(super) async fn unhold(
    db: &mut SqliteConnection,
    bucket: &str,
    delay_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE entry SET due_ms = accepted_ms + ?1 WHERE sequence IN (
            SELECT sequence FROM entry WHERE mirror = 4 AND due_ms = ?2 AND bucket = ?3 LIMIT ?4)",
    )
    .bind(delay_ms)
    .bind(FOREVER)
    .bind(bucket)
    .bind(CHUNK)
    .execute(db)
    .await
    .map(drop)
}

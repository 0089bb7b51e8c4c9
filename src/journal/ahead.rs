//! Where main is ahead of the mirror by what the journal knows: for whoever would overwrite main.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::Journal;
use super::entry::{Facts, ObjectKey};

/// Entries of a key that are looked at, the newest first.
const ENTRIES_MAX: i64 = 100;

impl Journal {
    /// May the object that main has under this key, with this `ETag`, be one that was never brought to
    /// the mirror? Quick after [`Journal::index_keys`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn is_ahead(&self, object: &ObjectKey, etag: &str) -> Result<bool, sqlx::Error> {
        self.ask(async |db| is_ahead(db, object, etag).await).await
    }
}

async fn is_ahead(
    db: &mut SqliteConnection,
    object: &ObjectKey,
    etag: &str,
) -> Result<bool, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT state, facts FROM entry WHERE bucket = ?1 AND key = ?2 AND mirror <> 1
         ORDER BY sequence DESC LIMIT ?3",
    )
    .bind(&*object.bucket)
    .bind(&*object.key)
    .bind(ENTRIES_MAX)
    .fetch_all(db)
    .await?;
    let found: Result<Vec<bool>, sqlx::Error> =
        rows.iter().map(|row| may_be_of(row, etag)).collect();
    Ok(found?.contains(&true))
}

/// May this entry stand for main's object with this `ETag`?
fn may_be_of(row: &SqliteRow, etag: &str) -> Result<bool, sqlx::Error> {
    let (state, facts): (i64, String) = (row.try_get("state")?, row.try_get("facts")?);
    let facts: Facts = serde_json::from_str(&facts).unwrap_or_default();
    let told = state == 1;
    Ok(!told || facts.etag.map_or(!facts.absent, |told| told == etag || etag.is_empty()))
}

//! The operator's side of events: which ones stand still and why, and the say of a person about
//! them.
//!
//! Retrying has a refused event sent again at once. Discarding takes events off without the
//! receiver having heard of them, each named in the log; what waited behind a refused one goes on.
//! The courier may have one of them in hand just then: it is delivered once more at most, and what
//! becomes of it is nobody's matter any more.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::entry::{Facts, Sequence};
use super::super::operator::{
    After, CHUNK_PAGES, Handled, Operation, OperatorError, PAGE_MAX, Selection, last_of_full,
};
use super::super::{Journal, now_ms};
use crate::s3::event::EventName;

pub(in super::super) const RETRY: &str = "UPDATE event SET due_ms = ?2
    WHERE state = 1 AND id IN (SELECT value FROM json_each(?1))";
pub(in super::super) const DISCARD: &str =
    "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?1))";

/// An event that the receiver has not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Untold {
    /// Position; grows.
    pub id: Sequence,
    /// Bucket on main.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// As S3 calls it.
    pub event: &'static str,
    /// Does the receiver refuse this one by itself? Otherwise it waits.
    pub refused: bool,
    /// How often it was refused.
    pub attempts: i64,
    /// Why, as last seen.
    pub reason: Option<String>,
    /// When the change was accepted, milliseconds since 1970.
    pub accepted_ms: i64,
    /// When it is sent again, milliseconds since 1970, if it is refused.
    pub next_try_ms: Option<i64>,
    /// The request that made the change, as the log names it.
    pub request_id: String,
}

/// What a person does about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Refused ones are sent again at once.
    Retry,
    /// Refused ones are given up.
    Discard,
    /// And those that wait.
    DiscardWaiting,
}

impl Journal {
    /// Refused events in their order and, if so wished, those that wait; at most `limit`, and
    /// [`PAGE_MAX`], behind `after`.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn events_untold(
        &self,
        selection: &Selection,
        waiting: bool,
        after: Sequence,
        limit: u32,
    ) -> Result<Vec<Untold>, sqlx::Error> {
        self.flush().await;
        let limit = limit.min(PAGE_MAX);
        let question =
            async |db: &mut SqliteConnection| untold(db, selection, waiting, after, limit).await;
        self.shared.events_desk.ask(question).await
    }

    /// Does as a person says, behind `after` and 20 pages at most; [`Handled::next`]
    /// says where to go on.
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub async fn handle_events(
        &self,
        selection: &Selection,
        say: Say,
        after: Option<&After>,
    ) -> Result<Handled, OperatorError> {
        let mut handled = Handled::default();
        let mut behind = after.map_or(0, |after| after.sequence);
        for _ in 0..CHUNK_PAGES {
            let waiting = say == Say::DiscardWaiting;
            let page = self.events_untold(selection, waiting, behind, PAGE_MAX).await?;
            handled.next = last_of_full(&page, PAGE_MAX).map(|last| After {
                bucket: last.bucket.clone(),
                key: last.key.clone(),
                sequence: last.id,
            });
            behind = page.last().map_or(behind, |last| last.id);
            for event in &page {
                if say != Say::Retry {
                    tracing::warn!(
                        bucket = event.bucket,
                        key = event.key,
                        event = event.event,
                        error = event.reason,
                        request_id = event.request_id,
                        "an operator gave this event up: the receiver is not told of it"
                    );
                }
                handled.add(&event.bucket, &event.key);
            }
            let ids = page.iter().map(|event| event.id).collect();
            self.operate(match say {
                Say::Retry => Operation::RetryEvents { ids, now_ms: now_ms() },
                Say::Discard | Say::DiscardWaiting => Operation::DiscardEvents { ids },
            })
            .await?;
            self.shared.events_ready.notify_one();
            if handled.next.is_none() {
                break;
            }
        }
        Ok(handled)
    }
}

async fn untold(
    db: &mut SqliteConnection,
    selection: &Selection,
    waiting: bool,
    after: Sequence,
    limit: u32,
) -> Result<Vec<Untold>, sqlx::Error> {
    // Refused ones are few, one of a key, and have an index of their own.
    let mut sql = String::from("SELECT * FROM event ");
    sql.push_str(if waiting {
        "WHERE state IN (0, 1)"
    } else {
        "INDEXED BY event_refused WHERE state = 1"
    });
    if selection.bucket.is_some() {
        sql.push_str(" AND bucket = ?1");
    }
    if selection.key.is_some() {
        sql.push_str(" AND key = ?2");
    }
    sql.push_str(" AND id > ?3 ORDER BY id LIMIT ?4");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&selection.bucket)
        .bind(&selection.key)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter().map(event).collect()
}

fn event(row: &SqliteRow) -> Result<Untold, sqlx::Error> {
    let facts: String = row.try_get("facts")?;
    let facts: Facts = serde_json::from_str(&facts).unwrap_or_default();
    let refused = row.try_get::<i64, _>("state")? == 1;
    Ok(Untold {
        id: row.try_get("id")?,
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        event: facts.event.unwrap_or(EventName::Any).as_str(),
        refused,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("error")?,
        accepted_ms: row.try_get("accepted_ms")?,
        next_try_ms: if refused { Some(row.try_get("due_ms")?) } else { None },
        request_id: row.try_get("request_id")?,
    })
}

//! Events: what other programs are told of settled changes, kept until it has been delivered.
//!
//! # Promises
//! - **P3** An event is written in the transaction that settles its change, or in an earlier one.
//!   A change whose intent a crash left unsettled has its event made by the recovery. It leaves
//!   when [`Journal::events_delivered`] says so, and not before: at least once.
//! - Positions of events of one key grow in the order in which its writes were settled. Writes of
//!   one key that did not overlap are told in their order; of writes that did, nobody knows it.
//! - **P6** Everything stands in the file; whoever delivers holds one page of it.
//!
//! Nothing of this happens while nobody wants events: an intent that names none
//! ([`Facts::event`]) makes none, and the table stays empty.
//!
//! # States
//! 0 waits; 1 was refused by itself, or main does not tell what became of it, and holds up its key until
//! `due_ms`; 2 has been delivered, of
//! an outcome that nobody knew, and is looked at once more at `due_ms`.

mod told;

use std::sync::atomic::Ordering;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::entry::{Entry, Facts, ObjectKey, Sequence};
use super::writer::Command;
use super::{Journal, now_ms};
use crate::s3::event::EventName;
pub(super) use told::{DISCARD, RETRY};
pub use told::{Say, Untold};

pub(super) const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS event (
        id          INTEGER PRIMARY KEY,
        bucket      TEXT    NOT NULL,
        key         TEXT    NOT NULL,
        accepted_ms INTEGER NOT NULL,
        request_id  TEXT    NOT NULL,
        unknown     INTEGER NOT NULL, -- is main to be asked what became of it?
        facts       TEXT    NOT NULL,
        state       INTEGER NOT NULL DEFAULT 0,
        attempts    INTEGER NOT NULL DEFAULT 0,
        due_ms      INTEGER NOT NULL DEFAULT 0,
        error       TEXT
    )",
    "CREATE INDEX IF NOT EXISTS event_refused ON event(bucket, key) WHERE state = 1",
    "CREATE INDEX IF NOT EXISTS event_due ON event(due_ms) WHERE state > 0",
];

/// Intents that a crash left unsettled, before they become entries of unknown outcome.
pub(super) const RECOVER: &str = "INSERT OR IGNORE INTO event
    (id, bucket, key, accepted_ms, request_id, unknown, facts)
    SELECT sequence, bucket, key, accepted_ms, request_id, 1,
           json_object('event', facts->>'event')
    FROM entry WHERE state = 0 AND facts->>'event' IS NOT NULL";
pub(super) const LAST: &str = "SELECT max(id) FROM event";

pub(super) const INSERT: &str = "INSERT OR IGNORE INTO event
    (id, bucket, key, accepted_ms, request_id, unknown, facts, attempts)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
           value->>7
    FROM json_each(?)";
pub(super) const AFTERMATH: &str = "UPDATE event SET state = value->>1, attempts = value->>2,
    due_ms = value->>3, error = value->>4, facts = coalesce(value->>5, facts)
    FROM json_each(?) j WHERE event.id = CAST(j.value->>0 AS INTEGER)";
pub(super) const DELIVERED: &str = "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?))";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position; grows.
    pub id: Sequence,
    /// The key.
    pub object: ObjectKey,
    /// When the request arrived, milliseconds since 1970.
    pub accepted_ms: i64,
    /// Identifies the request in logs.
    pub request_id: String,
    /// Has main to be asked whether it happened?
    pub unknown: bool,
    /// What is known, its name included.
    pub facts: Facts,
    /// How often it has been refused by itself.
    pub attempts: u32,
    /// Has it been delivered, and is it looked at once more?
    pub again: bool,
}

impl Event {
    /// What it is called.
    pub fn name(&self) -> EventName {
        self.facts.event.unwrap_or(EventName::Any)
    }
}

/// What becomes of an event that stays.
#[derive(Debug)]
pub(super) struct Aftermath {
    pub(super) id: Sequence,
    pub(super) state: i64,
    pub(super) attempts: u32,
    pub(super) due_ms: i64,
    pub(super) error: Option<String>,
    pub(super) facts: Option<Facts>,
}

/// Figures of what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct EventFigures {
    /// Events that have not been delivered, refused ones left out.
    pub pending: i64,
    /// When the first in line was accepted, milliseconds since 1970.
    pub oldest_pending_ms: Option<i64>,
    /// Events that the receiver refuses by themselves, or of which main says nothing.
    pub refused: i64,
    /// Why, of one of them.
    pub error: Option<String>,
}

impl Journal {
    /// Records the event of a settled change, ahead of the change itself.
    pub(super) async fn record_event(&self, entry: &Entry) {
        if entry.facts.event.is_none() || entry.object.is_bucket() {
            return;
        }
        let event = Event {
            id: self.shared.next.fetch_add(1, Ordering::Relaxed),
            object: entry.object.clone(),
            accepted_ms: entry.since_ms,
            request_id: entry.request_id.to_string(),
            unknown: entry.unknown,
            facts: Facts {
                layout: None,
                versions: None,
                trace: None,
                ..Facts::clone(&entry.facts)
            },
            attempts: 0,
            again: false,
        };
        self.send(Command::Event(Box::new(event))).await;
        self.shared.events_ready.notify_one();
    }

    /// Something has happened to the key of an event that was looked at once more: it is told of as
    /// if it had come now, and not looked at again.
    pub async fn event_anew(&self, event: &Event) {
        let event = Event {
            id: self.shared.next.fetch_add(1, Ordering::Relaxed),
            facts: Facts { event: event.facts.event, ..Facts::default() },
            unknown: true,
            attempts: 1,
            again: false,
            ..event.clone()
        };
        self.send(Command::Event(Box::new(event))).await;
    }

    /// Resolves when events may have been recorded since it was last asked. They may not be on
    /// disk yet.
    pub async fn events_recorded(&self) {
        self.shared.events_ready.notified().await;
    }

    /// Up to `limit` events that wait, in order; none of a key whose earlier event is refused.
    pub async fn events_waiting(&self, limit: u32) -> Result<Vec<Event>, sqlx::Error> {
        self.events(
            "SELECT * FROM event e WHERE state = 0 AND NOT EXISTS (
                SELECT 1 FROM event r WHERE r.state = 1 AND r.bucket = e.bucket AND r.key = e.key)
             ORDER BY id LIMIT ?1",
            limit,
        )
        .await
    }

    /// Up to `limit` refused events that are due, and those that are looked at once more.
    pub async fn events_due(&self, limit: u32) -> Result<Vec<Event>, sqlx::Error> {
        self.events(
            "SELECT * FROM event WHERE state > 0 AND due_ms <= ?2 ORDER BY due_ms, id LIMIT ?1",
            limit,
        )
        .await
    }

    async fn events(&self, sql: &'static str, limit: u32) -> Result<Vec<Event>, sqlx::Error> {
        let question = async |db: &mut SqliteConnection| {
            let query = sqlx::query(sql).bind(limit);
            let query = if sql.contains("?2") { query.bind(now_ms()) } else { query };
            let rows = query.fetch_all(db).await?;
            rows.iter().map(event).collect()
        };
        self.shared.events_desk.ask(question).await
    }

    /// These have been delivered. Returns when that is on disk.
    pub async fn events_delivered(&self, ids: Vec<Sequence>) {
        if !ids.is_empty() {
            self.send(Command::EventsDelivered { ids }).await;
        }
        self.flush().await;
    }

    /// The receiver refuses this event by itself: it holds up its key until `due_ms`.
    pub async fn event_refused(&self, event: &Event, due_ms: i64, error: String) {
        self.set_aside(event, event.attempts.saturating_add(1), due_ms, error).await;
    }

    /// Main does not say what became of this event: it holds up its key until `due_ms`.
    pub async fn event_unanswered(&self, event: &Event, due_ms: i64, error: String) {
        self.set_aside(event, event.attempts, due_ms, error).await;
    }

    async fn set_aside(&self, event: &Event, attempts: u32, due_ms: i64, error: String) {
        let (id, error) = (event.id, Some(error));
        self.aftermath(Aftermath { id, state: 1, attempts, due_ms, error, facts: None }).await;
    }

    /// It has been delivered as `facts` say, of an outcome that nobody knew: the request may still
    /// take effect, and the key is looked at once more at `due_ms`.
    pub async fn event_again(&self, event: &Event, due_ms: i64, mut facts: Facts) {
        facts.event = event.facts.event;
        self.aftermath(Aftermath {
            id: event.id,
            state: 2,
            attempts: 0,
            due_ms,
            error: None,
            facts: Some(facts),
        })
        .await;
    }

    async fn aftermath(&self, aftermath: Aftermath) {
        self.send(Command::EventAftermath(Box::new(aftermath))).await;
    }

    /// [`Journal::counted`] of the events.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn event_figures(&self) -> Result<EventFigures, sqlx::Error> {
        self.counted().await.map(|(_, events)| events)
    }
}

fn event(row: &SqliteRow) -> Result<Event, sqlx::Error> {
    let facts: String = row.try_get("facts")?;
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Event {
        id: row.try_get("id")?,
        object: ObjectKey::new(row.try_get("bucket")?, row.try_get("key")?),
        accepted_ms: row.try_get("accepted_ms")?,
        request_id: row.try_get("request_id")?,
        unknown: row.try_get("unknown")?,
        facts: serde_json::from_str(&facts).unwrap_or_default(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        again: row.try_get::<i64, _>("state")? == 2,
    })
}

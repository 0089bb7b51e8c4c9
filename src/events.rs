//! The courier: tells a webhook of every settled change, as S3 would.
//!
//! # Promises
//! - At least once: an event leaves the journal when the receiver has answered 2xx.
//! - In order per key: messages go out one after the other, each with the events that follow.
//!   A change that no answer told about waits for what main says of its key.
//! - **P5** A receiver that is away delays events and nothing else: they wait in the journal.
//! - **P6** One message of at most 100 events is in hand.
//! - **P8** No drop path: everything is tried for ever, with pauses up to a minute. An event that
//!   the receiver refuses by itself (4xx), or of which main says nothing while it answers about
//!   others, holds up its own key and no other. While the journal cannot be written everything waits:
//!   it could not be noted that it was taken.
//!
//! # Crash
//! What was sent and not yet marked as delivered is sent again, under the same `webhook-id` if the
//! message is the same.

mod answer;
mod record;
mod send;
mod sign;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::stream::StreamExt as _;
use serde_json::Value;

use crate::config::{Secret, Webhook};
use crate::journal::entry::{Facts, ObjectKey};
use crate::journal::events::Event;
use crate::journal::{Journal, now_ms};
use crate::metrics::Metrics;
use crate::s3::refusal;
use crate::upstream::Upstream;
use crate::upstream::post::Poster;
use crate::upstream::read::{ReadError, Reader};
use answer::Answer;

/// Events in one message: some 100 KiB, and 300 at the very worst.
const RECORDS_MAX: u32 = 100;
/// Questions to main at a time.
const QUESTIONS: usize = 16;
/// First and longest pause while the receiver, or main for its answers, is away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_mins(1));
/// First and longest pause of an event that is refused by itself.
const REFUSED_MS: (i64, i64) = (60_000, 3_600_000);
/// Pause of an event of whose key main says nothing.
const UNANSWERED_MS: i64 = 60_000;
/// When a key is looked at once more whose change nobody answered: by then main has done it or
/// never will.
const AGAIN_MS: i64 = 600_000;
/// New events are given this long to get to the disk, in company.
const LINGER: Duration = Duration::from_millis(50);
/// How often the journal is looked into unasked: for what is due, and what a failing disk delayed.
const LOOK: Duration = Duration::from_secs(1);
/// How the receiver does; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    error: Arc<ArcSwapOption<String>>,
    /// Milliseconds since 1970; 0 for never.
    taken_ms: Arc<AtomicI64>,
}

impl Receiver {
    /// Why the last try failed; `None` after a success.
    pub fn error(&self) -> Option<String> {
        self.error.load().as_deref().cloned()
    }

    /// When it took events last, milliseconds since 1970; `None`: not since the start.
    pub fn last_delivered_ms(&self) -> Option<i64> {
        Some(self.taken_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }
}

/// Delivers events.
pub struct Courier {
    journal: Journal,
    metrics: Metrics,
    main: Arc<Upstream>,
    webhook: Webhook,
    poster: Poster,
    receiver: Receiver,
    secret: Option<Secret>,
}

/// What became of a round.
enum Round {
    Done,
    Nothing,
    Failed { reason: String, pause: Option<Duration> },
}

/// Events of which main has said what it was asked, and the first of each key of which it has not.
#[derive(Default)]
struct Resolved {
    events: Vec<Event>,
    /// What it said of each, if it was asked.
    seen: Vec<Option<Facts>>,
    unanswered: Vec<(Event, ReadError)>,
    /// Has it answered anything?
    alive: bool,
}

impl Resolved {
    /// Why there is nothing to be had of main now.
    fn stall(&self) -> Option<String> {
        let (_, error) = self.unanswered.first().filter(|_| !self.alive)?;
        Some(error.to_string())
    }
}

/// What one event comes to.
enum Told {
    Record(Value),
    /// Nothing is to be told.
    Nothing,
}

impl Courier {
    /// Puts it together; connects to nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        journal: Journal,
        metrics: Metrics,
        main: Arc<Upstream>,
        webhook: Webhook,
    ) -> Result<Self, std::io::Error> {
        let (poster, receiver) = (Poster::new()?, Receiver::default());
        Ok(Self { journal, metrics, main, webhook, poster, receiver, secret: None })
    }

    /// How the receiver does.
    pub fn receiver(&self) -> Receiver {
        self.receiver.clone()
    }

    /// Delivers until it is dropped. Cancel-safe: what is under way is sent again.
    pub async fn work(mut self) {
        let mut pause = PAUSE.0;
        // Messages of one event, while it is looked for which of several is refused.
        let mut singly = 0;
        loop {
            match self.round(&mut singly).await {
                Round::Done => pause = PAUSE.0,
                Round::Nothing => {
                    pause = PAUSE.0;
                    tokio::select! {
                        () = self.journal.events_recorded() => tokio::time::sleep(LINGER).await,
                        () = tokio::time::sleep(LOOK) => {}
                    }
                }
                Round::Failed { reason, pause: asked } => {
                    self.metrics.event_errors.inc();
                    // Who says "at once" is asked no sooner all the same.
                    let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    let wait = asked.map_or(wait, |asked| asked.max(wait));
                    tracing::warn!(
                        error = reason,
                        retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        "events wait"
                    );
                    self.receiver.error.store(Some(Arc::new(reason)));
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn round(&mut self, singly: &mut u32) -> Round {
        // What is taken could not be taken off, and would be sent over and over.
        if self.journal.health().failing() {
            return Round::Nothing;
        }
        let due = match self.due().await {
            Round::Done => return Round::Done,
            // Main says nothing now, and not every event needs it.
            other => other,
        };
        match self.in_line(singly).await {
            Round::Nothing => due,
            round => round,
        }
    }

    /// The events that wait in line.
    async fn in_line(&mut self, singly: &mut u32) -> Round {
        let limit = if *singly > 0 { 1 } else { RECORDS_MAX };
        let events = match self.journal.events_waiting(limit).await {
            Ok(events) => events,
            Err(error) => return unreadable(&error),
        };
        if events.is_empty() {
            *singly = 0;
            return Round::Nothing;
        }
        let resolved = self.resolve(events).await;
        self.put_off(&resolved).await;
        let stall = resolved.stall();
        let Resolved { events, seen, .. } = resolved;
        let count = events.len();
        let told: Vec<Told> =
            events.iter().zip(&seen).map(|(event, now)| self.told(event, now.as_ref())).collect();
        match self.send(&events, told).await {
            Answer::Taken => {
                *singly = singly.saturating_sub(1);
                self.taken(events, seen).await;
            }
            Answer::Refused { reason } if count == 1 => {
                *singly = singly.saturating_sub(1);
                self.refused(&events, reason).await;
            }
            Answer::Refused { .. } => *singly = u32::try_from(count).unwrap_or(RECORDS_MAX),
            Answer::Away { reason, pause } => return Round::Failed { reason, pause },
        }
        stall.map_or(Round::Done, |reason| Round::Failed { reason, pause: None })
    }

    /// Refused events whose time has come, one at a time, and keys that are looked at once more.
    async fn due(&mut self) -> Round {
        let due = match self.journal.events_due(RECORDS_MAX).await {
            Ok(due) => due,
            Err(error) => return unreadable(&error),
        };
        let (again, refused): (Vec<Event>, Vec<Event>) =
            due.into_iter().partition(|event| event.again);
        let Some(event) = refused.into_iter().next() else {
            return if again.is_empty() { Round::Nothing } else { self.look_again(again).await };
        };
        let resolved = self.resolve(vec![event]).await;
        self.put_off(&resolved).await;
        let stall = resolved.stall();
        let Resolved { events, seen, .. } = resolved;
        let Some(event) = events.first() else {
            return Round::Failed { reason: stall.unwrap_or_default(), pause: None };
        };
        let told = vec![self.told(event, seen.first().and_then(Option::as_ref))];
        match self.send(&events, told).await {
            Answer::Taken => self.taken(events, seen).await,
            Answer::Refused { reason } => self.refused(&events, reason).await,
            Answer::Away { reason, pause } => return Round::Failed { reason, pause },
        }
        Round::Done
    }

    /// Whether something took effect late, of which nobody has been told.
    async fn look_again(&self, events: Vec<Event>) -> Round {
        let resolved = self.resolve(events).await;
        self.put_off(&resolved).await;
        let mut over = Vec::new();
        for (event, now) in resolved.events.iter().zip(&resolved.seen) {
            if now.as_ref().is_some_and(|now| record::moved(&event.facts, now)) {
                self.journal.event_anew(event).await;
            }
            over.push(event.id);
        }
        self.journal.events_delivered(over).await;
        resolved.stall().map_or(Round::Done, |reason| Round::Failed { reason, pause: None })
    }

    /// Events of whose keys main says nothing are for later, so that others are not kept waiting. Where it
    /// cannot be reached at all one is enough: any other would fare alike.
    async fn put_off(&self, resolved: &Resolved) {
        let mut is_first = true;
        let about_its_key = |error: &ReadError| matches!(error, ReadError::Refused { .. });
        for (event, error) in &resolved.unanswered {
            if !(std::mem::take(&mut is_first) || resolved.alive || about_its_key(error)) {
                continue;
            }
            let due_ms = now_ms() + UNANSWERED_MS;
            if event.again {
                self.journal.event_again(event, due_ms, event.facts.clone()).await;
            } else {
                self.journal.event_unanswered(event, due_ms, error.to_string()).await;
            }
        }
        if !resolved.unanswered.is_empty() {
            self.journal.flush().await;
        }
    }

    /// Asks main where that is needed. Each key is asked about once, so that of two events of a key the
    /// later one is never told with the older state.
    async fn resolve(&self, events: Vec<Event>) -> Resolved {
        let asks = |event: &Event| event.again || record::asks_main(event);
        let keys: HashSet<ObjectKey> =
            events.iter().filter(|event| asks(event)).map(|event| event.object.clone()).collect();
        let answers: HashMap<ObjectKey, Result<Option<Facts>, ReadError>> =
            futures_util::stream::iter(keys)
                .map(|key| async move { (self.ask(&key).await, key) })
                .buffer_unordered(QUESTIONS)
                .map(|(answer, key)| (key, answer))
                .collect()
                .await;
        let alive = answers.values().any(Result::is_ok);
        let mut resolved = Resolved { alive, ..Resolved::default() };
        let mut held: HashSet<ObjectKey> = HashSet::new();
        for event in events {
            // Behind one that waits.
            if held.contains(&event.object) {
                continue;
            }
            match answers.get(&event.object).filter(|_| asks(&event)) {
                Some(Err(error)) => {
                    held.insert(event.object.clone());
                    resolved.unanswered.push((event, error.clone()));
                    continue;
                }
                Some(Ok(now)) => resolved.seen.push(now.clone()),
                None => resolved.seen.push(None),
            }
            resolved.events.push(event);
        }
        resolved
    }

    async fn ask(&self, object: &ObjectKey) -> Result<Option<Facts>, ReadError> {
        let (upstream, bucket, key) = (&self.main, &*object.bucket, Some(&*object.key));
        let main = Reader { upstream, who: "main", bucket, key, version: None };
        match main.head().await {
            Ok(state) => Ok(Some(Facts::observed(state.as_ref()))),
            // Main does not tell us, and others must not wait for that: what is known has to do.
            // But an answer about our own keys is none about this one.
            Err(ReadError::Refused { who, what, status, code })
                if refusal::is_about_signature(&code) =>
            {
                Err(ReadError::Refused { who, what, status, code })
            }
            Err(ReadError::Refused { status: 400..=499, .. } | ReadError::Unusable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn told(&self, event: &Event, now: Option<&Facts>) -> Told {
        match record::told(event, now) {
            Some((name, facts)) => {
                Told::Record(record::record(event, name, &facts, &self.main.endpoint().region))
            }
            None => Told::Nothing,
        }
    }

    async fn taken(&self, events: Vec<Event>, seen: Vec<Option<Facts>>) {
        let mut over = Vec::new();
        for (event, now) in events.into_iter().zip(seen) {
            match now {
                // Attempts of its own mean that it has been looked at twice.
                Some(now) if event.unknown && event.attempts == 0 => {
                    self.journal.event_again(&event, now_ms() + AGAIN_MS, now).await;
                }
                _ => over.push(event.id),
            }
        }
        self.journal.events_delivered(over).await;
    }

    async fn refused(&self, events: &[Event], reason: String) {
        for event in events {
            self.metrics.event_errors.inc();
            tracing::error!(
                bucket = &*event.object.bucket,
                key = &*event.object.key,
                error = reason,
                request_id = event.request_id,
                "the receiver refuses this event; events of this key wait behind it"
            );
            let doubled = REFUSED_MS.0.saturating_mul(1 << event.attempts.min(10));
            let due_ms = now_ms() + doubled.min(REFUSED_MS.1);
            self.journal.event_refused(event, due_ms, reason.clone()).await;
        }
        self.journal.flush().await;
    }
}

fn unreadable(error: &sqlx::Error) -> Round {
    Round::Failed { reason: format!("the journal cannot be read: {error}"), pause: None }
}

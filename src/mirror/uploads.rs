//! Multipart uploads that copies have begun on the mirror, and the end of those that nobody is at:
//! their parts cost money, and no listing of objects shows them.
//!
//! # Promises
//! - Every upload is noted in the journal before it is begun. Whatever cuts the copy off (a failure, a
//!   stop, a crash, a lost answer), the upload is aborted: at once where it can be, else by [`clear`]
//!   in this run or the next, again and again until the mirror says that it is gone.
//! - An upload whose ID was never told is looked for in the mirror's list, by its key and the time it
//!   was begun. One of another proxy that copies the same key at the same time is taken for it; that
//!   proxy's copy fails and is made again.
//! - An abort is repeated once after [`SECOND_LOOK`]: a part, or the upload itself, may arrive late.
//! - **P6** [`NOTES_MAX`] notes; copies beyond that are made all the same, and only a failure in this
//!   run aborts their uploads then.
//!
//! # Crash
//! All notes found at the start are of uploads that nobody is at.
//!
//! [`clear`]: Uploads::clear

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::journal::uploads::MirrorUpload;
use crate::journal::{Journal, now_ms};
use crate::s3::uploads::Unfinished;
use crate::upstream::read::Reader;

/// Uploads that are remembered; as many copies under way are out of reach.
const NOTES_MAX: usize = 10_000;
/// When an abort is repeated: by then what was under way has arrived.
const SECOND_LOOK: Duration = Duration::from_mins(1);
/// First and longest pause after an abort that failed.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_hours(1));
/// How often it is looked whether the mirror is back.
pub(super) const REST: Duration = Duration::from_secs(1);
/// By so much the mirror's clock may be off: it refuses requests of those whose clock is off by more.
const CLOCKS_MS: i64 = 15 * 60 * 1000;
/// How long a request to begin an upload may have been under way.
const BEGINNING_MS: i64 = 2 * 60 * 1000;

/// Uploads under way, and those that nobody is at.
pub(super) struct Uploads {
    /// Without one nothing is noted, and what a crash cuts off is left.
    journal: Option<Journal>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: i64,
    notes: HashMap<i64, Note>,
    /// Those that nobody is at, by when they are aborted.
    due: BTreeSet<(Instant, i64)>,
}

struct Note {
    upload: MirrorUpload,
    /// None: a copy is at it.
    left: Option<Left>,
}

#[derive(Clone, Copy)]
struct Left {
    since: Instant,
    failures: u32,
}

/// What an abort has found.
enum Cleared {
    /// There is no such upload.
    Gone,
    /// It is gone now, but what was under way may still arrive.
    Perhaps,
    /// A copy has begun one whose ID is not known yet: it could be taken for the one that is sought.
    InDoubt,
}

/// An upload that a copy is at. Dropped, it is one that nobody is at.
pub(super) struct Begun {
    uploads: Arc<Uploads>,
    /// None: it is not noted.
    number: Option<i64>,
    aborted: bool,
}

impl Uploads {
    pub(super) fn new(journal: Option<Journal>) -> Self {
        Self { journal, state: Mutex::default(), changed: Notify::new() }
    }

    /// Takes up what the previous run has left; to be called before the first copy.
    pub(super) async fn recover(&self) -> Result<(), sqlx::Error> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let found = journal.noted_uploads(NOTES_MAX).await?;
        if !found.is_empty() {
            tracing::info!(uploads = found.len(), "uploads that were cut off are aborted");
        }
        let now = Instant::now();
        let mut state = self.lock();
        for (number, upload) in found {
            state.next = state.next.max(number + 1);
            let left = Some(Left { since: now, failures: 0 });
            state.notes.insert(number, Note { upload, left });
            state.due.insert((now, number));
        }
        Ok(())
    }

    /// Notes an upload that is about to be begun; on disk when it answers.
    pub(super) async fn begin(self: &Arc<Self>, place: Place<'_>) -> Begun {
        let Some(journal) = &self.journal else { return self.hand(None) };
        let upload = MirrorUpload {
            bucket: place.bucket.to_owned(),
            key: place.key.to_owned(),
            id: None,
            begun_ms: now_ms(),
        };
        let Some(number) = self.lock().take_in(&upload) else {
            tracing::warn!(
                bucket = place.bucket,
                key = place.key,
                "too many uploads wait on the mirror for their end; a crash would leave this one"
            );
            return self.hand(None);
        };
        // Made before anything is waited for, so that a copy that ends here leaves the note.
        let begun = self.hand(Some(number));
        journal.note_upload(number, upload).await;
        begun
    }

    fn hand(self: &Arc<Self>, number: Option<i64>) -> Begun {
        Begun { uploads: self.clone(), number, aborted: false }
    }

    /// Waits for an upload that is to be aborted now. Cancel-safe.
    pub(super) async fn next_due(&self) -> i64 {
        loop {
            let changed = self.changed.notified();
            let first = self.lock().due.first().copied();
            match first {
                Some((at, number)) if at <= Instant::now() => return number,
                Some((at, _)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Aborts an upload that nobody is at.
    pub(super) async fn clear(&self, number: i64, copier: &Replicator) {
        let Some((upload, left)) = self.left(number) else { return };
        let result = match &upload.id {
            Some(id) => copier
                .writer
                .abort(place(&upload), id)
                .await
                .map(|was_there| if was_there { Cleared::Perhaps } else { Cleared::Gone }),
            None => self.clear_unnamed(&upload, copier).await,
        };
        let MirrorUpload { bucket, key, .. } = &upload;
        match result {
            Ok(Cleared::Perhaps) if left.since.elapsed() < SECOND_LOOK => {
                self.lock().put_off(number, left.since + SECOND_LOOK, left.failures);
            }
            Ok(Cleared::Perhaps | Cleared::Gone) => self.forget(number).await,
            Ok(Cleared::InDoubt) => {
                self.lock().put_off(number, Instant::now() + SECOND_LOOK, left.failures);
            }
            Err(failure) if failure.is_permanent() => {
                let error = failure.to_string();
                tracing::error!(bucket, key, error, "an upload stays on the mirror");
                self.forget(number).await;
            }
            Err(failure) => {
                let failures = left.failures.saturating_add(1);
                if failures.is_power_of_two() {
                    let error = failure.to_string();
                    tracing::warn!(bucket, key, error, "an upload is still to be aborted");
                }
                self.lock().put_off(number, Instant::now() + pause(failures), failures);
            }
        }
    }

    /// Aborts what may be an upload whose ID was never told.
    async fn clear_unnamed(
        &self,
        upload: &MirrorUpload,
        copier: &Replicator,
    ) -> Result<Cleared, Failure> {
        let Place { bucket, key } = place(upload);
        copier.writer.pace.request().await;
        let upstream = &copier.mirror;
        let reader = Reader { upstream, who: "mirror", bucket, key: Some(key), version: None };
        let listed = reader.unfinished_uploads().await?;
        // Those of this process were noted before they were begun, and so before they were listed.
        let (known, in_doubt) = self.under_way(place(upload));
        if in_doubt {
            return Ok(Cleared::InDoubt);
        }
        for Unfinished { id, begun } in listed {
            if !known.contains(&id) && may_be(upload.begun_ms, begun) {
                copier.writer.abort(place(upload), &id).await?;
            }
        }
        Ok(Cleared::Perhaps)
    }

    async fn forget(&self, number: i64) {
        self.lock().remove(number);
        if let Some(journal) = &self.journal {
            journal.forget_upload(number).await;
        }
    }

    /// IDs of the key's uploads that copies are at, and whether there is one without an ID yet.
    fn under_way(&self, Place { bucket, key }: Place<'_>) -> (Vec<String>, bool) {
        let state = self.lock();
        let notes = state.notes.values().filter(|note| {
            note.left.is_none() && note.upload.bucket == bucket && note.upload.key == key
        });
        let ids: Vec<Option<String>> = notes.map(|note| note.upload.id.clone()).collect();
        let in_doubt = ids.iter().any(Option::is_none);
        (ids.into_iter().flatten().collect(), in_doubt)
    }

    fn left(&self, number: i64) -> Option<(MirrorUpload, Left)> {
        let state = self.lock();
        let note = state.notes.get(&number)?;
        note.left.map(|left| (note.upload.clone(), left))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers an upload, unless there are too many; yields its number.
    fn take_in(&mut self, upload: &MirrorUpload) -> Option<i64> {
        if self.notes.len() >= NOTES_MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.notes.insert(number, Note { upload: upload.clone(), left: None });
        Some(number)
    }

    fn put_off(&mut self, number: i64, at: Instant, failures: u32) {
        self.due.retain(|(_, due)| *due != number);
        self.due.insert((at, number));
        if let Some(Note { left: Some(left), .. }) = self.notes.get_mut(&number) {
            left.failures = failures;
        }
    }

    fn remove(&mut self, number: i64) {
        self.due.retain(|(_, due)| *due != number);
        self.notes.remove(&number);
    }
}

impl Begun {
    /// The mirror has told the ID.
    pub(super) async fn named(&mut self, id: &str) {
        let Some(number) = self.number else { return };
        let named = {
            let mut state = self.uploads.lock();
            state.notes.get_mut(&number).map(|note| {
                note.upload.id = Some(id.to_owned());
                note.upload.clone()
            })
        };
        if let Some((named, journal)) = named.zip(self.uploads.journal.as_ref()) {
            journal.tell_upload(number, named).await;
        }
    }

    /// It has been aborted, and may have to be once more.
    pub(super) fn aborted(&mut self) {
        self.aborted = true;
    }

    /// There is no such upload (any more).
    pub(super) async fn over(mut self) {
        if let Some(number) = self.number.take() {
            self.uploads.forget(number).await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let now = Instant::now();
        {
            let mut state = self.uploads.lock();
            let Some(note) = state.notes.get_mut(&number) else { return };
            note.left = Some(Left { since: now, failures: 0 });
            let wait = if self.aborted { SECOND_LOOK } else { Duration::ZERO };
            state.due.insert((now + wait, number));
        }
        self.uploads.changed.notify_one();
    }
}

fn place(upload: &MirrorUpload) -> Place<'_> {
    Place { bucket: &upload.bucket, key: &upload.key }
}

/// Can an upload that the mirror says to have begun then be one that was asked for at `asked_ms`?
/// One whose time is not told is left to a person.
fn may_be(asked_ms: i64, begun: Option<OffsetDateTime>) -> bool {
    begun.is_some_and(|begun| {
        let begun_ms = begun.unix_timestamp().saturating_mul(1000);
        (-CLOCKS_MS..=CLOCKS_MS + BEGINNING_MS).contains(&begun_ms.saturating_sub(asked_ms))
    })
}

fn pause(failures: u32) -> Duration {
    PAUSE.0.saturating_mul(2u32.saturating_pow(failures.min(20))).min(PAUSE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_begun_about_then_may_be_the_upload_that_was_asked_for() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        let asked_ms = 1_000_000_000;
        assert!(may_be(asked_ms, at(1_000_000)) && may_be(asked_ms, at(1_000_000 + 16 * 60)));
        assert!(!may_be(asked_ms, at(1_000_000 - 16 * 60)), "an older one");
        assert!(!may_be(asked_ms, at(1_000_000 + 18 * 60)), "a later one");
        assert!(!may_be(asked_ms, None), "who knows");
    }

    #[test]
    fn an_abort_that_fails_is_tried_less_and_less_often_and_never_given_up() {
        assert_eq!(pause(1), Duration::from_secs(4));
        assert_eq!(pause(u32::MAX), PAUSE.1);
    }
}

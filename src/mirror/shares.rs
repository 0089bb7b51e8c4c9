//! `MIRROR_DELETE_BRAKE_PERCENT`: what share of a bucket's keys was deleted, which the inventory tells.
//!
//! While it is being asked the bucket's deletes wait, and while it cannot tell (its database is away) they are
//! put off: that nobody can count is no leave to delete.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::deletes::Deletes;
use crate::journal::now_ms;

/// When a delete is looked at again of whose bucket nobody could tell how many keys it has.
const UNCOUNTED_MS: i64 = 30_000;
/// How long a worker waits for another one's question; then its delete waits on disk.
const PATIENCE: Duration = Duration::from_secs(2);
/// When that delete is looked at again.
const COUNTING_MS: i64 = 5_000;

/// Tells how many keys of a bucket there were when this window began; counts no further than the limit.
/// Nothing: it knows no such bucket. An error: they cannot be counted now.
pub type KnownKeys = Arc<
    dyn Fn(
            Arc<str>,
            u64,
            Duration,
        ) -> Pin<Box<dyn Future<Output = Result<Option<u64>, String>> + Send>>
        + Send
        + Sync,
>;

/// What is known of a bucket's share.
pub(super) enum Share {
    /// Nobody has to know, or it is no mass delete.
    Bearable,
    /// The brake is on.
    TooLarge,
    /// The delete is to wait until then, for this reason.
    Unknown { due_ms: i64, reason: String },
}

/// The questions to the inventory.
#[derive(Default)]
pub(super) struct Shares(HashMap<Arc<str>, Question>);

#[derive(Clone)]
struct Question {
    /// Deleted within the window.
    deleted: u64,
    /// Number of keys that makes it bearable.
    enough: u64,
    asked: Asked,
}

#[derive(Clone, PartialEq, Eq)]
enum Asked {
    NotYet,
    Now,
    /// In vain, and not again before then, milliseconds since 1970.
    InVain(i64),
}

impl Shares {
    /// The question has come up.
    pub(super) fn open(&mut self, bucket: &Arc<str>, deleted: u64, enough: u64) {
        let asked = self.0.get(bucket).map_or(Asked::NotYet, |question| question.asked.clone());
        self.0.insert(bucket.clone(), Question { deleted, enough, asked });
    }

    /// Nobody has to know any more.
    pub(super) fn close(&mut self, bucket: &str) {
        self.0.remove(bucket);
    }
}

impl Deletes {
    /// Is the share of a bucket's keys that were deleted bearable? Asks if nobody else does.
    pub(super) async fn share(&self, bucket: &Arc<str>) -> Share {
        loop {
            // From here on no answer is missed.
            let counted = self.counted.notified();
            let question = {
                let mut state = self.lock();
                if state.brakes.contains_key(&**bucket) {
                    return Share::TooLarge;
                }
                let Some(question) = state.shares.0.get_mut(bucket) else { return Share::Bearable };
                match question.asked {
                    Asked::InVain(until) if until > now_ms() => {
                        return Share::Unknown { due_ms: until, reason: uncounted() };
                    }
                    Asked::Now => None,
                    Asked::NotYet | Asked::InVain(_) => {
                        question.asked = Asked::Now;
                        Some(question.clone())
                    }
                }
            };
            if let Some(question) = question {
                self.ask(bucket, question).await;
                self.counted.notify_waiters();
            } else if tokio::time::timeout(PATIENCE, counted).await.is_err() {
                let due_ms = now_ms().saturating_add(COUNTING_MS);
                return Share::Unknown { due_ms, reason: uncounted() };
            }
        }
    }

    /// Asks about the shares that nobody has asked about.
    pub(super) async fn ask_all(&self) {
        let open: Vec<Arc<str>> = self.lock().shares.0.keys().cloned().collect();
        for bucket in open {
            self.share(&bucket).await;
        }
    }

    async fn ask(&self, bucket: &Arc<str>, Question { deleted, enough, .. }: Question) {
        let window = self.limits.window;
        let known = match &self.known_keys {
            Some(known_keys) => known_keys(bucket.clone(), enough, window).await,
            None => Ok(None),
        };
        match known {
            Ok(Some(known)) if known < enough => {
                let (percent, window) = (self.limits.percent, window.as_secs());
                let reason = format!(
                    "{deleted} of about {} keys deleted within {window} s, more than \
                     MIRROR_DELETE_BRAKE_PERCENT={percent}",
                    known.max(deleted)
                );
                // Which closes the question, too.
                self.brake(bucket, reason, now_ms());
                self.write_note().await;
            }
            Ok(_) => self.lock().shares.close(bucket),
            Err(_) => {
                if let Some(question) = self.lock().shares.0.get_mut(bucket) {
                    question.asked = Asked::InVain(now_ms().saturating_add(UNCOUNTED_MS));
                }
            }
        }
    }
}

fn uncounted() -> String {
    "MIRROR_DELETE_BRAKE_PERCENT: the keys of the bucket are not counted yet".to_owned()
}

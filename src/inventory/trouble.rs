//! What keeps rows from being written, for whoever asks how the service does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::now_ms;

/// Buckets whose trouble is remembered; of further ones nothing is told.
const BUCKETS_MAX: usize = 1000;

/// Trouble that lasts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Of the database as a whole: since when, milliseconds since 1970, and why.
    database: Option<(i64, String)>,
    buckets: HashMap<Arc<str>, (i64, String)>,
}

impl Trouble {
    /// What has lasted longest: since when, milliseconds since 1970, and why.
    pub fn longest(&self) -> Option<(i64, String)> {
        let state = self.lock();
        if let Some(trouble) = &state.database {
            return Some(trouble.clone());
        }
        let (bucket, (since_ms, reason)) =
            state.buckets.iter().min_by_key(|(_, (since_ms, _))| *since_ms)?;
        let more = match state.buckets.len() - 1 {
            0 => String::new(),
            more => format!("; so it is with {more} other buckets"),
        };
        Some((*since_ms, format!("bucket {bucket}: {reason}{more}")))
    }

    /// The database takes nothing, or again does.
    pub(super) fn database(&self, error: Option<String>) {
        let mut state = self.lock();
        let since_ms = state.database.as_ref().map_or_else(now_ms, |(since_ms, _)| *since_ms);
        state.database = error.map(|error| (since_ms, error));
    }

    /// Rows of a bucket cannot be written.
    pub(super) fn begins(&self, bucket: &str, reason: &str) {
        let mut state = self.lock();
        if let Some((_, last)) = state.buckets.get_mut(bucket) {
            reason.clone_into(last);
        } else if state.buckets.len() < BUCKETS_MAX {
            state.buckets.insert(bucket.into(), (now_ms(), reason.to_owned()));
        }
    }

    /// They can again.
    pub(super) fn ends(&self, bucket: &str) {
        self.lock().buckets.remove(bucket);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_until_it_is_over_that_of_the_database_first() {
        let trouble = Trouble::default();
        assert_eq!(trouble.longest(), None);
        trouble.begins("b", "locked");
        trouble.begins("b", "denied");
        trouble.database(Some("away".into()));
        assert_eq!(trouble.longest().unwrap().1, "away");
        trouble.database(None);
        assert_eq!(trouble.longest().unwrap().1, "bucket b: denied");
        trouble.ends("b");
        assert_eq!(trouble.longest(), None);
    }
}

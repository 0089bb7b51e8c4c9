//! Derived signing keys, kept for the next request of the same client, day and region.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::s3::chunked::SigningKey;

/// How many keys are kept. A client uses one or two (around midnight) per region; at the limit the
/// cache starts again from nothing, which costs four HMACs per key.
const KEYS_MAX: usize = 4096;

/// The cache. It belongs to one generation of credentials and goes away with it, so that a key
/// derived from a withdrawn secret is never used again.
#[derive(Debug, Default)]
pub(super) struct SigningKeys {
    keys: Mutex<HashMap<Index, SigningKey>>,
}

/// Access key ID, day, region.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Index(String, String, String);

impl SigningKeys {
    /// The key kept for this client, day and region.
    pub(super) fn get(&self, access_key_id: &str, date: &str, region: &str) -> Option<SigningKey> {
        let index = Index(access_key_id.to_owned(), date.to_owned(), region.to_owned());
        self.lock().get(&index).cloned()
    }

    /// Keeps a key. To be called only once a signature was verified with it, so that nobody without
    /// a secret can fill the cache.
    pub(super) fn keep(&self, access_key_id: &str, date: &str, region: &str, key: SigningKey) {
        let mut keys = self.lock();
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(Index(access_key_id.to_owned(), date.to_owned(), region.to_owned()), key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Index, SigningKey>> {
        // The map is whole at every instant; a panic elsewhere while it was held changes nothing.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_apart_and_never_more_than_the_limit() {
        let keys = SigningKeys::default();
        let derive = |date: &str| SigningKey::derive("secret", date, "r", "s3");
        keys.keep("a", "20130524", "r", derive("20130524"));
        assert!(keys.get("a", "20130524", "r").is_some());
        for (id, date, region) in
            [("b", "20130524", "r"), ("a", "20130525", "r"), ("a", "20130524", "q")]
        {
            assert!(keys.get(id, date, region).is_none());
        }
        let key = derive("20130524");
        for index in 0..=KEYS_MAX {
            keys.keep("a", "20130524", &index.to_string(), key.clone());
        }
        assert!(keys.lock().len() <= KEYS_MAX);
    }
}

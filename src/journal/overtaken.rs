//! A set of keys of a fixed size in memory that may hold more than it was given, and never less.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::entry::ObjectKey;

/// Bits: up to some 100 000 keys it holds hardly any other.
const BITS: usize = 1 << 20;

/// The set; 128 KiB.
pub(super) struct Overtaken(Box<[u64]>);

impl Overtaken {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self(vec![0; BITS / 64].into_boxed_slice())
    }

    /// Takes a key in.
    pub(super) fn insert(&mut self, key: &ObjectKey) {
        let (word, bit) = place(key);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// Was the key, or one that looks like it, taken in?
    pub(super) fn may_hold(&self, key: &ObjectKey) -> bool {
        let (word, bit) = place(key);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

fn place(key: &ObjectKey) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let at = usize::try_from(hasher.finish() % (BITS as u64)).unwrap_or_default();
    (at / 64, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_is_held_and_hardly_anything_else() {
        let key = |number: usize| ObjectKey::new("b", &number.to_string());
        let mut keys = Overtaken::new();
        assert!(!keys.may_hold(&key(0)));
        (0..1000).for_each(|number| keys.insert(&key(number)));
        assert!((0..1000).all(|number| keys.may_hold(&key(number))));
        let others = (1000..2000).filter(|number| keys.may_hold(&key(*number))).count();
        assert!(others < 20, "{others}");
    }
}

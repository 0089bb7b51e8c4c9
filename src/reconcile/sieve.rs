//! Which rows have no object? Told in constant memory, whatever order listing and table are in.
//!
//! Every key that main lists is hashed into one of [`PARTS`] parts, and so is every row that
//! tells of an object; each part keeps the exclusive-or of its hashes. A key that is in both
//! cancels itself out. In a part that ends at zero, listing and table agree; only the rows of the
//! other parts have to be asked about one by one: of a hundred million rows some four hundred per
//! row that is really wrong.

use sha2::{Digest as _, Sha256};

/// Parts: 2 MiB of memory.
const PARTS: usize = 1 << 18;

/// See the module's documentation.
pub(super) struct Sieve {
    parts: Vec<u64>,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self { parts: vec![0; PARTS] }
    }

    /// Adds a key, or takes it out again.
    pub(super) fn toggle(&mut self, key: &str) {
        let (part, hash) = hashed(key);
        if let Some(sum) = self.parts.get_mut(part) {
            *sum ^= hash;
        }
    }

    /// May this key be on one side only?
    pub(super) fn suspects(&self, key: &str) -> bool {
        self.parts.get(hashed(key).0).is_some_and(|sum| *sum != 0)
    }
}

fn hashed(key: &str) -> (usize, u64) {
    let digest = Sha256::digest(key.as_bytes());
    let word = |from: usize| {
        let bytes = digest.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let parts = u64::try_from(PARTS).unwrap_or(1);
    // Never zero, so that a key of its own always shows.
    (usize::try_from(word(0) % parts).unwrap_or(0), word(8) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_both_sides_cancels_out_and_what_is_on_one_shows() {
        let mut sieve = Sieve::new();
        let keys: Vec<String> = (0..5000).map(|number| format!("k/{number}")).collect();
        for key in &keys {
            sieve.toggle(key);
        }
        for key in keys.iter().rev() {
            sieve.toggle(key);
        }
        assert!(!keys.iter().any(|key| sieve.suspects(key)));
        sieve.toggle("only here");
        assert!(sieve.suspects("only here"));
        let others = keys.iter().filter(|key| sieve.suspects(key)).count();
        assert!(others < 5, "{others} keys share its part");
    }
}

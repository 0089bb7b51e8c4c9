//! Two listings side by side, in constant memory.
//!
//! # Why it is right whatever the order
//! The merge walks both listings at once and takes the smaller key, so that with two listings in
//! byte order (which S3 promises) equal keys meet. A key is either *paired* with its equal of the
//! other side, or *alone*. Where a store lists in another order some keys come out alone that
//! have an equal elsewhere; but no key is ever left out, and none is paired with another. So
//! whoever treats "alone" as a question, to be settled by asking both sides about that one key,
//! is right with any order, and merely asks more.

use std::cmp::Ordering;

use super::listing::Lister;
use crate::s3::listing::Listed;

/// One key of one or both listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What the first listing has.
    pub left: Option<Listed>,
    /// What the second has, under the same key.
    pub right: Option<Listed>,
}

impl Pair {
    /// The key.
    pub fn key(&self) -> &str {
        let listed = self.left.as_ref().or(self.right.as_ref());
        listed.map_or("", |listed| listed.key.as_str())
    }
}

/// Which side is taken next: the left, both, or the right; `None` at the end of both.
pub fn next(left: Option<&str>, right: Option<&str>) -> Option<Ordering> {
    match (left, right) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(left), Some(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
    }
}

/// Two listings under way.
pub struct Merge {
    /// Main's, or that of what is copied from.
    pub left: Lister,
    /// The mirror's, or that of what is copied to.
    pub right: Lister,
}

impl Merge {
    /// The next key of either side.
    pub async fn next(&mut self) -> Result<Option<Pair>, String> {
        // Both pages at once: each may be a round trip of tenths of a second.
        let (left, right) = tokio::join!(self.left.peek(), self.right.peek());
        let (left, right) = (left?, right?);
        let order = next(left.map(|it| it.key.as_str()), right.map(|it| it.key.as_str()));
        Ok(order.map(|order| match order {
            Ordering::Less => Pair { left: self.left.take(), right: None },
            Ordering::Equal => Pair { left: self.left.take(), right: self.right.take() },
            Ordering::Greater => Pair { left: None, right: self.right.take() },
        }))
    }

    /// Do both sides list in byte order, as far as seen?
    pub fn in_order(&self) -> bool {
        self.left.in_order() && self.right.in_order()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The merge of two lists of keys: paired, left alone, right alone.
    fn merged<'a>(left: &[&'a str], right: &[&'a str]) -> [Vec<&'a str>; 3] {
        let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
        let mut out = [Vec::new(), Vec::new(), Vec::new()];
        while let Some(order) = next(left.peek().map(|k| **k), right.peek().map(|k| **k)) {
            match order {
                Ordering::Less => out[1].extend(left.next()),
                Ordering::Greater => out[2].extend(right.next()),
                Ordering::Equal => {
                    out[0].extend(left.next());
                    assert_eq!(out[0].last(), right.next());
                }
            }
        }
        out
    }

    #[test]
    fn keys_are_compared_by_bytes_not_by_utf16_units() {
        // U+FF61 comes before U+10000 in UTF-8 and behind it in UTF-16.
        let [both, left, right] = merged(&["a", "\u{FF61}", "\u{10000}"], &["a", "\u{10000}"]);
        assert_eq!((both, left, right), (vec!["a", "\u{10000}"], vec!["\u{FF61}"], vec![]));
    }

    proptest! {
        #[test]
        fn sorted_listings_are_compared_exactly(
            left in proptest::collection::btree_set("[a-c/]{1,4}", 0..40),
            right in proptest::collection::btree_set("[a-c/]{1,4}", 0..40),
        ) {
            let lists = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
            let (one, two) = (lists(&left), lists(&right));
            let one: Vec<&str> = one.iter().map(String::as_str).collect();
            let two: Vec<&str> = two.iter().map(String::as_str).collect();
            let [both, only_left, only_right] = merged(&one, &two);
            prop_assert!(both.iter().all(|key| left.contains(*key) && right.contains(*key)));
            let expected: Vec<_> = left.difference(&right).map(String::as_str).collect();
            prop_assert_eq!(only_left, expected);
            let expected: Vec<_> = right.difference(&left).map(String::as_str).collect();
            prop_assert_eq!(only_right, expected);
        }

        #[test]
        fn in_any_order_no_key_is_left_out_and_none_is_paired_with_another(
            left in proptest::collection::hash_set("[a-c]{1,3}", 0..30),
            right in proptest::collection::hash_set("[a-c]{1,3}", 0..30),
        ) {
            let one: Vec<&str> = left.iter().map(String::as_str).collect();
            let two: Vec<&str> = right.iter().map(String::as_str).collect();
            let [both, only_left, only_right] = merged(&one, &two);
            let seen: BTreeSet<&str> = both.iter().chain(&only_left).copied().collect();
            prop_assert_eq!(seen.len(), left.len());
            let seen: BTreeSet<&str> = both.iter().chain(&only_right).copied().collect();
            prop_assert_eq!(seen.len(), right.len());
        }
    }
}

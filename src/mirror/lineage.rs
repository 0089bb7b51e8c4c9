//! Which versions of a key the mirror lacks, and which main no longer has. Pure.
//!
//! Two stores give the same version different IDs, so versions are told by what they hold and by
//! their order. The mirror's are appended in main's order and never moved; so its newest ones are
//! found as a run in main's list, and what follows that run is missing. Where the same content
//! stands in several places the oldest is assumed: that may append a version twice, and never
//! leaves one out.
//!
//! All lists are oldest first.

use std::collections::HashSet;
use std::ops::Range;

use crate::s3::versions::Version;

/// From which version of main's on the mirror has to be given them, so that all from `first` on
/// stand there in order. `whole`: the mirror has no older ones than these.
pub(super) fn missing_from(
    main: &[Version],
    mirror: &[Version],
    whole: bool,
    first: usize,
) -> usize {
    let known: HashSet<_> = main.iter().map(Version::content).collect();
    // What main does not have says nothing about the place.
    let copies: Vec<&Version> =
        mirror.iter().filter(|copy| known.contains(&copy.content())).collect();
    let run = last_run(main, &copies);
    let behind = run.end;
    if behind <= first {
        return if behind == 0 { first } else { behind };
    }
    // Of what is beyond the part that was listed nothing better is known than that its turn was
    // before.
    let listed = if whole || run.len() < copies.len() { first } else { first.max(run.start) };
    let needed = main.get(listed..behind).unwrap_or_default();
    if in_order(needed, &copies) { behind } else { first }
}

/// The longest run of main's that ends as `copies` end, the oldest of equal ones; `0..0` where there
/// is none.
fn last_run(main: &[Version], copies: &[&Version]) -> Range<usize> {
    let wanted: Vec<&Version> = copies.iter().rev().copied().collect();
    let found: Vec<&Version> = main.iter().rev().collect();
    let lengths = prefix_lengths(&wanted, &found);
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if longest == 0 {
        return 0..0;
    }
    let oldest = lengths.iter().rposition(|length| *length == longest).unwrap_or(0);
    let end = main.len() - oldest;
    end - longest..end
}

/// For every place in `text`, how much of the beginning of `pattern` stands there: the Z function,
/// in one pass, because a key may have thousands of versions.
fn prefix_lengths(pattern: &[&Version], text: &[&Version]) -> Vec<usize> {
    let at = |place: usize| -> Option<&Version> {
        match place.checked_sub(pattern.len()) {
            None => pattern.get(place).copied(),
            // Between them stands nothing that is equal to anything.
            Some(0) => None,
            Some(place) => text.get(place - 1).copied(),
        }
    };
    let equal = |one, other| match (at(one), at(other)) {
        (Some(one), Some(other)) => one.same_content(other),
        _ => false,
    };
    let total = pattern.len() + 1 + text.len();
    let mut lengths = vec![0usize; total];
    let (mut left, mut right) = (0, 0);
    for place in 1..total {
        let mut length = if place < right {
            let known = lengths.get(place - left).copied().unwrap_or(0);
            known.min(right - place)
        } else {
            0
        };
        while equal(length, place + length) {
            length += 1;
        }
        if let Some(slot) = lengths.get_mut(place) {
            *slot = length;
        }
        if place + length > right {
            (left, right) = (place, place + length);
        }
    }
    lengths.split_off(pattern.len() + 1)
}

/// Are all of `needed` among `copies`, in this order, however much stands between them?
fn in_order(needed: &[Version], copies: &[&Version]) -> bool {
    let mut left = copies.iter().rev();
    needed.iter().rev().all(|version| left.any(|copy| copy.same_content(version)))
}

/// The mirror's versions of which main has none (any more), by their place. Whatever might be the
/// copy of one that main has is not among them: where `ETag`s differ by nature, the size decides.
pub(super) fn surplus(main: &[Version], mirror: &[Version]) -> Vec<usize> {
    let mut lonely = Vec::new();
    let mut orphans: Vec<usize> = Vec::new();
    let mut copies = mirror.iter().enumerate().rev();
    for version in main.iter().rev() {
        let mut skipped = Vec::new();
        let mut rest = copies.clone();
        let found = rest.by_ref().find_map(|(place, copy)| {
            if copy.same_content(version) {
                return Some(place);
            }
            skipped.push(place);
            None
        });
        if found.is_some() {
            orphans.append(&mut skipped);
            copies = rest;
        } else {
            lonely.push((version.marker, version.size));
        }
    }
    orphans.extend(copies.map(|(place, _)| place));
    let lonely: HashSet<_> = lonely.into_iter().collect();
    let mut surplus: Vec<usize> = orphans
        .into_iter()
        .filter(|place| {
            mirror.get(*place).is_some_and(|copy| !lonely.contains(&(copy.marker, copy.size)))
        })
        .collect();
    surplus.sort_unstable();
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a version; `-` is a delete marker, capitals are another `ETag` of the same size.
    fn versions(text: &str) -> Vec<Version> {
        text.chars()
            .map(|letter| Version {
                id: String::new(),
                marker: letter == '-',
                etag: if letter == '-' { String::new() } else { letter.to_string() },
                size: if letter == '-' { 0 } else { u64::from(letter.to_ascii_lowercase()) },
                modified: None,
            })
            .collect()
    }

    fn appended(main: &str, mirror: &str, first: usize) -> String {
        let from = missing_from(&versions(main), &versions(mirror), true, first);
        main.chars().skip(from).collect()
    }

    #[test]
    fn what_follows_the_mirror_s_newest_is_missing() {
        assert_eq!(appended("abc", "", 0), "abc");
        assert_eq!(appended("abc", "a", 0), "bc");
        assert_eq!(appended("ab-c", "ab", 2), "-c");
        assert_eq!(appended("abc", "abc", 0), "");
        assert_eq!(appended("-", "", 0), "-");
        // Versions from before the mirror had any are not brought over: order cannot be mended.
        assert_eq!(appended("abcd", "", 3), "d");
        assert_eq!(appended("abcd", "c", 3), "d");
        // Written past this proxy meanwhile.
        assert_eq!(appended("abcd", "a", 3), "bcd");
    }

    #[test]
    fn content_that_comes_again_is_a_version_of_its_own() {
        assert_eq!(appended("aa", "a", 0), "a");
        assert_eq!(appended("aba", "a", 0), "ba");
        assert_eq!(appended("abab", "aba", 0), "b");
        assert_eq!(appended("abab", "abab", 0), "");
        assert_eq!(appended("a-a-", "a-", 0), "a-");
    }

    #[test]
    fn what_main_has_deleted_does_not_hide_the_place() {
        assert_eq!(appended("ac", "abc", 0), "");
        assert_eq!(appended("ad", "abc", 1), "d");
        assert_eq!(appended("ab", "abx", 1), "");
        assert_eq!(appended("aa", "aba", 0), "");
    }

    #[test]
    fn a_version_left_out_is_appended_with_all_that_follow_it() {
        // `b` failed, `c` was copied, and now it is the turn of `b` again.
        assert_eq!(appended("abc", "ac", 1), "bc");
        assert_eq!(appended("abc", "acbc", 1), "");
        // Two proxies at once, or a write that landed late.
        assert_eq!(appended("abc", "abbcc", 0), "");
        assert_eq!(appended("abc", "abcb", 2), "c");
        assert_eq!(appended("ab", "abb", 0), "");
    }

    #[test]
    fn whatever_the_mirror_holds_main_s_versions_end_up_in_order() {
        // Every pair of short lists over three contents.
        let lists = |longest: usize| -> Vec<String> {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last =
                    last.iter().flat_map(|l| ["a", "b", "-"].map(|c| format!("{l}{c}"))).collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        for main in lists(4).iter().filter(|main| !main.is_empty()) {
            for mirror in lists(4) {
                for first in 0..main.len() {
                    let new = appended(main, &mirror, first);
                    let after = versions(&format!("{mirror}{new}"));
                    let after: Vec<&Version> = after.iter().collect();
                    assert!(
                        in_order(&versions(main)[first..], &after),
                        "{main} from {first} over {mirror}: {new}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_stands_beyond_the_part_that_was_listed_is_taken_to_be_there() {
        let (main, mirror) = (versions("abcdef"), versions("cd"));
        assert_eq!(missing_from(&main, &mirror, false, 0), 4);
        assert_eq!(missing_from(&main, &mirror, true, 0), 0);
    }

    #[test]
    fn thousands_of_versions_take_one_pass() {
        let main = versions(&"ab".repeat(5000));
        let mirror = versions(&"ab".repeat(4999));
        assert_eq!(missing_from(&main, &mirror, true, 0), 9998);
    }

    #[test]
    fn only_what_main_surely_has_not_is_surplus() {
        let places = |main: &str, mirror: &str| surplus(&versions(main), &versions(mirror));
        assert_eq!(places("ac", "abc"), [1]);
        assert_eq!(places("", "a-b"), [0, 1, 2]);
        assert_eq!(places("ab", "ab-"), [2]);
        assert_eq!(places("a", "aa"), [0], "of equal ones the older");
        assert_eq!(places("abc", "abc"), [] as [usize; 0]);
        // Copies whose ETag differs by nature are not taken for something else's.
        assert_eq!(places("abc", "ABxC"), [2]);
        assert_eq!(places("ac", "AbC"), [1]);
        assert_eq!(places("aa", "AAA"), [] as [usize; 0]);
    }
}

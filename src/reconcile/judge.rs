//! Are two copies of a key the same? Pure.
//!
//! By listing, `ETag` and size tell. An `ETag` is a hash of the content only for objects that
//! were written in one request and not encrypted under a key of a key service; the hash of a
//! multipart object depends on where its parts were cut. Copies made by this program have main's
//! boundaries and so main's `ETag`; copies made otherwise (by a tool, before the proxy) may not.

use serde::{Deserialize, Serialize};

/// What a listing or a question tells of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy<'a> {
    /// `ETag` without quotes; empty if none is told.
    pub etag: &'a str,
    /// Bytes.
    pub size: u64,
    /// Is the `ETag` surely no hash of the content (encryption by a key service or the client)?
    pub opaque: bool,
}

/// What is said of two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They are the same, as far as `ETag` and size tell.
    Same,
    /// They differ.
    Different,
    /// Same size, and `ETag`s that cannot be compared: only the content tells.
    Incomparable,
}

/// Compares two copies.
pub fn compare(one: Copy<'_>, other: Copy<'_>) -> Verdict {
    if one.size != other.size {
        return Verdict::Different;
    }
    if one.etag == other.etag && !one.etag.is_empty() {
        return Verdict::Same;
    }
    if one.opaque || other.opaque {
        return Verdict::Incomparable;
    }
    match (shape(one.etag), shape(other.etag)) {
        (Shape::Whole, Shape::Whole) => Verdict::Different,
        // The same number of parts is nearly always the same boundaries.
        (Shape::Parts(one), Shape::Parts(other)) if one == other => Verdict::Different,
        _ => Verdict::Incomparable,
    }
}

/// How an `ETag` was made.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// MD5 of the content.
    Whole,
    /// MD5 of that many parts' MD5s.
    Parts(u32),
    /// Something else.
    Other,
}

fn shape(etag: &str) -> Shape {
    let is_md5 = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match etag.rsplit_once('-') {
        None if is_md5(etag) => Shape::Whole,
        Some((digest, parts)) if is_md5(digest) => parts.parse().map_or(Shape::Other, Shape::Parts),
        _ => Shape::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00000000000000000000000000000001";
    const B: &str = "00000000000000000000000000000002";

    fn verdict(one: &str, other: &str) -> Verdict {
        let copy = |etag| Copy { etag, size: 1, opaque: false };
        compare(copy(one), copy(other))
    }

    #[test]
    fn equal_etags_and_sizes_are_the_same_and_another_size_never_is() {
        assert_eq!(verdict(A, A), Verdict::Same);
        let longer = Copy { etag: A, size: 2, opaque: false };
        assert_eq!(compare(Copy { size: 1, ..longer }, longer), Verdict::Different);
    }

    #[test]
    fn hashes_of_the_same_kind_tell_and_others_do_not() {
        let parts = |digest: &str, count: u32| format!("{digest}-{count}");
        assert_eq!(verdict(A, B), Verdict::Different);
        assert_eq!(verdict(&parts(A, 3), &parts(B, 3)), Verdict::Different);
        assert_eq!(verdict(&parts(A, 3), &parts(B, 4)), Verdict::Incomparable);
        assert_eq!(verdict(&parts(A, 3), B), Verdict::Incomparable);
        assert_eq!(verdict("not-a-hash", B), Verdict::Incomparable);
        assert_eq!(verdict("", ""), Verdict::Incomparable);
    }

    #[test]
    fn an_etag_under_a_key_of_a_key_service_says_nothing() {
        let encrypted = Copy { etag: A, size: 1, opaque: true };
        let plain = Copy { etag: B, size: 1, opaque: false };
        assert_eq!(compare(encrypted, plain), Verdict::Incomparable);
    }
}

//! The canonical request of `SigV4` as S3 builds it, over bytes: no text is assumed to be UTF-8.
//!
//! For S3 the path is encoded once and never normalised: `//`, `.` and `..` are part of the key.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

/// A query string, decoded: percent escapes resolved, `+` read as a blank.
#[derive(Debug)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    pub(super) fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name.as_bytes(), true), decode(value.as_bytes(), true))
        });
        Self(pairs.collect())
    }

    /// Whether the parameter `name` is there, in any letter case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The values of the parameter `name`, in any letter case.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
    }

    /// Sorted and encoded, without the parameter `without` (in any letter case).
    pub(super) fn canonical(&self, without: &str) -> String {
        let mut pairs: Vec<(String, String)> = self
            .0
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case(without.as_bytes()))
            .map(|(name, value)| (encode(name, false), encode(value, false)))
            .collect();
        pairs.sort_unstable();
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// How the signer may have written a path: re-encoded, or as it was sent.
///
/// Servers and signers disagree on which of the two is right; they differ only for a path that was
/// not sent in canonical form, and both name the same key.
pub(super) fn path_variants(raw_path: &str) -> Vec<Cow<'_, str>> {
    let raw_path = if raw_path.is_empty() { "/" } else { raw_path };
    let encoded = encode(&decode(raw_path.as_bytes(), false), true);
    if encoded == raw_path {
        vec![Cow::Borrowed(raw_path)]
    } else {
        vec![Cow::Owned(encoded), Cow::Borrowed(raw_path)]
    }
}

/// Which runs of white space in header values become one blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whitespace {
    /// Blanks only (AWS SDKs for Rust and Go).
    Blanks,
    /// Tabs too (AWS SDKs for Python and JavaScript).
    All,
}

/// The header block of the canonical request for the names in `signed` (lower case, in the
/// order of `SignedHeaders`), each line with its LF.
pub(super) fn headers_block(
    headers: &HeaderMap,
    host: &str,
    signed: &[&str],
    whitespace: Whitespace,
) -> Vec<u8> {
    let mut block = Vec::with_capacity(512);
    for name in signed {
        block.extend_from_slice(name.as_bytes());
        block.push(b':');
        if *name == "host" {
            push_value(&mut block, host.as_bytes(), whitespace);
        } else if *name == "expect" && !headers.contains_key(*name) {
            // Some client libraries and servers take this header out on the way.
            block.extend_from_slice(b"100-continue");
        } else {
            for (index, value) in headers.get_all(*name).iter().enumerate() {
                if index > 0 {
                    block.push(b',');
                }
                push_value(&mut block, value.as_bytes(), whitespace);
            }
        }
        block.push(b'\n');
    }
    block
}

/// SHA-256 of the canonical request.
pub(super) fn request_hash(
    method: &str,
    path: &str,
    query: &str,
    headers_block: &[u8],
    signed_headers: &str,
    payload_hash: &str,
) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [method, path, query] {
        hasher.update(part.as_bytes());
        hasher.update(b"\n");
    }
    hasher.update(headers_block);
    hasher.update(b"\n");
    hasher.update(signed_headers.as_bytes());
    hasher.update(b"\n");
    hasher.update(payload_hash.as_bytes());
    hasher.finalize().into()
}

fn push_value(block: &mut Vec<u8>, value: &[u8], whitespace: Whitespace) {
    let folds = |byte: u8| byte == b' ' || (whitespace == Whitespace::All && byte == b'\t');
    let mut pending_blank = false;
    for byte in value.trim_ascii() {
        if folds(*byte) {
            pending_blank = true;
            continue;
        }
        if std::mem::take(&mut pending_blank) {
            block.push(b' ');
        }
        block.push(*byte);
    }
}

/// Resolves percent escapes; an incomplete or malformed one stays as it is.
fn decode(raw: &[u8], plus_is_blank: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        let mut byte = [0u8; 1];
        rest = match (first, tail) {
            (b'%', [high, low, after @ ..])
                if hex::decode_to_slice([*high, *low], &mut byte).is_ok() =>
            {
                decoded.push(byte[0]);
                after
            }
            (b'+', after) if plus_is_blank => {
                decoded.push(b' ');
                after
            }
            (other, after) => {
                decoded.push(*other);
                after
            }
        };
    }
    decoded
}

/// Encodes every byte outside the unreserved set; `/` stays in paths.
fn encode(bytes: &[u8], is_path: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(bytes.len() + 16);
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(*byte));
            }
            b'/' if is_path => encoded.push('/'),
            byte => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_sorted_by_name_then_value_and_encoded_once() {
        let canonical = |raw| Query::parse(raw).canonical("X-Amz-Signature");
        assert_eq!(canonical("b=2&a=1"), "a=1&b=2");
        assert_eq!(canonical("uploads"), "uploads=");
        assert_eq!(canonical("uploads="), "uploads=");
        assert_eq!(canonical("&&a&"), "a=");
        assert_eq!(canonical("a=2&a=1&A=3"), "A=3&a=1&a=2");
        assert_eq!(canonical("prefix=a/b+c%2fd"), "prefix=a%2Fb%20c%2Fd");
        assert_eq!(canonical("k=%FF&k=%ff"), "k=%FF&k=%FF");
        assert_eq!(canonical("k=a=b"), "k=a%3Db");
        assert_eq!(canonical("k=%zz%2"), "k=%25zz%252");
        assert_eq!(canonical("a=1&x-amz-signature=0"), "a=1");
    }

    #[test]
    fn paths_keep_every_slash_and_dot() {
        assert_eq!(path_variants("//b//./../k"), ["//b//./../k"]);
        assert_eq!(path_variants(""), ["/"]);
        assert_eq!(path_variants("/b/a b"), ["/b/a%20b", "/b/a b"]);
        assert_eq!(path_variants("/b/a+b"), ["/b/a%2Bb", "/b/a+b"]);
        assert_eq!(path_variants("/b/%2f%2F"), ["/b///", "/b/%2f%2F"]);
        assert_eq!(path_variants("/b/\u{fc}"), ["/b/%C3%BC", "/b/\u{fc}"]);
        assert_eq!(path_variants("/b/%C3%BC~"), ["/b/%C3%BC~"]);
        assert_eq!(path_variants("/b/100%"), ["/b/100%25", "/b/100%"]);
    }

    #[test]
    fn header_values_are_trimmed_folded_and_joined() {
        let mut headers = HeaderMap::new();
        headers.append("x-amz-meta-a", " x   y\t z ".parse().unwrap());
        headers.append("x-amz-meta-a", "second".parse().unwrap());
        headers.append("x-amz-meta-b", http::HeaderValue::from_bytes(b"\xfc").unwrap());
        let names = ["expect", "host", "x-amz-meta-a", "x-amz-meta-b", "x-amz-meta-c"];
        let block = |whitespace| headers_block(&headers, "h:8080", &names, whitespace);
        assert_eq!(
            block(Whitespace::Blanks),
            b"expect:100-continue\nhost:h:8080\nx-amz-meta-a:x y\t z,second\n\
              x-amz-meta-b:\xfc\nx-amz-meta-c:\n"
        );
        let folded = block(Whitespace::All);
        assert!(folded.windows(6).any(|window| window == b":x y z"));
    }
}

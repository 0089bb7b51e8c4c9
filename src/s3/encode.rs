//! Percent-encoding as `SigV4` for S3 wants it: decode once, re-encode every byte except the
//! unreserved set. The result is both what is signed and what goes on the wire, because that is
//! the only form every S3 server agrees on (some sign the raw path, some a re-encoding of it).

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Which bytes stay as they are.
const UNRESERVED: [bool; 256] = {
    let mut stay = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        stay[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    stay
};

/// Appends `bytes` in canonical percent-encoding. `/` stays when `keep_slash` (paths).
pub fn encode_into(out: &mut String, bytes: &[u8], keep_slash: bool) {
    out.reserve(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let plain = |byte: &u8| UNRESERVED[usize::from(*byte)] || (keep_slash && *byte == b'/');
        let run = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        let (run, encoded) = rest.split_at(run);
        // Most keys are one such run, and all of it is ASCII.
        out.push_str(std::str::from_utf8(run).unwrap_or_default());
        let Some((&byte, after)) = encoded.split_first() else { return };
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
        rest = after;
    }
}

/// Percent-decodes to UTF-8; borrowed when there is nothing to decode. `plus_is_space` is the
/// rule of query strings. `None`: a broken escape or bytes that are not UTF-8.
pub fn decode(raw: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Some(Cow::Borrowed(raw));
    }
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let high = char::from(*bytes.get(at + 1)?).to_digit(16)?;
                let low = char::from(*bytes.get(at + 2)?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut out = String::new();
        encode_into(&mut out, text.as_bytes(), true);
        out
    }

    #[test]
    fn reserved_and_non_ascii_bytes_are_escaped_in_upper_case() {
        assert_eq!(encoded("a b+c%/ü~!*'()"), "a%20b%2Bc%25/%C3%BC~%21%2A%27%28%29");
    }

    #[test]
    fn decoding_is_strict_about_escapes_and_utf8() {
        assert_eq!(decode("a%2Fb+c", false).as_deref(), Some("a/b+c"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("%zz", false), None);
        assert_eq!(decode("%4", false), None);
        assert_eq!(decode("%FF", false), None);
    }
}

//! Object tags: the `x-amz-tagging` header and the rules of S3 about them.

use s3s::S3ErrorCode;

use super::fault::{Answer, refuse, refuse_as};
use super::target::decode_form;

/// S3's limits: tags per object, characters per key and per value.
const TAGS_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// The tags of an object, in the order they were given.
pub(super) type Tags = Vec<(String, String)>;

/// Reads the query-string form of `x-amz-tagging`.
pub(super) fn parse(header: &[u8]) -> Answer<Tags> {
    let wrong = || {
        refuse(
            S3ErrorCode::InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
             parameters without tag name duplicates.",
        )
    };
    let text = std::str::from_utf8(header).map_err(|_| wrong())?;
    let mut tags = Tags::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decode_form(key).ok_or_else(wrong)?;
        let value = decode_form(value).ok_or_else(wrong)?;
        if tags.iter().any(|(other, _)| *other == key) {
            return Err(wrong());
        }
        tags.push((key, value));
    }
    check(tags)
}

/// Holds tags to S3's rules.
pub(super) fn check(tags: Tags) -> Answer<Tags> {
    if tags.len() > TAGS_MAX {
        let message = "Object tags cannot be greater than 10";
        return Err(refuse_as("BadRequest", http::StatusCode::BAD_REQUEST, message));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        let wrong = |what: &str| refuse(S3ErrorCode::InvalidTag, what.to_owned());
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !allowed(key) {
            return Err(wrong("The TagKey you have provided is invalid"));
        }
        if value.chars().count() > VALUE_CHARS_MAX || !allowed(value) {
            return Err(wrong("The TagValue you have provided is invalid"));
        }
        if tags.iter().take(index).any(|(other, _)| other == key) {
            return Err(wrong("Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

/// Letters, digits and white space of any script, and `+ - = . _ : / @`.
fn allowed(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_decoded_as_a_form() {
        let tags = parse(b"a=1&b+c=%C3%BC%2F&empty=&flag").unwrap();
        let expected = [("a", "1"), ("b c", "ü/"), ("empty", ""), ("flag", "")];
        assert_eq!(tags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn what_s3_refuses_is_refused() {
        assert!(parse(b"a=1&a=2").is_err());
        assert!(parse(b"=1").is_err());
        assert!(parse(b"a=%7B").is_err());
        let eleven: Vec<_> = (0..11).map(|n| format!("k{n}=v")).collect();
        assert!(parse(eleven.join("&").as_bytes()).is_err());
        assert!(parse(format!("k={}", "v".repeat(257)).as_bytes()).is_err());
    }
}

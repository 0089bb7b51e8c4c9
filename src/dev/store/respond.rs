//! Small pieces of responses: dates, numbers, XML.

use http::{HeaderMap, HeaderValue, header};
use s3s::dto::Timestamp;
use s3s::{Body, S3Response};
use time::macros::format_description;

use super::checksum::StoredChecksum;
use super::conditions::at_second;

/// A `Last-Modified` value.
pub(super) fn http_date(ms: i64) -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(at_second(ms)))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// A date as XML bodies write it. S3 shows whole seconds there too.
pub(super) fn iso_date(ms: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");
    time::OffsetDateTime::from(at_second(ms)).format(&format).unwrap_or_default()
}

/// A date for the output types of `s3s`.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from(at_second(ms))
}

pub(super) fn number(value: u64) -> HeaderValue {
    HeaderValue::from(value)
}

/// The elements of a checksum inside a result.
pub(super) fn checksum_xml(checksum: Option<&StoredChecksum>) -> String {
    let Some(StoredChecksum { algorithm, value, coverage }) = checksum else {
        return String::new();
    };
    let name = algorithm.name();
    let coverage = coverage.name();
    format!("<Checksum{name}>{value}</Checksum{name}><ChecksumType>{coverage}</ChecksumType>")
}

/// A 200 with an XML document; `content` is already escaped.
pub(super) fn xml(root: &str, content: &str) -> S3Response<Body> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</{root}>"
    );
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    S3Response::with_headers(Body::from(document), headers)
}

/// Escapes text for XML. Control characters become references, as S3 writes them.
pub(super) fn escape(text: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Writing to a String cannot fail.
            c if c.is_ascii_control() => drop(write!(escaped, "&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_whole_seconds() {
        assert_eq!(iso_date(1_700_000_000_999), "2023-11-14T22:13:20.000Z");
        assert_eq!(http_date(1_700_000_000_999), "Tue, 14 Nov 2023 22:13:20 GMT");
    }

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(escape("a&b<c>\"\u{1}\nü"), "a&amp;b&lt;c&gt;&quot;&#1;&#10;ü");
    }
}

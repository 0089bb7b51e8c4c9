//! What a request addresses: bucket, key and query, from host and raw path.

use http::{HeaderMap, Uri, header};
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};
use s3s::path::{S3Path, parse_virtual_hosted_style};

/// The base domains (port included) below which a host names a bucket.
#[derive(Clone, Debug)]
pub(super) struct Domains(pub(super) Vec<String>);

impl Domains {
    /// The bucket in a `Host` header, if it is below one of the domains. Anything else is
    /// path-style.
    fn bucket<'h>(&self, host: &'h str) -> Option<&'h str> {
        if self.0.iter().any(|domain| domain == host) {
            return None;
        }
        let below = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
        self.0.iter().filter_map(below).min_by_key(|bucket| bucket.len())
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

/// Bucket, key and query of a request.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: S3Path,
    query: Vec<(String, String)>,
}

impl Target {
    /// `None` for what `s3s` refuses by itself: a bad bucket name, a key that is too long.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap, domains: &Domains) -> Option<Self> {
        let host =
            headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = decode(uri.path(), false)?;
        let path = parse_virtual_hosted_style(domains.bucket(host), &path).ok()?;
        let mut query = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.push((decode_form(name)?, decode_form(value)?));
        }
        Some(Self { path, query })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Decodes `application/x-www-form-urlencoded` text. `None` if the result is not UTF-8.
pub(super) fn decode_form(text: &str) -> Option<String> {
    decode(text, true)
}

/// Decodes percent escapes; what only looks like one stays as it is, as in `s3s`.
fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match (escaped, byte) {
            (Some(((high, low), after)), _) => {
                bytes.push(high << 4 | low);
                rest = after;
            }
            (None, b'+') if plus_is_space => bytes.push(b' '),
            (None, byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// Encodes as S3 does for `encoding-type=url`: a form, in which `/` stays.
pub(super) fn encode_form(text: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains() -> Domains {
        Domains(vec!["localhost:9000".to_owned(), "s3.localhost:9000".to_owned()])
    }

    #[test]
    fn the_longest_domain_names_the_bucket_and_any_other_host_is_path_style() {
        assert_eq!(domains().bucket("b.localhost:9000"), Some("b"));
        assert_eq!(domains().bucket("my.b.s3.localhost:9000"), Some("my.b"));
        assert_eq!(domains().bucket("localhost:9000"), None);
        assert_eq!(domains().bucket("s3.localhost:9000"), None);
        assert_eq!(domains().bucket("b.localhost"), None);
        assert_eq!(domains().bucket("127.0.0.1:9000"), None);
    }

    #[test]
    fn keys_are_taken_literally() {
        let key = |path: &str| {
            let uri = path.parse().unwrap();
            let target = Target::of(&uri, &HeaderMap::new(), &domains()).unwrap();
            target.path.as_object().map(|(bucket, key)| format!("{bucket}|{key}"))
        };
        assert_eq!(key("/bkt//a").as_deref(), Some("bkt|/a"));
        assert_eq!(key("/bkt/a//../b/").as_deref(), Some("bkt|a//../b/"));
        assert_eq!(key("/bkt/a%2Fb+c%zz%").as_deref(), Some("bkt|a/b+c%zz%"));
        assert_eq!(key("/bkt/%00%C3%BC").as_deref(), Some("bkt|\0ü"));
        assert_eq!(key("/bkt/"), None);
    }

    #[test]
    fn encoding_type_url_is_undone_by_a_form_decoder() {
        for key in ["a b+c%d", "ü/\u{1}\n", "~!'()*.-_&=?#", "100%25"] {
            assert_eq!(decode_form(&encode_form(key)).as_deref(), Some(key));
        }
        assert_eq!(encode_form("a b/ü"), "a+b/%C3%BC");
    }
}

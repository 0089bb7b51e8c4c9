//! Where a request points: bucket, key and query, whatever the addressing style.
//!
//! Parsed once from the raw target and carried as a type. Keys are taken byte for byte: `//`,
//! `.` and `..` are ordinary key bytes and are never merged or resolved. The upstream target is
//! built here too, in the one canonical form that is signed and sent.

use std::fmt::Write as _;
use std::sync::Arc;

use super::encode::{decode, encode_into};

/// A key is at most this many bytes of UTF-8 (Amazon S3 user guide, "Naming objects").
pub const KEY_BYTES_MAX: usize = 1024;

/// What a request addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Bucket, absent for service-level requests (`ListBuckets`).
    pub bucket: Option<Arc<str>>,
    /// Key, absent for bucket-level requests. Never empty.
    pub key: Option<Arc<str>>,
    /// Query parameters, decoded.
    pub query: Query,
}

/// Why a target cannot be an S3 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Broken percent-escape, or bytes that are not UTF-8.
    #[error("Could not parse the specified URI.")]
    InvalidUri,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("Your key is too long")]
    KeyTooLong,
    /// An empty bucket name followed by a key, or one that holds a slash.
    #[error("The specified bucket is not valid.")]
    InvalidBucketName,
}

impl Address {
    /// Reads the raw target of a request. `domains` are the base domains (without port) under
    /// which virtual-hosted-style addressing is recognised; the longest match wins.
    pub fn parse(
        host: &str,
        raw_path: &str,
        raw_query: Option<&str>,
        domains: &[String],
    ) -> Result<Self, AddressError> {
        let path = raw_path.strip_prefix('/').unwrap_or(raw_path);
        let (bucket, raw_key) = if let Some(bucket) = virtual_hosted_bucket(host, domains) {
            (Some(bucket), path)
        } else {
            match path.split_once('/') {
                Some(("", "")) => (None, ""),
                Some(("", _)) => return Err(AddressError::InvalidBucketName),
                Some((bucket, key)) => (Some(decoded(bucket)?), key),
                None if path.is_empty() => (None, ""),
                None => (Some(decoded(path)?), ""),
            }
        };
        // No name has one, and where it stood in the path it would be taken for the key's beginning.
        if bucket.as_ref().is_some_and(|bucket| bucket.contains('/')) {
            return Err(AddressError::InvalidBucketName);
        }
        let key = if raw_key.is_empty() { None } else { Some(decoded(raw_key)?) };
        if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(AddressError::KeyTooLong);
        }
        let query = Query::parse(raw_query.unwrap_or_default())?;
        Ok(Self { bucket, key, query })
    }

    /// The canonical path-style path of this address.
    pub fn path(&self) -> String {
        path_style(self.bucket.as_deref(), self.key.as_deref())
    }
}

/// The canonical path-style path of a bucket and key: what is signed and sent.
pub fn path_style(bucket: Option<&str>, key: Option<&str>) -> String {
    let capacity = bucket.map_or(0, str::len) + key.map_or(0, str::len) + 2;
    let mut path = String::with_capacity(capacity);
    path.push('/');
    if let Some(bucket) = bucket {
        encode_into(&mut path, bucket.as_bytes(), false);
        if let Some(key) = key {
            path.push('/');
            encode_into(&mut path, key.as_bytes(), true);
        }
    }
    path
}

fn decoded(raw: &str) -> Result<Arc<str>, AddressError> {
    decode(raw, false).map(Arc::from).ok_or(AddressError::InvalidUri)
}

fn virtual_hosted_bucket(host: &str, domains: &[String]) -> Option<Arc<str>> {
    if domains.is_empty() {
        return None;
    }
    // A name may be written with the dot of the root behind it.
    let host = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    domains
        .iter()
        .filter_map(|domain| {
            let bucket = host.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then_some((domain.len(), bucket))
        })
        .max()
        .map(|(_, bucket)| bucket.into())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Query parameters in order of arrival, decoded. A flag (`?uploads`) equals an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a raw query string; `+` is a space.
    pub fn parse(raw: &str) -> Result<Self, AddressError> {
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name, true).ok_or(AddressError::InvalidUri)?;
            let value = decode(value, true).ok_or(AddressError::InvalidUri)?;
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// Is the parameter present, with or without a value? Names are case-sensitive.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All pairs in order of arrival.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Names in order of arrival.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a parameter.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Takes out every parameter for which `take` holds.
    pub fn extract(&mut self, take: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        if !self.0.iter().any(|(name, _)| take(name)) {
            return Vec::new();
        }
        let (taken, kept) = std::mem::take(&mut self.0).into_iter().partition(|(n, _)| take(n));
        self.0 = kept;
        taken
    }

    /// Canonical form: encoded, sorted, `name=value` throughout. Empty when there is none.
    pub fn canonical(&self) -> String {
        let mut encoded: Vec<(String, String)> = self
            .0
            .iter()
            .map(|(name, value)| {
                let (mut n, mut v) = (String::new(), String::new());
                encode_into(&mut n, name.as_bytes(), false);
                encode_into(&mut v, value.as_bytes(), false);
                (n, v)
            })
            .collect();
        encoded.sort();
        let mut out = String::new();
        for (at, (name, value)) in encoded.iter().enumerate() {
            let separator = if at == 0 { "" } else { "&" };
            // Writing to a String cannot fail.
            write!(out, "{separator}{name}={value}").unwrap_or_default();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(host: &str, path: &str) -> Result<Address, AddressError> {
        Address::parse(host, path, None, &["localhost".into(), "s3.localhost".into()])
    }

    #[test]
    fn path_style_keeps_every_byte_of_the_key() {
        for (path, key) in [
            ("/b/k", "k"),
            ("/b//k", "/k"),
            ("/b/a//b", "a//b"),
            ("/b/./c/../d", "./c/../d"),
            ("/b/%2Fx", "/x"),
            ("/b/a+b%20c", "a+b c"),
            ("/b/dir/", "dir/"),
        ] {
            let address = parse("localhost:8080", path).unwrap();
            assert_eq!(address.bucket.as_deref(), Some("b"));
            assert_eq!(address.key.as_deref(), Some(key), "{path}");
        }
    }

    #[test]
    fn bucket_and_service_levels_have_no_key() {
        assert_eq!(parse("h", "/").unwrap().bucket, None);
        let bucket = parse("h", "/b/").unwrap();
        assert_eq!((bucket.bucket.as_deref(), bucket.key), (Some("b"), None));
        assert_eq!(parse("h", "//k"), Err(AddressError::InvalidBucketName));
        assert_eq!(parse("h", "/b%2Fk"), Err(AddressError::InvalidBucketName));
        assert_eq!(parse("a/b.localhost", "/k"), Err(AddressError::InvalidBucketName));
    }

    #[test]
    fn virtual_hosted_style_takes_the_longest_domain() {
        let address = parse("My-B.s3.localhost:8080", "/a/b").unwrap();
        assert_eq!(address.bucket.as_deref(), Some("my-b"));
        assert_eq!(address.key.as_deref(), Some("a/b"));
        assert_eq!(address.path(), "/my-b/a/b");
    }

    #[test]
    fn a_key_longer_than_the_limit_is_refused() {
        let long = format!("/b/{}", "k".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(parse("h", &long), Err(AddressError::KeyTooLong));
    }

    #[test]
    fn canonical_query_is_sorted_encoded_and_complete() {
        let query = Query::parse("uploads&prefix=a+b%2Fü&Z=1").unwrap();
        assert_eq!(query.canonical(), "Z=1&prefix=a%20b%2F%C3%BC&uploads=");
        assert!(query.has("uploads"));
        assert_eq!(Query::parse("a=%FF"), Err(AddressError::InvalidUri));
    }
}

//! What a client may do: pure rules over bucket and key.

/// What a request does to what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It looks.
    Read,
    /// It changes something.
    Write,
}

/// One permission: some buckets, there some prefixes of keys, to read, write or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    bucket: BucketPattern,
    /// Empty: every key, and the bucket itself.
    prefixes: Vec<String>,
    read: bool,
    write: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum BucketPattern {
    Exactly(String),
    /// Every bucket whose name begins so; all of them if it is empty.
    StartsWith(String),
}

impl Grant {
    /// A grant for `bucket`: a name, `*`, or the beginning of names followed by `*`.
    ///
    /// `None` if the pattern is empty or has a `*` elsewhere.
    pub fn new(bucket: &str, prefixes: Vec<String>, read: bool, write: bool) -> Option<Self> {
        let (name, is_prefix) = match bucket.strip_suffix('*') {
            Some(name) => (name, true),
            None => (bucket, false),
        };
        if bucket.is_empty() || name.contains('*') {
            return None;
        }
        let name = name.to_owned();
        let bucket =
            if is_prefix { BucketPattern::StartsWith(name) } else { BucketPattern::Exactly(name) };
        Some(Self { bucket, prefixes, read, write })
    }

    /// Whether anything may be changed by it.
    pub(super) fn writes(&self) -> bool {
        self.write
    }

    /// Whether this grant covers a request.
    ///
    /// - `bucket: None` is a request to the service, that is `ListBuckets`: it shows every bucket,
    ///   so the grant must cover every bucket as a whole.
    /// - `key: None` is a request to the bucket as a whole (its policy, its removal): a grant
    ///   limited to prefixes does not cover it. For a listing, the caller passes the `prefix`
    ///   parameter as `key`; what begins with a granted prefix shows only granted keys.
    pub fn allows(&self, access: Access, bucket: Option<&str>, key: Option<&str>) -> bool {
        let has_access = match access {
            Access::Read => self.read,
            Access::Write => self.write,
        };
        let covers_bucket = match (&self.bucket, bucket) {
            (BucketPattern::Exactly(name), Some(bucket)) => name == bucket,
            (BucketPattern::StartsWith(start), Some(bucket)) => bucket.starts_with(start),
            (BucketPattern::StartsWith(start), None) => start.is_empty(),
            (BucketPattern::Exactly(_), None) => false,
        };
        let covers_key = self.prefixes.is_empty()
            || key.is_some_and(|key| self.prefixes.iter().any(|prefix| key.starts_with(prefix)));
        has_access && covers_bucket && covers_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(bucket: &str, prefixes: &[&str]) -> Grant {
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        Grant::new(bucket, prefixes, true, false).unwrap()
    }

    #[test]
    fn bucket_patterns_are_names_or_beginnings() {
        let read = |pattern, bucket| grant(pattern, &[]).allows(Access::Read, bucket, None);
        assert!(read("a", Some("a")) && !read("a", Some("ab")) && !read("a", None));
        assert!(read("a*", Some("a")) && read("a*", Some("ab")) && !read("a*", Some("b")));
        assert!(!read("a*", None) && read("*", None) && read("*", Some("b")));
        for pattern in ["", "a*b", "**", "*a"] {
            assert_eq!(Grant::new(pattern, Vec::new(), true, true), None, "{pattern}");
        }
    }

    #[test]
    fn a_prefix_covers_keys_and_listings_below_it_and_not_the_bucket() {
        let grant = grant("*", &["a/", "b"]);
        let read = |key| grant.allows(Access::Read, Some("x"), key);
        assert!(read(Some("a/")) && read(Some("a/1")) && read(Some("bc")));
        assert!(!read(Some("a")) && !read(Some("c")) && !read(Some("")) && !read(None));
        assert!(!grant.allows(Access::Read, None, None));
    }

    #[test]
    fn reading_is_not_writing() {
        let grant = grant("*", &[]);
        assert!(grant.allows(Access::Read, Some("x"), Some("k")));
        assert!(!grant.allows(Access::Write, Some("x"), Some("k")));
    }
}

//! Bringing a request into the form one service takes: pure, applied to every request to it right
//! before it is signed.
//!
//! What concerns bodies is decided earlier, by whoever makes the body, and asked for here
//! ([`Quirks::has`]): a checksum that is not sent has to be checked on the way.

use std::borrow::Cow;

use http::header::{HeaderName, HeaderValue};

use crate::config::{Quirk, Quirks};

/// Does the service refuse this header?
pub(super) fn refuses(quirks: Quirks, name: &HeaderName) -> bool {
    quirks.has(Quirk::NoChecksums) && is_checksum(name)
}

fn is_checksum(name: &HeaderName) -> bool {
    // x-amz-checksum-crc32 and the like, -algorithm, -mode, -type.
    name.as_str().starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm"
}

/// `Host` and path for a canonical path-style path at this host.
///
/// Only the `Host` header names the bucket: the connection, and with TLS the certificate, is that
/// of the endpoint, as wildcard names of S3 services all lead to it. Buckets whose names cannot be
/// part of a host name stay in the path.
pub(super) fn address<'p>(
    quirks: Quirks,
    host: &HeaderValue,
    path: &'p str,
) -> (HeaderValue, Cow<'p, str>) {
    let unchanged = || (host.clone(), Cow::Borrowed(path));
    if !quirks.has(Quirk::VirtualHosted) {
        return unchanged();
    }
    let rest = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let Ok(host) = host.to_str() else { return unchanged() };
    if !is_label(bucket) {
        return unchanged();
    }
    match HeaderValue::try_from(format!("{bucket}.{host}")) {
        Ok(host) => (host, Cow::Owned(format!("/{key}"))),
        Err(_) => unchanged(),
    }
}

/// Can a bucket's name be a part of a host name? Dots are left out: no wildcard certificate
/// covers them.
fn is_label(bucket: &str) -> bool {
    (1..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !bucket.starts_with('-')
        && !bucket.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quirks(text: &str) -> Quirks {
        Quirks::parse(text).unwrap()
    }

    #[test]
    fn checksum_headers_go_where_they_are_refused_and_nothing_else_does() {
        let left = |service: &str| {
            let names = [
                "x-amz-checksum-crc32",
                "x-amz-checksum-mode",
                "x-amz-checksum-algorithm",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-meta-checksum",
                "content-md5",
            ];
            let kept = |name: &&str| !refuses(quirks(service), &name.parse().unwrap());
            names.into_iter().filter(kept).collect::<Vec<_>>()
        };
        assert_eq!(left("aws").len(), 6);
        assert_eq!(left("b2"), ["x-amz-meta-checksum", "content-md5"]);
    }

    #[test]
    fn the_bucket_goes_into_the_host_where_it_can() {
        let host = HeaderValue::from_static("s3.example:9000");
        let of = |path| {
            let (host, path) = address(quirks("virtual-hosted"), &host, path);
            (host.to_str().unwrap().to_owned(), path.into_owned())
        };
        let at = |host: &str, path: &str| (host.to_owned(), path.to_owned());
        assert_eq!(of("/b-1/a/%2F"), at("b-1.s3.example:9000", "/a/%2F"));
        assert_eq!(of("/b/"), at("b.s3.example:9000", "/"));
        assert_eq!(of("/b"), at("b.s3.example:9000", "/"));
        assert_eq!(of("/b//k"), at("b.s3.example:9000", "//k"));
        for path in ["/", "/Upper/k", "/a.b/k", "/under_score/k", "/%20/k", "/-b/k"] {
            assert_eq!(of(path), at("s3.example:9000", path));
        }
        let plain = address(quirks("aws"), &host, "/b/k");
        assert_eq!(plain, (host.clone(), Cow::Borrowed("/b/k")));
    }
}

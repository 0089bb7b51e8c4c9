//! A client's request in the form in which it goes upstream: pure.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};

use super::error::S3Error;
use crate::s3::address::Address;
use crate::s3::chunked::PayloadMode;
use crate::s3::headers::{
    connection_tokens, is_auth_parameter, is_presigned_checksum, replicated, signed,
};

/// Strips what `Connection` names, but for what says what is asked for: the client's signature may cover it,
/// and whoever holds a presigned URL must not take it out. What is stripped from every request is left to who writes it
/// ([`stripped_from_request`](crate::s3::headers::stripped_from_request)): to take a header out costs more than
/// to pass it by.
pub(super) fn headers(headers: &mut HeaderMap) -> Result<(), S3Error> {
    let tokens = connection_tokens(headers);
    let means = |token: &&String| {
        HeaderName::try_from(token.as_str()).is_ok_and(|name| signed(&name) || replicated(&name))
    };
    if let Some(token) = tokens.iter().find(means) {
        return Err(S3Error::invalid_request(format!(
            "The Connection header must not name {token}."
        )));
    }
    for token in tokens {
        headers.remove(token.as_str());
    }
    Ok(())
}

/// Takes the client's signature out of the query. Parameters of a presigned URL that stand for
/// headers become headers, except checksums, which SDKs presign over an empty body. Yields the hash that
/// the body was presigned with, if it was.
pub(super) fn presigned(
    address: &mut Address,
    headers: &mut HeaderMap,
) -> Result<Option<[u8; 32]>, S3Error> {
    const MARKS: [&str; 4] = ["x-amz-signature", "x-amz-credential", "awsaccesskeyid", "signature"];
    let query = &mut address.query;
    let marked = query.names().any(|name| MARKS.iter().any(|mark| name.eq_ignore_ascii_case(mark)));
    if !marked {
        return Ok(None);
    }
    let hash = query
        .extract(is_auth_parameter)
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-amz-content-sha256"))
        .and_then(|(_, value)| match PayloadMode::parse(&value) {
            Ok(PayloadMode::Hex(hash)) => Some(hash),
            _ => None,
        });
    for (name, value) in query.extract(|name| name.to_ascii_lowercase().starts_with("x-amz-")) {
        if is_presigned_checksum(&name) {
            continue;
        }
        let unusable = |()| {
            S3Error::new(
                http::StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "A query parameter of the presigned URL cannot be sent as a header.",
            )
        };
        let header = HeaderName::try_from(name.to_ascii_lowercase()).map_err(|_| unusable(()))?;
        let value = HeaderValue::try_from(value).map_err(|_| unusable(()))?;
        match headers.get(&header) {
            Some(present) if present != value => return Err(unusable(())),
            Some(_) => {}
            None => {
                headers.insert(header, value);
            }
        }
    }
    Ok(hash)
}

/// What is said of the body: by the headers, and by the URL if it was presigned with a hash of it.
pub(super) fn payload(said: PayloadMode, hash: Option<[u8; 32]>) -> Result<PayloadMode, S3Error> {
    match (said, hash) {
        (PayloadMode::Absent | PayloadMode::Unsigned, Some(hash)) => Ok(PayloadMode::Hex(hash)),
        (PayloadMode::Hex(said), Some(hash)) if said != hash => Err(S3Error::new(
            http::StatusCode::BAD_REQUEST,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header is not what the URL was presigned with.",
        )),
        (said, _) => Ok(said),
    }
}

/// The announced length of a plain body.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, S3Error> {
    headers
        .get(CONTENT_LENGTH)
        .map(|value| {
            value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                S3Error::new(
                    http::StatusCode::BAD_REQUEST,
                    "InvalidArgument",
                    "The Content-Length header is not a number.",
                )
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_goes_and_everything_else_stays() {
        let mut request = map(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("range", "bytes=0-1"),
            ("x-amz-meta-a", "1"),
        ]);
        headers(&mut request).unwrap();
        let mut names: Vec<_> = request.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "range", "x-amz-meta-a"]);
    }

    #[test]
    fn a_connection_header_cannot_strip_what_is_asked_for() {
        for name in ["x-amz-meta-a", "If-None-Match", "range", "content-type", "content-md5"] {
            assert!(headers(&mut map(&[("connection", name)])).is_err(), "{name}");
        }
    }

    #[test]
    fn a_hash_that_a_url_was_presigned_with_is_that_of_the_body() {
        let (hash, other) = ([1; 32], [2; 32]);
        assert_eq!(payload(PayloadMode::Unsigned, Some(hash)).unwrap(), PayloadMode::Hex(hash));
        assert_eq!(payload(PayloadMode::Absent, None).unwrap(), PayloadMode::Absent);
        assert_eq!(payload(PayloadMode::Hex(hash), Some(hash)).unwrap(), PayloadMode::Hex(hash));
        assert!(payload(PayloadMode::Hex(other), Some(hash)).is_err());
    }

    #[test]
    fn a_presigned_url_loses_its_signature_and_keeps_its_meaning() {
        let query = "X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=1\
            &X-Amz-SignedHeaders=host&X-Amz-Signature=s&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD\
            &x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-acl=private&response-expires=never&x-id=PutObject";
        let mut address = Address::parse("h", "/b/k", Some(query), &[]).unwrap();
        let mut headers = HeaderMap::new();
        presigned(&mut address, &mut headers).unwrap();
        assert_eq!(address.query.canonical(), "response-expires=never&x-id=PutObject");
        assert_eq!(headers["x-amz-acl"], "private");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_sigv2_url_loses_its_parameters_too() {
        let query = "AWSAccessKeyId=a&Signature=s&Expires=1&versionId=v";
        let mut address = Address::parse("h", "/b/k", Some(query), &[]).unwrap();
        presigned(&mut address, &mut HeaderMap::new()).unwrap();
        assert_eq!(address.query.canonical(), "versionId=v");
    }
}

//! Which headers go where.
//!
//! Hop-by-hop headers, the client's credentials and everything that the re-signed request
//! replaces are stripped; all else is forwarded. Unknown `x-amz-*` headers are forwarded *and*
//! signed, because servers refuse unsigned ones and new ones appear without warning.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Most headers accepted in one request or response. 2 KB of user metadata can be hundreds of
/// headers, far more than the 100 that HTTP libraries take by default.
pub const HEADERS_MAX: usize = 1000;

/// Is this header stripped from what the client sent?
pub fn stripped_from_request(name: &HeaderName) -> bool {
    if hop_by_hop(name) {
        return true;
    }
    match *name {
        header::AUTHORIZATION
        | header::HOST
        | header::DATE
        | header::EXPECT
        | header::CONTENT_LENGTH
        | header::COOKIE
        | header::FORWARDED => true,
        _ => {
            matches!(
                name.as_str(),
                "x-amz-date"
                    | "x-amz-security-token"
                    | "x-amz-s3session-token"
                    | "x-amz-content-sha256"
                    | "x-real-ip"
                    | "amz-sdk-invocation-id"
                    | "amz-sdk-request"
            ) || name.as_str().starts_with("x-forwarded-")
        }
    }
}

/// Is this header meaningful for one connection only (RFC 9110, 7.6.1)?
pub fn hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// The first value of a header by its lower-case name. Requests have few headers: looking at each is
/// cheaper than to hash a name, above all for headers that are hardly ever there.
pub fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    find_all(headers, name).next()
}

/// Every value of a header by its lower-case name, found like the first.
pub fn find_all<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h HeaderValue> {
    headers.iter().filter(move |(known, _)| known.as_str() == name).map(|(_, value)| value)
}

/// Headers named in `Connection`, lower-case; they are hop-by-hop for this request too.
pub fn connection_tokens(headers: &HeaderMap) -> Vec<String> {
    find_all(headers, header::CONNECTION.as_str())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty() && token != "close" && token != "keep-alive")
        .collect()
}

/// Is this header covered by our signature? Intermediaries rewrite the others
/// (`Accept-Encoding` at GCS, `Content-Length: 0` at Traefik), which would break it.
pub fn signed(name: &HeaderName) -> bool {
    match *name {
        header::CONTENT_TYPE
        | header::RANGE
        | header::IF_MATCH
        | header::IF_NONE_MATCH
        | header::IF_MODIFIED_SINCE
        | header::IF_UNMODIFIED_SINCE => true,
        _ => name == "content-md5" || name.as_str().starts_with("x-amz-"),
    }
}

/// Does this header belong to an object and therefore to its mirror copy?
pub fn replicated(name: &HeaderName) -> bool {
    match *name {
        header::CONTENT_TYPE
        | header::CONTENT_ENCODING
        | header::CONTENT_LANGUAGE
        | header::CONTENT_DISPOSITION
        | header::CACHE_CONTROL
        | header::EXPIRES => true,
        _ => name == "x-amz-website-redirect-location" || name.as_str().starts_with("x-amz-meta-"),
    }
}

/// Query parameters that carry the client's signature, in any version and case.
pub fn is_auth_parameter(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
        "x-amz-content-sha256",
        "awsaccesskeyid",
        "signature",
        "expires",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Checksum parameters that SDKs presign over an empty body; they must not become headers.
pub fn is_presigned_checksum(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "x-amz-sdk-checksum-algorithm" || name.starts_with("x-amz-checksum-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_amz_header_that_is_forwarded_is_signed() {
        let name = HeaderName::from_static("x-amz-invented-yesterday");
        assert!(signed(&name) && !stripped_from_request(&name));
    }

    #[test]
    fn identity_and_connection_are_stripped_and_everything_else_is_not() {
        for name in [
            "authorization",
            "amz-sdk-invocation-id",
            "amz-sdk-request",
            "connection",
            "content-length",
            "cookie",
            "date",
            "expect",
            "forwarded",
            "host",
            "keep-alive",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-security-token",
            "x-forwarded-for",
        ] {
            assert!(stripped_from_request(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["range", "x-amz-meta-a", "x-amz-new", "user-agent", "x-amz-trailer"] {
            assert!(!stripped_from_request(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn presigned_parameters_match_in_any_case() {
        assert!(is_auth_parameter("X-Amz-Signature") && is_auth_parameter("Expires"));
        assert!(!is_auth_parameter("versionId") && !is_auth_parameter("response-expires"));
    }
}

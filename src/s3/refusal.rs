//! What an error answer of S3 says about asking again. Pure.

/// Codes by which a service refuses the signature of who asks: its keys, its clock, its region. They get
/// mended, and then everything goes through by itself.
const SIGNATURE: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
];

/// Is it the signature that is refused, and not the request?
pub fn is_about_signature(code: &str) -> bool {
    SIGNATURE.contains(&code)
}

/// Can asking again not help? `code` is empty where the answer had no document: `HEAD` has none, and
/// whoever answers 400 without one is no S3.
pub fn is_permanent(status: u16, code: &str) -> bool {
    match (status, code) {
        // The object is in an archive class and cannot be read before it is restored.
        (_, "InvalidObjectState") => true,
        // Credentials and policies get mended, conflicts pass; then every key must go through
        // by itself.
        (401 | 403 | 404 | 408 | 409 | 412 | 425 | 429, _)
        | (400, "")
        | (_, "RequestTimeout" | "IncompleteBody" | "BadDigest") => false,
        (_, code) if is_about_signature(code) => false,
        _ => matches!(status, 400..=499 | 501 | 505),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_mends_elsewhere_is_not_the_fault_of_the_request() {
        for (status, code) in [
            (400, "ExpiredToken"),
            (400, "AuthorizationHeaderMalformed"),
            (400, ""),
            (403, "AccessDenied"),
            (404, "NoSuchBucket"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "SlowDown"),
            (400, "RequestTimeout"),
        ] {
            assert!(!is_permanent(status, code), "{status} {code}");
        }
        for (status, code) in [
            (400, "InvalidRequest"),
            (400, "KeyTooLongError"),
            (403, "InvalidObjectState"),
            (405, ""),
            (501, "NotImplemented"),
        ] {
            assert!(is_permanent(status, code), "{status} {code}");
        }
    }
}

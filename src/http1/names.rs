//! The names of headers that nearly every message to or from an S3 service has.

use http::header::{self, HeaderName};

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");
const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const X_AMZ_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// The name that is written like this, if it is one of the usual ones in a usual spelling. To compare a
/// few bytes is much cheaper than to take any name: each byte is looked up, and names that HTTP does
/// not define are copied.
pub(super) fn usual(name: &str) -> Option<HeaderName> {
    // The length alone excludes nearly all.
    Some(match (name.len(), name) {
        (4, "Host" | "host") => header::HOST,
        (4, "ETag" | "etag" | "Etag") => header::ETAG,
        (4, "Date" | "date") => header::DATE,
        (6, "Accept" | "accept") => header::ACCEPT,
        (6, "Server" | "server") => header::SERVER,
        (10, "Connection" | "connection") => header::CONNECTION,
        (10, "User-Agent" | "user-agent") => header::USER_AGENT,
        (10, "X-Amz-Date" | "x-amz-date") => X_AMZ_DATE,
        (10, "x-amz-id-2") => X_AMZ_ID_2,
        (12, "Content-Type" | "content-type") => header::CONTENT_TYPE,
        (13, "Authorization" | "authorization") => header::AUTHORIZATION,
        (13, "Last-Modified" | "last-modified") => header::LAST_MODIFIED,
        (13, "Accept-Ranges" | "accept-ranges") => header::ACCEPT_RANGES,
        (14, "Content-Length" | "content-length") => header::CONTENT_LENGTH,
        (15, "Accept-Encoding" | "accept-encoding") => header::ACCEPT_ENCODING,
        (16, "x-amz-request-id") => X_AMZ_REQUEST_ID,
        (16, "x-amz-version-id") => X_AMZ_VERSION_ID,
        (20, "X-Amz-Content-SHA256" | "x-amz-content-sha256") => X_AMZ_CONTENT_SHA256,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_is_the_one_it_would_be_taken_for() {
        let spelled = [
            "Host",
            "host",
            "ETag",
            "Etag",
            "etag",
            "Date",
            "date",
            "Accept",
            "accept",
            "Server",
            "server",
            "Connection",
            "connection",
            "User-Agent",
            "user-agent",
            "X-Amz-Date",
            "x-amz-date",
            "x-amz-id-2",
            "Content-Type",
            "content-type",
            "Authorization",
            "authorization",
            "Last-Modified",
            "last-modified",
            "Accept-Ranges",
            "accept-ranges",
            "Content-Length",
            "content-length",
            "Accept-Encoding",
            "accept-encoding",
            "x-amz-request-id",
            "x-amz-version-id",
            "X-Amz-Content-SHA256",
            "x-amz-content-sha256",
        ];
        for name in spelled {
            assert_eq!(usual(name), Some(name.parse().unwrap()), "{name}");
        }
        for name in ["", "HOST", "hosts", "x-amz-meta-a", "transfer-encoding"] {
            assert_eq!(usual(name), None, "{name}");
        }
    }
}

//! Presigned URLs.

use super::*;

#[test]
fn a_url_is_good_until_it_expires_and_not_long_before_it_was_made() {
    let request = Request::new("GET", "/b/k").presigned(600);
    for now in ["20130523T234500Z", NOW, "20130524T001000Z"] {
        assert!(request.verified(&authenticator(), now).is_ok(), "{now}");
    }
    for (now, message) in [
        ("20130523T234459Z", "Request is not valid yet"),
        ("20130524T001001Z", "Request has expired"),
    ] {
        let error = request.verified(&authenticator(), now).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("AccessDenied", 403));
        assert_eq!(error.message(), message);
    }
}

#[test]
fn overrides_versions_and_odd_keys_are_bound_by_the_signature() {
    let target =
        "/b/a%20b%2F%2B%C3%BC//?response-content-type=text%2Fplain&versionId=null&x-id=GetObject";
    let request = Request::new("GET", target).presigned(60);
    assert_eq!(request.code(), ("ok", 200));
    let query = request.query.clone().unwrap();
    for changed in [
        query.replace("text%2Fplain", "text%2Fhtml"),
        query.replace("versionId=null", "versionId=other"),
        format!("{query}&response-expires=0"),
        format!("{query}&acl"),
        query.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
    ] {
        let mut other = request.clone();
        other.query = Some(changed);
        assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
    }
    let mut reversed: Vec<&str> = query.split('&').collect();
    reversed.reverse();
    let mut other = request.clone();
    other.query = Some(reversed.join("&"));
    assert_eq!(other.code(), ("ok", 200));
}

#[test]
fn validity_is_between_a_second_and_a_week() {
    let week = Request::new("GET", "/b/k").presigned(EXPIRES_SECONDS_MAX);
    assert!(week.verified(&authenticator(), "20130530T235959Z").is_ok());
    let query = week.query.clone().unwrap();
    for seconds in ["604801", "0", "-1", "", "x", "99999999999999999999"] {
        let mut other = week.clone();
        other.query = Some(query.replace("=604800", &format!("={seconds}")));
        assert_eq!(other.code(), ("AuthorizationQueryParametersError", 400), "{seconds}");
    }
}

#[test]
fn every_parameter_must_be_there_once() {
    let request = Request::new("GET", "/b/k").presigned(60);
    let query = request.query.clone().unwrap();
    let parameters: Vec<&str> = query.split('&').collect();
    assert_eq!(parameters.len(), 6);
    for left_out in &parameters {
        let rest: Vec<&str> = parameters.iter().filter(|one| *one != left_out).copied().collect();
        for query in [rest.join("&"), format!("{query}&{left_out}")] {
            let mut other = request.clone();
            other.query = Some(query);
            assert_eq!(other.code(), ("AuthorizationQueryParametersError", 400), "{left_out}");
        }
    }
    // In another letter case it is the same parameter.
    let mut other = request;
    other.query = Some(format!("{query}&x-amz-signature=0"));
    assert_eq!(other.code(), ("AuthorizationQueryParametersError", 400));
}

#[test]
fn headers_that_change_the_request_must_be_signed_here_too() {
    let request = Request::new("PUT", "/b/k").header("x-amz-acl", "private").presigned(60);
    assert_eq!(request.code(), ("ok", 200));
    let other = request.header("x-amz-copy-source", "b/secret");
    let error = other.verified(&authenticator(), NOW).unwrap_err();
    assert_eq!(error.elements(), [("HeadersNotSigned", "x-amz-copy-source".to_owned())]);
}

#[test]
fn the_payload_is_unsigned_unless_a_hash_is_given_and_never_streaming() {
    let request = Request::new("PUT", "/b/k").presigned(60);
    let identity = request.verified(&authenticator(), NOW).unwrap();
    assert_eq!(identity.payload(), PayloadMode::Unsigned);
    // The SDK for JavaScript puts this into the query.
    let explicit = Request::new("PUT", "/b/k?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD").presigned(60);
    assert_eq!(explicit.code(), ("ok", 200));
    let streaming = "/b/k?X-Amz-Content-Sha256=STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    assert_eq!(Request::new("PUT", streaming).presigned(60).code(), ("InvalidRequest", 400));
    let header = request.header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert_eq!(header.code(), ("InvalidRequest", 400));
}

#[test]
fn sigv4a_urls_are_not_implemented() {
    let target = "/b/k?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Signature=00";
    assert_eq!(Request::new("GET", target).code(), ("NotImplemented", 501));
}

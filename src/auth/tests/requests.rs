//! Requests signed in their `Authorization` header.

use super::*;

#[test]
fn every_spelling_of_a_key_verifies() {
    for path in [
        "/",
        "/bucket",
        "/bucket/",
        "/bucket/key",
        "//bucket//key",
        "/bucket//a///b/",
        "/bucket/./c/../d",
        "/bucket/a%2Fb",
        "/bucket/a%2fb",
        "/bucket/a+b",
        "/bucket/a%2Bb",
        "/bucket/a%20b",
        "/bucket/%25",
        "/bucket/100%",
        "/bucket/!*'(),:@=$&;~",
        "/bucket/%21%2A%27%28%29",
        "/bucket/%C3%BC%E2%82%AC",
        "/bucket/\u{fc}",
        "/bucket/%FF%FE",
    ] {
        let request = Request::new("PUT", path).signed();
        assert_eq!(request.code(), ("ok", 200), "{path}");
        let mut other = request.clone();
        other.path.push('x');
        assert_eq!(other.code(), ("SignatureDoesNotMatch", 403), "{path}");
    }
}

#[test]
fn a_path_signed_in_canonical_form_may_be_sent_raw() {
    for (signed, sent) in [
        ("/b/a%2Bb", "/b/a+b"),
        ("/b/%C3%BC", "/b/\u{fc}"),
        ("/b/%C3%BC", "/b/%c3%bc"),
        ("/b/a/b", "/b/a%2Fb"),
    ] {
        let mut request = Request::new("GET", signed).signed();
        request.path = sent.to_owned();
        assert_eq!(request.code(), ("ok", 200), "{sent}");
    }
    // A literal plus in a path is no blank.
    let mut request = Request::new("GET", "/b/a%20b").signed();
    request.path = "/b/a+b".to_owned();
    assert_eq!(request.code(), ("SignatureDoesNotMatch", 403));
}

#[test]
fn the_order_of_the_query_does_not_matter_and_its_content_does() {
    let mut request = Request::new("GET", "/b?list-type=2&prefix=a%2Fb&delimiter=%2F&a").signed();
    request.query = Some("a=&delimiter=/&prefix=a/b&list-type=2".to_owned());
    assert_eq!(request.code(), ("ok", 200));
    for query in ["list-type=2&prefix=a/b&delimiter=/", "a=&delimiter=/&prefix=a&list-type=2"] {
        request.query = Some(query.to_owned());
        assert_eq!(request.code(), ("SignatureDoesNotMatch", 403), "{query}");
    }
    request.query = None;
    assert_eq!(request.code(), ("SignatureDoesNotMatch", 403));
}

#[test]
fn method_host_and_signed_headers_are_bound() {
    let request = Request::new("PUT", "/b/k").header("x-amz-meta-a", "x   y").signed();
    assert_eq!(request.code(), ("ok", 200));
    let mut other = request.clone();
    other.method = "DELETE";
    assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
    let mut other = request.clone();
    other.host = "elsewhere.example:8080".to_owned();
    assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
    let mut other = request.clone();
    other.headers.insert("x-amz-meta-a", HeaderValue::from_static("z"));
    assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
    let mut other = request.clone();
    other.headers.remove("x-amz-meta-a");
    assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
    let mut other = request;
    other.headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    );
    assert_eq!(other.code(), ("SignatureDoesNotMatch", 403));
}

/// GHSA-xm99-m3gq-83g8, CVE-2026-54330: one captured `PutObject` must not become a copy or an ACL
/// change.
#[test]
fn a_header_that_changes_the_request_must_be_signed() {
    let request = Request::new("PUT", "/b/k").signed();
    assert_eq!(request.clone().header("content-type", "text/plain").code(), ("ok", 200));
    for name in ["x-amz-copy-source", "x-amz-acl", "x-amz-not-yet-invented", "x-minio-force-delete"]
    {
        let other = request.clone().header(name, "value");
        let error = other.verified(&authenticator(), NOW).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("AccessDenied", 403));
        assert_eq!(error.elements(), [("HeadersNotSigned", name.to_owned())]);
    }
}

#[test]
fn the_host_must_be_signed_and_no_header_twice() {
    let mut request = Request::new("GET", "/b/k").signed();
    let replace = |request: &mut Request, from: &str, to: &str| {
        let value = request.headers["authorization"].to_str().unwrap().replace(from, to);
        request.headers.insert("authorization", value.parse().unwrap());
    };
    replace(&mut request, "SignedHeaders=host;", "SignedHeaders=");
    let error = request.verified(&authenticator(), NOW).unwrap_err();
    assert_eq!(error.elements(), [("HeadersNotSigned", "host".to_owned())]);
    replace(&mut request, "SignedHeaders=", "SignedHeaders=host;host;");
    assert_eq!(request.code(), ("AuthorizationHeaderMalformed", 400));
    // The same header, as it is looked up: a long one would be hashed for every way to write it.
    replace(&mut request, "SignedHeaders=host;host;", "SignedHeaders=host;range;Range;rAnge;");
    assert_eq!(request.code(), ("AuthorizationHeaderMalformed", 400));
}

#[test]
fn wrong_secret_unknown_key_and_no_credentials_have_their_codes() {
    let request = Request::new("GET", "/b/k");
    assert_eq!(request.code(), ("AccessDenied", 403));
    let forged = request.clone().signed_with("guess", NOW, "us-east-1", "UNSIGNED-PAYLOAD");
    assert_eq!(forged.code(), ("SignatureDoesNotMatch", 403));
    let stranger = authenticator_with("x", None);
    let text = r#"[{"access_key_id": "else", "secret_access_key": "s",
                    "buckets": [{"bucket": "*", "access": "read"}]}]"#;
    stranger.replace(Credentials::parse(text.as_bytes()).unwrap());
    let error = request.signed().verified(&stranger, NOW).unwrap_err();
    assert_eq!((error.s3_code(), error.status()), ("InvalidAccessKeyId", 403));
}

#[test]
fn fifteen_minutes_of_skew_are_allowed_both_ways() {
    let request = Request::new("GET", "/b/k").signed_with(
        SECRET,
        "20130524T120000Z",
        "r",
        "UNSIGNED-PAYLOAD",
    );
    for now in ["20130524T114500Z", "20130524T121500Z"] {
        assert!(request.verified(&authenticator(), now).is_ok(), "{now}");
    }
    for now in ["20130524T114459Z", "20130524T121501Z", "20130525T120000Z", "19700101T000000Z"] {
        let error = request.verified(&authenticator(), now).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("RequestTimeTooSkewed", 403));
        let elements = error.elements();
        assert!(elements.contains(&("RequestTime", "20130524T120000Z".to_owned())));
        assert!(elements.contains(&("MaxAllowedSkewMilliseconds", "900000".to_owned())));
    }
}

#[test]
fn a_request_just_before_midnight_is_good_just_after() {
    let request = Request::new("GET", "/b/k").signed_with(
        SECRET,
        "20130524T235959Z",
        "r",
        "UNSIGNED-PAYLOAD",
    );
    assert!(request.verified(&authenticator(), "20130525T000500Z").is_ok());
}

#[test]
fn the_region_matters_only_where_one_is_configured() {
    let request = Request::new("GET", "/b/k").signed_with(SECRET, NOW, "auto", "UNSIGNED-PAYLOAD");
    assert!(request.verified(&authenticator(), NOW).is_ok());
    assert!(request.verified(&authenticator_with(SECRET, Some("auto")), NOW).is_ok());
    let error = request.verified(&authenticator_with(SECRET, Some("eu-west-1")), NOW).unwrap_err();
    assert_eq!(error.s3_code(), "AuthorizationHeaderMalformed");
    assert_eq!(error.elements(), [("Region", "eu-west-1".to_owned())]);
}

#[test]
fn old_new_and_foreign_mechanisms_are_answered_in_their_own_way() {
    let with = |value: &str| Request::new("GET", "/b/k").header("authorization", value).code();
    assert_eq!(
        with("AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg="),
        ("InvalidRequest", 400)
    );
    assert_eq!(with("AWS4-ECDSA-P256-SHA256 Credential=x"), ("NotImplemented", 501));
    for value in ["", "Basic dXNlcjpwYXNz", "Bearer x", "aws4-hmac-sha256 Credential=x"] {
        assert_eq!(with(value), ("InvalidArgument", 400), "{value}");
    }
    let good = Request::new("GET", "/b/k").signed();
    assert_eq!(good.clone().header("authorization", "AWS a:b").code(), ("InvalidArgument", 400));
    let mut both = good;
    both.query = Some("X-Amz-Signature=0".to_owned());
    assert_eq!(both.code(), ("InvalidArgument", 400));
    let sigv2 = "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1";
    assert_eq!(Request::new("GET", sigv2).code(), ("InvalidRequest", 400));
}

#[test]
fn malformed_authorization_headers_never_get_through() {
    let credential = format!("Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request");
    let signature = format!("Signature={}", "0".repeat(64));
    for fields in [
        String::new(),
        ",".to_owned(),
        "Credential".to_owned(),
        credential.clone(),
        format!("{credential}, SignedHeaders=host"),
        format!("{credential}, {signature}"),
        format!("SignedHeaders=host, {signature}"),
        format!("{credential}, SignedHeaders=host, Signature=00"),
        format!("{credential}, SignedHeaders=host, {signature}, {signature}"),
        format!("{credential}, SignedHeaders=host, {signature}, More=1"),
        format!("{}, SignedHeaders=host, {signature}", credential.replace("s3", "sts")),
        format!("{}, SignedHeaders=host, {signature}", credential.replace("0524", "0525")),
    ] {
        let request = Request::new("GET", "/b/k")
            .header("authorization", &format!("AWS4-HMAC-SHA256 {fields}"))
            .header("x-amz-date", NOW)
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        assert_eq!(request.code(), ("AuthorizationHeaderMalformed", 400), "{fields}");
    }
}

#[test]
fn payload_hash_and_date_must_be_there_and_make_sense() {
    let good = Request::new("GET", "/b/k").signed();
    let without = |name: &str| {
        let mut request = good.clone();
        request.headers.remove(name);
        request.code()
    };
    assert_eq!(without("x-amz-content-sha256"), ("InvalidRequest", 400));
    assert_eq!(without("x-amz-date"), ("AccessDenied", 403));
    let with = |name: &'static str, value: &'static str| {
        let mut request = good.clone();
        request.headers.insert(name, HeaderValue::from_static(value));
        request.code()
    };
    assert_eq!(with("x-amz-content-sha256", "nonsense"), ("InvalidArgument", 400));
    assert_eq!(with("x-amz-date", "nonsense"), ("AccessDenied", 403));
}

#[test]
fn blanks_and_tabs_in_header_values_may_be_folded_either_way() {
    let mut request = Request::new("PUT", "/b/k").header("x-amz-meta-a", "a b").signed();
    request.headers.insert("x-amz-meta-a", HeaderValue::from_static("a \t b"));
    assert_eq!(request.code(), ("ok", 200));
    request.headers.insert("x-amz-meta-a", HeaderValue::from_static("ab"));
    assert_eq!(request.code(), ("SignatureDoesNotMatch", 403));
}

#[test]
fn only_signed_chunks_come_with_a_verifier() {
    for (payload, signed) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", true),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", false),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", false),
        ("UNSIGNED-PAYLOAD", false),
    ] {
        let request = Request::new("PUT", "/b/k").signed_with(SECRET, NOW, "r", payload);
        let identity = request.verified(&authenticator(), NOW).unwrap();
        assert_eq!(identity.chunk_verifier().is_some(), signed, "{payload}");
        assert_eq!(identity.payload(), PayloadMode::parse(payload).unwrap());
        assert_eq!((identity.access_key_id(), identity.kind()), (KEY_ID, Kind::Header));
    }
}

#[test]
fn a_replaced_secret_ends_the_old_one_at_once() {
    let authenticator = authenticator();
    let request = Request::new("GET", "/b/k").signed();
    assert!(request.verified(&authenticator, NOW).is_ok());
    assert!(request.verified(&authenticator, NOW).is_ok(), "with the key kept");
    let text = format!(
        r#"[{{"access_key_id": "{KEY_ID}", "secret_access_key": "other",
             "buckets": [{{"bucket": "b", "access": "read"}}]}}]"#
    );
    authenticator.replace(Credentials::parse(text.as_bytes()).unwrap());
    let error = request.verified(&authenticator, NOW).unwrap_err();
    assert_eq!(error.s3_code(), "SignatureDoesNotMatch");
    let request = Request::new("GET", "/b/k").signed_with("other", NOW, "r", "UNSIGNED-PAYLOAD");
    let identity = request.verified(&authenticator, NOW).unwrap();
    assert!(identity.may(Access::Read, Some("b"), Some("k")));
    assert!(!identity.may(Access::Write, Some("b"), Some("k")));
    assert!(!identity.may(Access::Read, Some("c"), Some("k")));
}

#[test]
fn nothing_secret_is_in_any_error_or_debug_text() {
    let request = Request::new("GET", "/b/k").signed();
    let authorization = request.headers["authorization"].to_str().unwrap().to_owned();
    let signature = authorization.rsplit('=').next().unwrap().to_owned();
    let identity = request.verified(&authenticator(), NOW).unwrap();
    let mut forged = request.clone();
    forged.method = "PUT";
    let error = forged.verified(&authenticator(), NOW).unwrap_err();
    let shown = format!("{identity:?} {error:?} {:?}", authenticator());
    assert!(!shown.contains(SECRET) && !shown.contains(&signature), "{shown}");
}

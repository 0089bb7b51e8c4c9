//! Uploads by HTML form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const CONDITIONS: &str = r#"{"bucket": "b"}, ["starts-with", "$key", "user/"], {"acl": "public-read"},
    ["starts-with", "$Content-Type", "image/"], ["content-length-range", 1, "100"],
    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"}, {"x-amz-date": "20130524T000000Z"}"#;

fn form_with(policy: &str) -> Vec<(String, String)> {
    let policy = STANDARD.encode(policy);
    let key = SigningKey::derive(SECRET, "20130524", "us-east-1", "s3");
    let signature = hex::encode(key.sign(policy.as_bytes()));
    [
        ("key", "user/eric/photo.png"),
        ("acl", "public-read"),
        ("Content-Type", "image/png"),
        ("X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Date", NOW),
        ("Policy", &policy),
        ("X-Amz-Signature", &signature),
        ("x-ignore-note", "anything"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn form() -> Vec<(String, String)> {
    form_with(&format!(
        r#"{{"expiration": "2013-05-25T00:00:00.000Z", "conditions": [{CONDITIONS}]}}"#
    ))
}

fn verify(fields: &[(String, String)], bucket: &str, now: &str) -> Result<PostGrant, AuthError> {
    authenticator().verify_post(&PostForm { bucket, fields }, at(now))
}

fn code(fields: &[(String, String)]) -> (&'static str, u16) {
    let result = verify(fields, "b", NOW);
    result.map_or_else(|error| (error.s3_code(), error.status()), |_| ("ok", 200))
}

fn with(name: &str, value: &str) -> Vec<(String, String)> {
    let mut fields = form();
    let field = fields.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name));
    field.unwrap().1 = value.to_owned();
    fields
}

/// AWS documentation, "Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)": the
/// policy is signed as its base64 text.
#[test]
fn the_published_example_verifies() {
    let policy = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
    let fields = [
        ("key", "user/user1/photo.png"),
        ("acl", "public-read"),
        (
            "success_action_redirect",
            "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
        ),
        ("Content-Type", "image/jpeg"),
        ("x-amz-meta-uuid", "14365123651274"),
        ("x-amz-server-side-encryption", "AES256"),
        ("X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Date", "20151229T000000Z"),
        ("x-amz-meta-tag", ""),
        ("Policy", policy),
        ("X-Amz-Signature", "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let grant = verify(&fields, "sigv4examplebucket", "20151230T110000Z").unwrap();
    assert_eq!(grant.identity.access_key_id(), KEY_ID);
    assert_eq!(grant.content_length, None);
}

#[test]
fn a_form_that_obeys_its_policy_is_granted_with_its_size_limits() {
    let grant = verify(&form(), "b", NOW).unwrap();
    assert_eq!(grant.content_length, Some((1, 100)));
    assert_eq!(grant.identity.kind(), Kind::PostPolicy);
    assert_eq!(code(&with("content-type", "image/png, image/gif")), ("ok", 200));
}

#[test]
fn every_field_is_bound_by_the_policy() {
    for (name, value) in [
        ("key", "other/photo.png"),
        ("acl", "private"),
        ("content-type", "text/html"),
        ("content-type", "image/png, text/html"),
    ] {
        let error = verify(&with(name, value), "b", NOW).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("AccessDenied", 403), "{name}");
        assert!(
            error.message().starts_with("Invalid according to Policy: Policy Condition failed")
        );
    }
    assert!(verify(&form(), "other", NOW).is_err());
    let mut extra = form();
    extra.push(("x-amz-meta-More".to_owned(), "1".to_owned()));
    let error = verify(&extra, "b", NOW).unwrap_err();
    assert_eq!(error.message(), "Invalid according to Policy: Extra input fields: x-amz-meta-more");
    let mut missing = form();
    missing.retain(|(name, _)| name != "acl");
    assert_eq!(code(&missing), ("AccessDenied", 403));
    let mut twice = form();
    twice.push(("KEY".to_owned(), "user/other".to_owned()));
    assert_eq!(code(&twice), ("InvalidArgument", 400));
}

#[test]
fn a_policy_for_no_bucket_in_particular_is_good_for_none() {
    let conditions = CONDITIONS.replace(r#"{"bucket": "b"},"#, "");
    let policy =
        format!(r#"{{"expiration": "2013-05-25T00:00:00Z", "conditions": [{conditions}]}}"#);
    assert_eq!(code(&form_with(&policy)), ("AccessDenied", 403));
}

#[test]
fn signature_and_time_are_checked() {
    assert_eq!(code(&with("x-amz-signature", &"0".repeat(64))), ("SignatureDoesNotMatch", 403));
    let policy = STANDARD.encode(r#"{"expiration": "2033-05-25T00:00:00Z", "conditions": []}"#);
    assert_eq!(code(&with("policy", &policy)), ("SignatureDoesNotMatch", 403));
    for now in ["20130525T000001Z", "20130601T000001Z", "20130523T234459Z"] {
        let error = verify(&form(), "b", now).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("AccessDenied", 403), "{now}");
    }
}

#[test]
fn malformed_policies_are_named_as_such() {
    for policy in [
        "",
        "{}",
        "[]",
        r#"{"expiration": "soon", "conditions": []}"#,
        r#"{"expiration": "2013-05-25T00:00:00Z"}"#,
        r#"{"expiration": "2013-05-25T00:00:00Z", "conditions": [1]}"#,
        r#"{"expiration": "2013-05-25T00:00:00Z", "conditions": [{"a": "1", "b": "2"}]}"#,
        r#"{"expiration": "2013-05-25T00:00:00Z", "conditions": [["ends-with", "$key", "a"]]}"#,
        r#"{"expiration": "2013-05-25T00:00:00Z", "conditions": [["content-length-range", -1, 5]]}"#,
    ] {
        assert_eq!(code(&form_with(policy)), ("InvalidPolicyDocument", 400), "{policy}");
    }
}

#[test]
fn forms_without_policy_or_with_other_signatures_are_refused() {
    let without = |name: &str| {
        let mut fields = form();
        fields.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        code(&fields)
    };
    assert_eq!(without("policy"), ("AccessDenied", 403));
    assert_eq!(without("x-amz-signature"), ("InvalidArgument", 400));
    assert_eq!(without("x-amz-date"), ("InvalidArgument", 400));
    let mut sigv2 = form();
    sigv2.push(("AWSAccessKeyId".to_owned(), KEY_ID.to_owned()));
    assert_eq!(code(&sigv2), ("InvalidRequest", 400));
    let sigv4a = with("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256");
    assert_eq!(code(&sigv4a), ("NotImplemented", 501));
}

//! Claims of identity: whatever is written, nobody gets in without a signature.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::auth::{Authenticator, Credentials, PostForm, RequestHead};
use time::OffsetDateTime;

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let file = br#"[{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not in the corpus",
        "buckets": [{"bucket": "*", "access": "read-write"}]}]"#;
    Authenticator::new(Credentials::parse(file).expect("a good file"), None)
});

/// 2013-05-24T00:00:00Z, the day of the published examples.
const NOW_SECONDS: i64 = 1_369_353_600;

fuzz_target!(|data: &[u8]| {
    let now = OffsetDateTime::from_unix_timestamp(NOW_SECONDS).expect("a time");
    // Lines: target, then headers, of which one without a colon is the Authorization header.
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let target = lines.next().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or(("authorization", line));
        fields.push((name.to_owned(), value.to_owned()));
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::try_from(name), HeaderValue::try_from(value.trim()))
        {
            headers.append(name, value);
        }
    }
    let host = "examplebucket.s3.amazonaws.com";
    let head =
        RequestHead { method: "GET", raw_path: path, raw_query: query, headers: &headers, host, now };
    let refusal = AUTHENTICATOR.verify(&head).expect_err("nobody signed this");
    assert!((400..=501).contains(&refusal.status()));
    assert!(!refusal.message().contains("not in the corpus"));
    assert!(AUTHENTICATOR.anonymous(&head).is_none());
    let form = PostForm { bucket: "b", fields: &fields };
    AUTHENTICATOR.verify_post(&form, now).expect_err("nobody signed this");
});

//! Signatures by the Standard Webhooks specification, which libraries of many languages verify.
//!
//! `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`. The receiver compares
//! it, refuses old timestamps, and knows a repetition by its `webhook-id`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::config::SECRET_PREFIX;

/// The headers of a message that says `body` at `now`, seconds since 1970. `None`: the secret is
/// not what it seems.
pub(super) fn headers(secret: &str, id: &str, now: i64, body: &[u8]) -> Option<HeaderMap> {
    let signature = format!("v1,{}", signature(&key(secret)?, id, now, body)?);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", &now.to_string()),
        ("webhook-signature", &signature),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    Some(headers)
}

/// The bytes of a secret: what `whsec_` stands before is base64, anything else counts as it is.
fn key(secret: &str) -> Option<Vec<u8>> {
    match secret.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).ok(),
        None => Some(secret.as_bytes().to_vec()),
    }
}

fn signature(key: &[u8], id: &str, now: i64, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{now}.").as_bytes());
    mac.update(body);
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_alike() {
        let headers = headers(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            headers.unwrap()["webhook-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_plain_secret_counts_as_it_is_and_a_broken_one_signs_nothing() {
        let of = |secret| headers(secret, "id", 1, b"{}");
        let encoded = format!("{SECRET_PREFIX}{}", STANDARD.encode("a plain secret"));
        let (plain, encoded) = (of("a plain secret").unwrap(), of(&encoded).unwrap());
        assert_eq!(plain["webhook-signature"], encoded["webhook-signature"]);
        assert!(of("whsec_?").is_none());
    }
}

//! Signing what goes upstream: `SigV4` under the rules of S3.
//!
//! Path and query arrive in canonical form and are sent as the very strings that are signed, so
//! nothing is encoded, decoded or normalised here. Headers are signed as bytes: user metadata may
//! hold Latin-1. The key derivation is aws-sigv4's; the derived key is kept for the day, and the
//! time stamp for its second, because they would be most of the work.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_sigv4::sign::v4::generate_signing_key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::credentials::Credentials;
use crate::s3::headers::signed;

/// `x-amz-content-sha256` of a body whose hash is not part of the signature.
pub const UNSIGNED_PAYLOAD: HeaderValue = HeaderValue::from_static("UNSIGNED-PAYLOAD");

/// SHA-256 of nothing.
const EMPTY_SHA256: [u8; 64] = *b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What is signed beside the headers.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// Method.
    pub method: &'a http::Method,
    /// Canonical path.
    pub path: &'a str,
    /// Canonical query.
    pub query: &'a str,
    /// A hex SHA-256, `UNSIGNED-PAYLOAD` or a `STREAMING-` value.
    pub payload: HeaderValue,
}

/// Signs requests for one region; cheap to share.
#[derive(Debug)]
pub struct Signer {
    region: String,
    day: ArcSwapOption<DayKey>,
    stamp: ArcSwapOption<Stamp>,
}

/// A second as it is signed.
#[derive(Debug)]
struct Stamp {
    second: u64,
    value: HeaderValue,
    /// `20130524T000000Z`
    text: String,
}

/// The derived key of one credential on one day.
struct DayKey {
    credentials: Arc<Credentials>,
    date: String,
    scope: String,
    /// HMAC under the derived key, with nothing in it yet.
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for DayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DayKey({})", self.scope)
    }
}

/// A credential holds something that cannot stand in a header.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the credentials hold characters that cannot be sent")]
pub struct UnusableCredentials;

impl Signer {
    /// A signer for a region.
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            day: ArcSwapOption::empty(),
            stamp: ArcSwapOption::empty(),
        }
    }

    /// Adds `x-amz-date`, `x-amz-content-sha256`, the session token and `Authorization`.
    ///
    /// `headers` must hold `Host` and everything else that is sent.
    pub fn sign(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        unsigned: Unsigned<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), UnusableCredentials> {
        let Unsigned { method, path, query, payload } = unsigned;
        let stamp = self.stamp(now)?;
        headers.insert(AMZ_DATE, stamp.value.clone());
        headers.insert(CONTENT_SHA256, payload);
        if let Some(token) = &credentials.session_token {
            let mut token =
                HeaderValue::from_str(token.expose()).map_err(|_| UnusableCredentials)?;
            token.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, token);
        }
        let day = self.day_key(credentials, now, &stamp.text)?;

        let mut names: Vec<&HeaderName> =
            headers.keys().filter(|name| *name == HOST || signed(name)).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut signed_names = String::with_capacity(256);
        for name in &names {
            if !signed_names.is_empty() {
                signed_names.push(';');
            }
            signed_names.push_str(name.as_str());
        }
        let canonical = canonical_request(method, path, query, headers, &names, &signed_names);
        let mut mac = day.mac.clone();
        mac.update(b"AWS4-HMAC-SHA256\n");
        mac.update(stamp.text.as_bytes());
        mac.update(b"\n");
        mac.update(day.scope.as_bytes());
        mac.update(b"\n");
        mac.update(&hex(Sha256::digest(&canonical).into()));
        let signature = hex(mac.finalize().into_bytes().into());

        let mut authorization = String::with_capacity(signed_names.len() + 200);
        for piece in [
            "AWS4-HMAC-SHA256 Credential=",
            &credentials.access_key_id,
            "/",
            &day.scope,
            ", SignedHeaders=",
            &signed_names,
            ", Signature=",
            std::str::from_utf8(&signature).unwrap_or_default(),
        ] {
            authorization.push_str(piece);
        }
        let mut value = HeaderValue::try_from(authorization).map_err(|_| UnusableCredentials)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// Goes on signing the chunks of a body, behind the signature of its head.
    ///
    /// `headers` must be those of [`Signer::sign`], with the same credentials and time.
    pub(super) fn chunks(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        headers: &HeaderMap,
    ) -> Result<ChunkSigner, UnusableCredentials> {
        let stamp = self.stamp(now)?;
        let day = self.day_key(credentials, now, &stamp.text)?;
        let seed = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().last_chunk());
        Ok(ChunkSigner {
            mac: day.mac.clone(),
            context: format!("{}\n{}\n", stamp.text, day.scope),
            previous: *seed.ok_or(UnusableCredentials)?,
        })
    }

    fn stamp(&self, now: SystemTime) -> Result<Arc<Stamp>, UnusableCredentials> {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(stamp) = self.stamp.load_full()
            && stamp.second == second
        {
            return Ok(stamp);
        }
        let text = OffsetDateTime::from(now)
            .format(format_description!("[year][month][day]T[hour][minute][second]Z"))
            .map_err(|_| UnusableCredentials)?;
        let value = HeaderValue::from_str(&text).map_err(|_| UnusableCredentials)?;
        let stamp = Arc::new(Stamp { second, value, text });
        self.stamp.store(Some(stamp.clone()));
        Ok(stamp)
    }

    fn day_key(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        stamp: &str,
    ) -> Result<Arc<DayKey>, UnusableCredentials> {
        let date = stamp.split('T').next().unwrap_or(stamp);
        if let Some(day) = self.day.load_full()
            && day.date == date
            && Arc::ptr_eq(&day.credentials, credentials)
        {
            return Ok(day);
        }
        let secret = credentials.secret_access_key.expose();
        let key = generate_signing_key(secret, now, &self.region, "s3");
        let day = Arc::new(DayKey {
            credentials: credentials.clone(),
            date: date.to_owned(),
            scope: format!("{date}/{}/s3/aws4_request", self.region),
            mac: Hmac::new_from_slice(key.as_ref()).map_err(|_| UnusableCredentials)?,
        });
        self.day.store(Some(day.clone()));
        Ok(day)
    }
}

/// Signs chunk after chunk, each one together with the signature before it.
pub(super) struct ChunkSigner {
    /// HMAC under the derived key, with nothing in it yet.
    mac: Hmac<Sha256>,
    /// Time and scope, as they stand in every text that is signed.
    context: String,
    /// Hexadecimal.
    previous: [u8; 64],
}

impl ChunkSigner {
    /// The signature of the next chunk.
    pub(super) fn chunk(&mut self, hash: [u8; 32]) -> &str {
        self.next(b"AWS4-HMAC-SHA256-PAYLOAD\n", &[&EMPTY_SHA256[..], b"\n", &hex(hash)])
    }

    /// The signature of the trailer; each of its lines ends with a line feed.
    pub(super) fn trailer(&mut self, lines: &[u8]) -> &str {
        let hash = hex(Sha256::digest(lines).into());
        self.next(b"AWS4-HMAC-SHA256-TRAILER\n", &[&hash])
    }

    fn next(&mut self, label: &[u8], tail: &[&[u8]]) -> &str {
        let mut mac = self.mac.clone();
        for piece in [label, self.context.as_bytes(), &self.previous, b"\n"].iter().chain(tail) {
            mac.update(piece);
        }
        self.previous = hex(mac.finalize().into_bytes().into());
        // Only digits.
        std::str::from_utf8(&self.previous).unwrap_or_default()
    }
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSigner")
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: [u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = bytes[at / 2];
        DIGITS[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

fn canonical_request(
    method: &http::Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    names: &[&HeaderName],
    signed_names: &str,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    for part in [method.as_str(), path, query] {
        out.extend_from_slice(part.as_bytes());
        out.push(b'\n');
    }
    for name in names {
        out.extend_from_slice(name.as_str().as_bytes());
        out.push(b':');
        for (at, value) in headers.get_all(*name).iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_trimmed(&mut out, value.as_bytes());
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_names.as_bytes());
    out.push(b'\n');
    let payload = headers.get(CONTENT_SHA256).map_or(&b""[..], HeaderValue::as_bytes);
    out.extend_from_slice(payload);
    out
}

/// Trims and collapses runs of spaces, as the specification wants it.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut space = false;
    for &byte in value.trim_ascii() {
        if byte == b' ' {
            space = true;
            continue;
        }
        if space {
            out.push(b' ');
            space = false;
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use std::time::Duration;

    /// The `GET Object` example of the Amazon S3 API reference, "Signature Calculations for the
    /// Authorization Header".
    #[test]
    fn the_published_get_object_example_is_reproduced() {
        let credentials = Arc::new(Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        });
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        let empty = HeaderValue::from_static(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(380_376);
        let method = http::Method::GET;
        let unsigned = Unsigned { method: &method, path: "/test.txt", query: "", payload: empty };
        Signer::new("us-east-1").sign(&credentials, now, unsigned, &mut headers).unwrap();
        let authorization = headers[AUTHORIZATION].to_str().unwrap();
        assert!(
            authorization.ends_with(
                "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            ),
            "{authorization}"
        );
        assert!(authorization.contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date"));
    }

    /// What is kept for speed is never used for another second, day or key.
    #[test]
    fn a_signature_depends_on_its_time_and_key_alone_and_not_on_those_before() {
        let credentials = |secret: &str| {
            Arc::new(Credentials {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
                secret_access_key: Secret::new(secret),
                session_token: None,
            })
        };
        let (first, second) = (credentials("one"), credentials("two"));
        let sign = |signer: &Signer, credentials: &Arc<Credentials>, second: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("s3.example"));
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let method = http::Method::GET;
            let payload = UNSIGNED_PAYLOAD;
            let unsigned = Unsigned { method: &method, path: "/b/k", query: "", payload };
            signer.sign(credentials, now, unsigned, &mut headers).unwrap();
            headers
        };
        let midnight = 380_400 * 3600;
        let long_lived = Signer::new("us-east-1");
        for (credentials, second) in [
            (&first, midnight - 1),
            (&first, midnight),
            (&second, midnight),
            (&first, midnight),
            (&first, midnight + 1),
            (&first, midnight - 1),
        ] {
            let headers = sign(&long_lived, credentials, second);
            assert_eq!(headers, sign(&Signer::new("us-east-1"), credentials, second));
            let date = if second < midnight { "20130524" } else { "20130525" };
            let authorization = headers[AUTHORIZATION].to_str().unwrap();
            assert!(authorization.contains(&format!("/{date}/us-east-1/s3/")), "{authorization}");
            assert!(headers["x-amz-date"].to_str().unwrap().starts_with(date));
        }
    }

    #[test]
    fn runs_of_spaces_collapse_and_other_bytes_stay() {
        let mut out = Vec::new();
        push_trimmed(&mut out, b"  a   b\xfc  ");
        assert_eq!(out, b"a b\xfc");
    }
}

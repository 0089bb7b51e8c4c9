//! Signing what goes upstream: `SigV4` under the rules of S3.
//!
//! Path and query arrive in canonical form and are sent as the very strings that are signed, so
//! nothing is encoded, decoded or normalised here. Headers are signed as bytes: user metadata may
//! hold Latin-1. The key derivation is aws-sigv4's; derived keys are kept for the day, and the
//! time stamp for its second, because they would be most of the work.
//!
//! # Limits
//! `DAY_KEYS_MAX` derived keys: this service's own, and those that clients have of their own. With
//! more of them in turn, the oldest is derived anew.

mod canonical;
mod chunks;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_sigv4::sign::v4::generate_signing_key;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use smallvec::SmallVec;
use time::OffsetDateTime;
use time::macros::format_description;

use super::credentials::Credentials;
use crate::s3::headers::{signed, stripped_from_request};
pub(super) use chunks::ChunkSigner;

/// Derived keys kept by one signer, a few hundred bytes each.
const DAY_KEYS_MAX: usize = 256;
/// Length of `20130524`, with which a time stamp begins.
const DATE_BYTES: usize = 8;

/// `x-amz-content-sha256` of a body whose hash is not part of the signature.
pub const UNSIGNED_PAYLOAD: HeaderValue = HeaderValue::from_static("UNSIGNED-PAYLOAD");

/// What is added to a request, in the order of [`Signer::write`]; the token only if there is one.
const OURS: [&str; 4] = ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];

/// Names and values that are signed; the stack has room for those of an ordinary request.
type Covered<'a> = SmallVec<[(&'a str, &'a [u8]); 24]>;

/// A request before it is signed. `Host`, the stamp and the payload are not among its headers; what the
/// client authenticated itself with may be, so that this is never printed.
pub struct Unsigned<'a> {
    /// Method.
    pub method: &'a http::Method,
    /// Canonical path.
    pub path: &'a str,
    /// Canonical query, empty for none.
    pub query: &'a str,
    /// `Host`
    pub host: &'a HeaderValue,
    /// A hex SHA-256, `UNSIGNED-PAYLOAD` or a `STREAMING-` value.
    pub payload: &'a HeaderValue,
    /// Everything else.
    pub headers: &'a HeaderMap,
}

/// Signs requests for one region; cheap to share.
#[derive(Debug)]
pub struct Signer {
    region: String,
    /// The newest first.
    days: ArcSwap<Vec<Arc<DayKey>>>,
    stamp: ArcSwapOption<Stamp>,
}

/// A second as it is signed.
#[derive(Debug)]
struct Stamp {
    second: u64,
    /// `20130524T000000Z`
    text: String,
    /// What the string to sign begins with.
    preamble: String,
}

/// The derived key of one credential on one day.
struct DayKey {
    credentials: Arc<Credentials>,
    date: String,
    scope: String,
    /// `AKID/20130524/region/s3/aws4_request`
    named: String,
    /// HMAC under the derived key, with nothing in it yet.
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for DayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DayKey({})", self.scope)
    }
}

impl DayKey {
    fn is_of(&self, credentials: &Arc<Credentials>) -> bool {
        let own = &self.credentials;
        // Those of this service are one and the same; those of a client are made for each request.
        Arc::ptr_eq(own, credentials)
            || (own.access_key_id == credentials.access_key_id
                && own.secret_access_key == credentials.secret_access_key)
    }
}

/// A credential holds something that cannot stand in a header.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the credentials hold characters that cannot be sent")]
pub struct UnusableCredentials;

impl Signer {
    /// A signer for a region.
    pub fn new(region: &str) -> Self {
        Self { region: region.to_owned(), days: ArcSwap::default(), stamp: ArcSwapOption::empty() }
    }

    /// Writes request line and headers as they are sent, `Authorization` included and the empty line
    /// not, and yields the signature in hexadecimal. Headers for which `leave_out` holds are neither
    /// signed nor sent, and neither are those that belong to another connection or signature
    /// ([`stripped_from_request`]).
    pub fn write(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        unsigned: &Unsigned<'_>,
        leave_out: impl Fn(&HeaderName) -> bool,
        out: &mut BytesMut,
    ) -> Result<[u8; 64], UnusableCredentials> {
        let Unsigned { method, path, query, host, payload, headers } = *unsigned;
        let stamp = self.stamp(now)?;
        let day = self.day_key(credentials, now, &stamp.text)?;
        let token = credentials.session_token.as_ref().map(|token| token.expose().as_bytes());
        if token.is_some_and(|token| HeaderValue::from_bytes(token).is_err()) {
            return Err(UnusableCredentials);
        }

        put(out, &[method.as_str().as_bytes(), b" ", path.as_bytes()]);
        if !query.is_empty() {
            put(out, &[b"?", query.as_bytes()]);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut covered = Covered::new();
        let ours = [host.as_bytes(), payload.as_bytes(), stamp.text.as_bytes()];
        covered.extend(OURS.into_iter().zip(ours.into_iter().chain(token)));
        for (name, value) in &covered {
            put(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
        }
        for (name, value) in headers {
            if leave_out(name) || stripped_from_request(name) {
                continue;
            }
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
            if signed(name) {
                covered.push((name.as_str(), value.as_bytes()));
            }
        }
        // Stable: values of one name keep their order.
        covered.sort_by_key(|(name, _)| *name);

        put(out, &[b"authorization: AWS4-HMAC-SHA256 Credential=", day.named.as_bytes()]);
        out.extend_from_slice(b", SignedHeaders=");
        let names_from = out.len();
        put_names(out, &covered);
        let names = &out[names_from..];
        let line = [method.as_str(), path, query];
        let hash = hex(canonical::hash(line, &covered, names, payload.as_bytes()));
        let mut mac = day.mac.clone();
        mac.update(stamp.preamble.as_bytes());
        mac.update(day.scope.as_bytes());
        mac.update(b"\n");
        mac.update(&hash);
        let signature = hex(mac.finalize().into_bytes().into());
        put(out, &[b", Signature=", &signature, b"\r\n"]);
        Ok(signature)
    }

    /// Goes on signing the chunks of a body, behind the signature of its head: that of
    /// [`Signer::write`] with the same credentials and time.
    pub(super) fn chunks(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        seed: [u8; 64],
    ) -> Result<ChunkSigner, UnusableCredentials> {
        let stamp = self.stamp(now)?;
        let day = self.day_key(credentials, now, &stamp.text)?;
        Ok(ChunkSigner::new(day.mac.clone(), &stamp.text, &day.scope, seed))
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
        let preamble = format!("AWS4-HMAC-SHA256\n{text}\n");
        let stamp = Arc::new(Stamp { second, text, preamble });
        self.stamp.store(Some(stamp.clone()));
        Ok(stamp)
    }

    fn day_key(
        &self,
        credentials: &Arc<Credentials>,
        now: SystemTime,
        stamp: &str,
    ) -> Result<Arc<DayKey>, UnusableCredentials> {
        let (date, _) = stamp.split_at_checked(DATE_BYTES).unwrap_or((stamp, ""));
        let kept = self.days.load();
        if let Some(day) = kept.iter().find(|day| day.date == date && day.is_of(credentials)) {
            return Ok(day.clone());
        }
        let access_key_id = &credentials.access_key_id;
        HeaderValue::from_str(access_key_id).map_err(|_| UnusableCredentials)?;
        let secret = credentials.secret_access_key.expose();
        let key = generate_signing_key(secret, now, &self.region, "s3");
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let day = Arc::new(DayKey {
            credentials: credentials.clone(),
            date: date.to_owned(),
            named: format!("{access_key_id}/{scope}"),
            scope,
            mac: Hmac::new_from_slice(key.as_ref()).map_err(|_| UnusableCredentials)?,
        });
        // Two at once may lose one of them, which is then derived again.
        let others = kept.iter().filter(|other| other.date == date);
        let days = std::iter::once(&day).chain(others).take(DAY_KEYS_MAX).cloned().collect();
        self.days.store(Arc::new(days));
        Ok(day)
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: [u8; 32]) -> [u8; 64] {
    // Calculated rather than looked up, so that it is done for many at once.
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [0; 64];
    let (pairs, _) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(&bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

fn put(out: &mut BytesMut, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Appends `SignedHeaders`.
fn put_names(out: &mut BytesMut, covered: &[(&str, &[u8])]) {
    for (at, group) in covered.chunk_by(|a, b| a.0 == b.0).enumerate() {
        if at > 0 {
            out.extend_from_slice(b";");
        }
        out.extend_from_slice(group[0].0.as_bytes());
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
        let host = HeaderValue::from_static("examplebucket.s3.amazonaws.com");
        let mut headers = HeaderMap::new();
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        headers.insert("user-agent", HeaderValue::from_static("sent and not signed"));
        headers.insert("x-amz-checksum-mode", HeaderValue::from_static("left out"));
        // What the client's own signature and connection had.
        for name in ["authorization", "x-amz-date", "x-amz-security-token", "connection", "cookie"]
        {
            headers.insert(name, HeaderValue::from_static("of another"));
        }
        let empty = HeaderValue::from_static(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(380_376);
        let unsigned = Unsigned {
            method: &http::Method::GET,
            path: "/test.txt",
            query: "",
            host: &host,
            payload: &empty,
            headers: &headers,
        };
        let mut out = BytesMut::new();
        let leave_out = |name: &HeaderName| name == "x-amz-checksum-mode";
        Signer::new("us-east-1").write(&credentials, now, &unsigned, leave_out, &mut out).unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&out).unwrap().split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "GET /test.txt HTTP/1.1",
                "host: examplebucket.s3.amazonaws.com",
                "x-amz-content-sha256: \
                 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "x-amz-date: 20130524T000000Z",
                "range: bytes=0-9",
                "user-agent: sent and not signed",
                "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1\
                 /s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
                 Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
                "",
            ]
        );
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
            let unsigned = Unsigned {
                method: &http::Method::GET,
                path: "/b/k",
                query: "",
                host: &HeaderValue::from_static("s3.example"),
                payload: &UNSIGNED_PAYLOAD,
                headers: &HeaderMap::new(),
            };
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let mut out = BytesMut::new();
            signer.write(credentials, now, &unsigned, |_| false, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        let midnight = 380_400 * 3600;
        let long_lived = Signer::new("us-east-1");
        for (credentials, second) in [
            (&first, midnight - 1),
            (&first, midnight),
            // Equal in all, but another one, as clients' keys are.
            (&credentials("one"), midnight),
            (&second, midnight),
            (&first, midnight),
            (&first, midnight + 1),
            (&first, midnight - 1),
        ] {
            let head = sign(&long_lived, credentials, second);
            assert_eq!(head, sign(&Signer::new("us-east-1"), credentials, second));
            let date = if second < midnight { "20130524" } else { "20130525" };
            assert!(head.contains(&format!("/{date}/us-east-1/s3/")), "{head}");
            assert!(head.contains(&format!("x-amz-date: {date}T")), "{head}");
        }
    }

    #[test]
    fn keys_used_in_turn_are_each_derived_once_a_day_and_never_more_than_the_limit() {
        let keys = |number: usize| {
            Arc::new(Credentials {
                access_key_id: format!("AKID{number}"),
                secret_access_key: Secret::new("secret"),
                session_token: None,
            })
        };
        let signer = Signer::new("us-east-1");
        let derive = |number| {
            let now = SystemTime::UNIX_EPOCH;
            signer.day_key(&keys(number), now, "20130524T000000Z").unwrap()
        };
        let (first, second) = (derive(1), derive(2));
        for _ in 0..3 {
            assert!(Arc::ptr_eq(&first, &derive(1)));
            assert!(Arc::ptr_eq(&second, &derive(2)));
        }
        for number in 0..2 * DAY_KEYS_MAX {
            derive(number);
        }
        assert_eq!(signer.days.load().len(), DAY_KEYS_MAX);
        let tomorrow = signer.day_key(&keys(0), SystemTime::UNIX_EPOCH, "20130525T000000Z");
        assert!(!Arc::ptr_eq(&tomorrow.unwrap(), &derive(0)));
        assert_eq!(signer.days.load().len(), 1, "keys of another day are of no more use");
    }
}

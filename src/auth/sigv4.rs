//! One `SigV4` claim: what a request says about who signed it, and whether that is true.
//!
//! The request is judged as it was received. Two spellings of the path and two of white space in
//! headers are tried, because signers differ there; all of them name the same request.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use http::HeaderMap;
use time::OffsetDateTime;

use super::canonical::{Query, Whitespace, headers_block, path_variants, request_hash};
use super::clock::{amz_date, parse_amz_date, parse_http_date, rfc3339};
use super::error::AuthError;
use super::scope::Scope;
use crate::s3::chunked::{PayloadMode, SigningKey};

/// How far a request's time may be from ours; what AWS, `MinIO` and Ceph allow.
pub const SKEW_MAX: Duration = Duration::from_mins(15);
/// The longest validity of a presigned URL.
pub const EXPIRES_SECONDS_MAX: u64 = 604_800;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const ALGORITHM_SIGV4A: &str = "AWS4-ECDSA-P256-SHA256";
const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// Headers with these prefixes change what a request does. The proxy signs all it forwards with its
/// own key, so one that the client did not sign would turn a captured signature into another
/// request (GHSA-xm99-m3gq-83g8, CVE-2026-54330).
const MUST_BE_SIGNED: [&str; 4] = ["x-amz-", "x-minio-", "x-rgw-", "x-goog-"];

/// The head of a request, exactly as received.
#[derive(Clone, Copy)]
pub struct RequestHead<'r> {
    /// The method, in upper case.
    pub method: &'r str,
    /// The path with its percent escapes.
    pub raw_path: &'r str,
    /// The query without its question mark; `None` or empty if there is none.
    pub raw_query: Option<&'r str>,
    /// All headers.
    pub headers: &'r HeaderMap,
    /// The `Host` header (or the authority of the target), with its port as sent.
    pub host: &'r str,
    /// The present time.
    pub now: OffsetDateTime,
}

/// Where a claim was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the `Authorization` header.
    Header,
    /// In the query of a presigned URL.
    Presigned,
    /// In the fields of a form.
    PostPolicy,
}

/// What a request says about its signature; nothing of it is proven.
pub(super) struct Claim<'r> {
    pub(super) kind: Kind,
    pub(super) scope: Scope<'r>,
    pub(super) signature: [u8; 32],
    pub(super) payload: PayloadMode,
    /// The time the signature is made for, and its text in the string to sign.
    time: OffsetDateTime,
    pub(super) amz_date: String,
    expires_seconds: u64,
    signed_headers: Cow<'r, str>,
    payload_hash: Cow<'r, str>,
    canonical_query: String,
}

/// Does a request claim nothing at all?
pub(super) fn is_unsigned(head: &RequestHead<'_>) -> bool {
    let query = Query::parse(head.raw_query.unwrap_or_default());
    let marks = ["X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential", "AWSAccessKeyId"];
    !head.headers.contains_key(http::header::AUTHORIZATION)
        && !marks.iter().any(|mark| query.has(mark))
}

impl<'r> Claim<'r> {
    /// Finds and parses the claim of a request.
    pub(super) fn read(head: &RequestHead<'r>) -> Result<Self, AuthError> {
        let query = Query::parse(head.raw_query.unwrap_or_default());
        let in_query_v4 = query.has("X-Amz-Algorithm") || query.has("X-Amz-Signature");
        let in_query_v2 = query.has("AWSAccessKeyId") && query.has("Signature");
        let mut headers = head.headers.get_all(http::header::AUTHORIZATION).iter();
        match (headers.next(), in_query_v4, in_query_v2) {
            (None, false, false) => Err(AuthError::access_denied()),
            (None, true, false) => Self::from_query(head, &query),
            (None, false, true) => Err(AuthError::sigv2()),
            (Some(value), false, false) if headers.next().is_none() => {
                let value = value.to_str().map_err(|_| AuthError::unsupported_type())?;
                Self::from_header(head, &query, value)
            }
            _ => Err(AuthError::several_mechanisms()),
        }
    }

    fn from_header(
        head: &RequestHead<'r>,
        query: &Query,
        value: &'r str,
    ) -> Result<Self, AuthError> {
        let kind = Kind::Header;
        let value = value.trim();
        let (algorithm, fields) = value.split_once([' ', '\t']).unwrap_or((value, ""));
        match algorithm {
            ALGORITHM => {}
            ALGORITHM_SIGV4A => return Err(AuthError::sigv4a()),
            "AWS" => return Err(AuthError::sigv2()),
            _ => return Err(AuthError::unsupported_type()),
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or_else(|| AuthError::malformed(kind, "a field has no value"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(AuthError::malformed(kind, "it has an unknown field")),
            };
            if slot.replace(value).is_some() {
                return Err(AuthError::malformed(kind, "a field is repeated"));
            }
        }
        let missing = || AuthError::malformed(kind, "a field is missing");
        let scope = Scope::parse(kind, Cow::Borrowed(credential.ok_or_else(missing)?))?;
        let payload_hash = single_header(head.headers, CONTENT_SHA256)?;
        let payload_hash = payload_hash.ok_or_else(AuthError::no_payload_hash)?;
        let (time, amz_date) = header_time(head.headers)?;
        Ok(Self {
            kind,
            scope,
            signature: parse_signature(kind, signature.ok_or_else(missing)?)?,
            payload: PayloadMode::parse(payload_hash).map_err(|_| AuthError::bad_payload_hash())?,
            time,
            amz_date,
            expires_seconds: 0,
            signed_headers: Cow::Borrowed(signed_headers.ok_or_else(missing)?),
            payload_hash: Cow::Borrowed(payload_hash),
            canonical_query: query.canonical("X-Amz-Signature"),
        })
    }

    fn from_query(head: &RequestHead<'r>, query: &Query) -> Result<Self, AuthError> {
        let kind = Kind::Presigned;
        let only = |name| only_parameter(query, name);
        match only("X-Amz-Algorithm")?.as_str() {
            ALGORITHM => {}
            ALGORITHM_SIGV4A => return Err(AuthError::sigv4a()),
            _ => {
                let why = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"";
                return Err(AuthError::malformed(kind, why));
            }
        }
        let scope = Scope::parse(kind, Cow::Owned(only("X-Amz-Credential")?))?;
        let amz_date = only("X-Amz-Date")?;
        let time = parse_amz_date(&amz_date).ok_or_else(|| {
            let why = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"";
            AuthError::malformed(kind, why)
        })?;
        let expires_seconds = parse_expires(&only("X-Amz-Expires")?)?;
        let signed_headers = only("X-Amz-SignedHeaders")?;
        let signature = parse_signature(kind, &only("X-Amz-Signature")?)?;
        let header_is_signed = signed_headers.split(';').any(|name| name == CONTENT_SHA256);
        let payload_hash = if query.has("X-Amz-Content-Sha256") {
            Cow::Owned(only("X-Amz-Content-Sha256")?)
        } else if header_is_signed {
            let value = single_header(head.headers, CONTENT_SHA256)?;
            Cow::Borrowed(value.ok_or_else(AuthError::no_payload_hash)?)
        } else {
            Cow::Borrowed("UNSIGNED-PAYLOAD")
        };
        let payload =
            PayloadMode::parse(&payload_hash).map_err(|_| AuthError::bad_payload_hash())?;
        let streaming_header = head.headers.get(CONTENT_SHA256);
        let streaming_header = streaming_header.map(|value| value.as_bytes().to_ascii_uppercase());
        if matches!(payload, PayloadMode::Streaming(_))
            || streaming_header.is_some_and(|value| value.trim_ascii().starts_with(b"STREAMING-"))
        {
            return Err(AuthError::presigned_streaming());
        }
        Ok(Self {
            kind,
            scope,
            signature,
            payload,
            time,
            amz_date,
            expires_seconds,
            signed_headers: Cow::Owned(signed_headers),
            payload_hash,
            canonical_query: query.canonical("X-Amz-Signature"),
        })
    }

    /// Whether the claim's time is right: in the allowed skew, or in a presigned URL's validity.
    pub(super) fn check_time(&self, now: OffsetDateTime) -> Result<(), AuthError> {
        self.scope.check_date(self.kind, &self.amz_date)?;
        let ahead = self.time - now;
        if self.kind == Kind::Presigned {
            if ahead > SKEW_MAX {
                return Err(AuthError::not_yet_valid(rfc3339(now)));
            }
            // An amz-date has four digits for its year, so that adding a week stays in range.
            let expires_at = self.time.saturating_add(time::Duration::seconds(
                i64::try_from(self.expires_seconds).unwrap_or(i64::MAX),
            ));
            if now > expires_at {
                let (end, now) = (rfc3339(expires_at), rfc3339(now));
                return Err(AuthError::expired(self.expires_seconds, end, now));
            }
            return Ok(());
        }
        if ahead.unsigned_abs() > SKEW_MAX {
            return Err(AuthError::too_skewed(self.amz_date.clone(), rfc3339(now), SKEW_MAX));
        }
        Ok(())
    }

    /// Whether the signature covers `host` and every header that changes what the request does.
    pub(super) fn check_signed_headers(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        let signed: HashSet<&str> = self.signed_headers.split(';').collect();
        // Names are looked up without their case, and a long header named a thousand times would be hashed
        // a thousand times.
        if self.signed_headers.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(AuthError::malformed(self.kind, "SignedHeaders must be in lower case"));
        }
        if signed.len() != self.signed_headers.split(';').count() {
            return Err(AuthError::malformed(self.kind, "SignedHeaders names a header twice"));
        }
        let mut unsigned: Vec<&str> = headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| MUST_BE_SIGNED.iter().any(|prefix| name.starts_with(prefix)))
            // Signed as the payload hash whether or not it is in the list.
            .filter(|name| *name != CONTENT_SHA256 && !signed.contains(name))
            .collect();
        if !signed.contains("host") {
            unsigned.push("host");
        }
        if unsigned.is_empty() { Ok(()) } else { Err(AuthError::headers_not_signed(&unsigned)) }
    }

    /// Whether `key` made the signature for this very request.
    pub(super) fn is_signed_by(&self, key: &SigningKey, head: &RequestHead<'_>) -> bool {
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        let block = |whitespace| headers_block(head.headers, head.host, &names, whitespace);
        let mut blocks = vec![block(Whitespace::Blanks), block(Whitespace::All)];
        blocks.dedup();
        path_variants(head.raw_path).iter().any(|path| {
            blocks.iter().any(|block| {
                let query = &self.canonical_query;
                let (signed, payload) = (&self.signed_headers, &self.payload_hash);
                let hash = request_hash(head.method, path, query, block, signed, payload);
                let (date, scope) = (&self.amz_date, self.scope.text());
                let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex::encode(hash));
                key.verify(text.as_bytes(), &self.signature)
            })
        })
    }
}

/// The signature's bytes; anything but 64 hex digits is malformed.
pub(super) fn parse_signature(kind: Kind, text: &str) -> Result<[u8; 32], AuthError> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| AuthError::malformed(kind, "the signature is not 64 hex digits"))?;
    Ok(bytes)
}

fn parse_expires(text: &str) -> Result<u64, AuthError> {
    let malformed = |why| AuthError::malformed(Kind::Presigned, why);
    let seconds: i64 = text.parse().map_err(|_| malformed("X-Amz-Expires should be a number"))?;
    match u64::try_from(seconds) {
        Err(_) => Err(malformed("X-Amz-Expires must be non-negative")),
        Ok(0) => Err(malformed("X-Amz-Expires must be at least one second")),
        Ok(seconds) if seconds > EXPIRES_SECONDS_MAX => Err(malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given \
             X-Amz-Expires must be less than 604800 seconds",
        )),
        Ok(seconds) => Ok(seconds),
    }
}

/// The value of a parameter that must be there once.
fn only_parameter(query: &Query, name: &str) -> Result<String, AuthError> {
    let mut values = query.all(name);
    let value = values.next().filter(|_| values.next().is_none());
    value.and_then(|value| String::from_utf8(value.to_vec()).ok()).ok_or_else(|| {
        let why = "Query-string authentication version 4 requires the X-Amz-Algorithm, \
                   X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
                   X-Amz-Expires parameters.";
        AuthError::malformed(Kind::Presigned, why)
    })
}

/// The time a header-signed request was signed for, and its text in the string to sign.
fn header_time(headers: &HeaderMap) -> Result<(OffsetDateTime, String), AuthError> {
    let text = match single_header(headers, "x-amz-date")? {
        Some(text) => text,
        None => single_header(headers, "date")?.ok_or_else(AuthError::no_date)?,
    };
    let time = parse_amz_date(text).or_else(|| parse_http_date(text));
    let time = time.ok_or_else(AuthError::no_date)?;
    Ok((time, amz_date(time)))
}

/// The value of a header that may be there once only.
fn single_header<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> Result<Option<&'h str>, AuthError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AuthError::malformed(Kind::Header, format!("the {name} header is repeated")));
    }
    let text = value.to_str().map(str::trim);
    text.map(Some)
        .map_err(|_| AuthError::malformed(Kind::Header, format!("the {name} header is not text")))
}

//! Who may do what: everything that is signed with the one key, as long as all of it is signed.
//!
//! `s3s` verifies signatures over the headers a client says it signed. It does not ask whether
//! that covers the headers that matter; S3 does, and so does this module (C3): else a captured
//! request could be sent again with an `x-amz-copy-source` of somebody's choice.

use http::{HeaderMap, Uri, header};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};

use super::fault::{Answer, refuse};
use super::target::decode_form;

/// The one key of a store.
pub(super) struct OneKey {
    pub(super) access_key_id: String,
    pub(super) secret: SecretKey,
}

/// The access rule for typed operations.
pub(super) struct SignedOnly;

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key_id {
            return Ok(self.secret.clone());
        }
        Err(refuse(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        ))
    }
}

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        check(context.credentials().is_some(), context.uri(), context.headers())
    }
}

/// Lets a request pass whose signature `s3s` has verified, if it covers what it must.
pub(super) fn check(authenticated: bool, uri: &Uri, headers: &HeaderMap) -> Answer<()> {
    if !authenticated {
        return Err(refuse(S3ErrorCode::AccessDenied, "Access Denied"));
    }
    let Some(signed) = signed_headers(uri, headers) else {
        return Ok(());
    };
    let signed: Vec<_> = signed.split(';').collect();
    let covered = |name: &str| signed.iter().any(|signed| signed.eq_ignore_ascii_case(name));
    if !covered("host") {
        return Err(refuse(S3ErrorCode::AccessDenied, "The host header must be signed."));
    }
    // The payload hash is part of what is signed in any case.
    let needs = |name: &&str| name.starts_with("x-amz-") && *name != "x-amz-content-sha256";
    if headers.keys().map(http::HeaderName::as_str).filter(needs).any(|name| !covered(name)) {
        return Err(refuse(
            S3ErrorCode::AccessDenied,
            "There were headers present in the request which were not signed",
        ));
    }
    Ok(())
}

/// The list of signed headers of a Signature Version 4; older signatures always cover `x-amz-*`.
fn signed_headers(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let (_, list) = authorization.to_str().ok()?.split_once("SignedHeaders=")?;
        return Some(list.split(',').next()?.trim().to_owned());
    }
    let query = uri.query()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders="))?;
    decode_form(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(uri: &str, pairs: &[(&'static str, &str)]) -> bool {
        let headers = pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        check(true, &uri.parse().unwrap(), &headers.collect()).is_ok()
    }

    #[test]
    fn every_amz_header_must_be_covered_by_the_signature() {
        let signed = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;x-amz-date, Signature=b";
        let (auth, date) = (("authorization", signed), ("x-amz-date", "20260101T000000Z"));
        assert!(allowed("/b/k", &[auth, date, ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]));
        assert!(allowed("/b/k", &[auth, date, ("content-type", "text/plain")]));
        assert!(!allowed("/b/k", &[auth, date, ("x-amz-copy-source", "other/secret")]));
        let presigned = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl";
        assert!(allowed(presigned, &[("x-amz-acl", "private")]));
        assert!(!allowed(presigned, &[("x-amz-meta-a", "b")]));
        assert!(!allowed("/b/k?X-Amz-SignedHeaders=range", &[]));
    }
}

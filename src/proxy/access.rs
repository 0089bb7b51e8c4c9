//! May this caller do this? Two rules, each optional: verified client credentials
//! (`CLIENT_CREDENTIALS_FILE`) and a bound on what anybody can reach (`ALLOWED_BUCKETS`).
//!
//! Without either, whoever reaches the port acts with main's key: the port must then be open to
//! trusted callers only. Copy sources and every key of a `DeleteObjects` are held to the same
//! rules as the addressed key.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method};
use time::OffsetDateTime;

use super::error::S3Error;
use crate::auth::{Access, AuthError, Authenticator, Grant, Identity, RequestHead};
use crate::config::Secret;
use crate::s3::address::Address;
use crate::s3::chunked::ChunkVerifier;
use crate::s3::encode::decode;
use crate::s3::headers::find;
use crate::s3::operation::{Effect, Operation};
use crate::upstream::credentials::Credentials;

/// Operations that show keys under a prefix.
const LISTINGS: [&str; 4] =
    ["ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"];

/// Their parameters. Beside any other, another operation may be meant, which shows more.
const LIST_PARAMETERS: [&str; 16] = [
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-uploads",
    "prefix",
    "start-after",
    "upload-id-marker",
    "uploads",
    "version-id-marker",
    "versions",
    "x-id",
];

/// The rules of one proxy.
#[derive(Debug, Default)]
pub struct AccessRules {
    /// Verifies clients; without it anybody may come.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Names, or prefixes ending in `*`; empty for all.
    pub allowed_buckets: Vec<String>,
}

/// Who sends a request.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Nobody in particular: clients are not verified, or this request has no signature by its
    /// nature (a preflight; a form, until its policy has been read).
    Anybody,
    /// A client whose signature was verified.
    Verified(Box<Identity>),
    /// Nobody, where clients are verified, with what everybody may read.
    Anonymous(Arc<Vec<Grant>>),
}

impl Caller {
    /// The verifier of signed chunks.
    pub(super) fn chunk_verifier(&self) -> Option<ChunkVerifier> {
        match self {
            Self::Verified(identity) => identity.chunk_verifier(),
            Self::Anybody | Self::Anonymous(_) => None,
        }
    }

    fn may(&self, access: Access, bucket: Option<&str>, key: Option<&str>) -> bool {
        match self {
            Self::Anybody => true,
            Self::Verified(identity) => identity.may(access, bucket, key),
            Self::Anonymous(grants) => {
                key.is_some() && grants.iter().any(|grant| grant.allows(access, bucket, key))
            }
        }
    }

    /// The caller's own keys on main, if it has some.
    pub(super) fn main_keys(&self) -> Option<Arc<Credentials>> {
        let Self::Verified(identity) = self else { return None };
        let pair = identity.main_key_pair()?;
        Some(Arc::new(Credentials {
            access_key_id: pair.access_key_id.clone(),
            secret_access_key: Secret::new(pair.secret_access_key.expose()),
            session_token: None,
        }))
    }
}

impl AccessRules {
    /// Verifies the signature, if clients are verified. The request must be as it was received.
    pub(super) fn identify(&self, parts: &Parts, host: &str) -> Result<Caller, S3Error> {
        let Some(authenticator) = &self.authenticator else { return Ok(Caller::Anybody) };
        if parts.method == Method::OPTIONS {
            // Browsers sign no preflight, and what it tells is main's CORS rules.
            return Ok(Caller::Anybody);
        }
        let head = RequestHead {
            method: parts.method.as_str(),
            raw_path: parts.uri.path(),
            raw_query: parts.uri.query(),
            headers: &parts.headers,
            host,
            now: OffsetDateTime::now_utc(),
        };
        if let Some(grants) = authenticator.anonymous(&head) {
            return Ok(Caller::Anonymous(grants));
        }
        Ok(Caller::Verified(Box::new(authenticator.verify(&head)?)))
    }

    /// Holds a request to the rules; keys named in its body follow in [`AccessRules::check_key`].
    pub(super) fn check(
        &self,
        caller: &Caller,
        address: &Address,
        operation: Operation,
        headers: &HeaderMap,
    ) -> Result<(), S3Error> {
        let access = if operation.effect == Effect::Read { Access::Read } else { Access::Write };
        let bucket = address.bucket.as_deref();
        if matches!(caller, Caller::Anonymous(_)) {
            check_anonymous(address, operation)?;
        }
        // A listing shows what lies under its prefix; nothing else has one.
        let listing = LISTINGS.contains(&operation.name)
            && address.query.names().all(|name| LIST_PARAMETERS.contains(&name));
        let prefix = if listing {
            let mut prefixes = address.query.all("prefix");
            let prefix = prefixes.next();
            if prefixes.next().is_some() {
                return Err(AuthError::access_denied().into());
            }
            prefix
        } else {
            None
        };
        if operation.effect != Effect::Keys {
            self.check_key(caller, access, bucket, address.key.as_deref().or(prefix))?;
        } else if !self.allows_bucket(bucket) {
            return Err(AuthError::access_denied().into());
        }
        for name in ["x-amz-copy-source", "x-amz-rename-source"] {
            let Some(source) = find(headers, name) else { continue };
            let source = std::str::from_utf8(source.as_bytes()).ok().and_then(copy_source);
            let Some((source_bucket, source_key)) = source else {
                return Err(S3Error::new(
                    http::StatusCode::BAD_REQUEST,
                    "InvalidArgument",
                    "The copy source must be the name of a bucket and a key.",
                ));
            };
            self.check_key(caller, Access::Read, Some(&source_bucket), Some(&source_key))?;
        }
        Ok(())
    }

    /// May the caller do this to this key?
    pub(super) fn check_key(
        &self,
        caller: &Caller,
        access: Access,
        bucket: Option<&str>,
        key: Option<&str>,
    ) -> Result<(), S3Error> {
        if caller.may(access, bucket, key) && self.allows_bucket(bucket) {
            Ok(())
        } else {
            Err(AuthError::access_denied().into())
        }
    }

    fn allows_bucket(&self, bucket: Option<&str>) -> bool {
        let Some(bucket) = bucket else { return self.allowed_buckets.is_empty() };
        self.allowed_buckets.is_empty()
            || self.allowed_buckets.iter().any(|rule| match rule.strip_suffix('*') {
                Some(prefix) => bucket.starts_with(prefix),
                None => bucket == rule,
            })
    }
}

/// Nobody in particular reads objects, the newest versions of them, and nothing about them or about
/// buckets, whatever the request may come to mean.
fn check_anonymous(address: &Address, operation: Operation) -> Result<(), S3Error> {
    if address.query.names().any(|name| name.starts_with("response-")) {
        // It could turn an image into a page with scripts. S3 refuses it too.
        return Err(S3Error::invalid_request(
            "Request specific response headers cannot be used for anonymous GET requests.",
        ));
    }
    let reads = matches!(operation.name, "GetObject" | "HeadObject");
    if reads && address.query.names().all(|name| matches!(name, "partNumber" | "x-id")) {
        Ok(())
    } else {
        Err(AuthError::access_denied().into())
    }
}

/// Bucket and key of `[/]bucket/key[?versionId=..]`, percent-encoded or not.
fn copy_source(source: &str) -> Option<(String, String)> {
    let path = source.split_once("?versionId=").map_or(source, |(path, _)| path);
    let path = decode(path, false)?;
    let (bucket, key) = path.strip_prefix('/').unwrap_or(&path).split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then(|| (bucket.to_owned(), key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anybody() -> Caller {
        Caller::Anybody
    }

    #[test]
    fn a_copy_source_is_held_to_the_same_buckets() {
        let rules = AccessRules {
            authenticator: None,
            allowed_buckets: vec!["mine".into(), "team-*".into()],
        };
        let address = Address::parse("h", "/mine/k", None, &[]).unwrap();
        let mut headers = HeaderMap::new();
        for (source, allowed) in [
            ("/team-a/k", true),
            ("mine/a%2Fb?versionId=v", true),
            ("theirs/k", false),
            ("%74heirs/k", false),
            ("mine", false),
        ] {
            headers.insert("x-amz-copy-source", source.parse().unwrap());
            let operation = Operation::of(&http::Method::PUT, &address, &headers);
            let verdict = rules.check(&anybody(), &address, operation, &headers);
            assert_eq!(verdict.is_ok(), allowed, "{source}");
        }
    }

    #[test]
    fn nobody_in_particular_reads_granted_objects_and_nothing_else() {
        let rules = AccessRules { authenticator: None, allowed_buckets: Vec::new() };
        let grant = Grant::new("pub", vec!["a/".into()], true, false).unwrap();
        let nobody = Caller::Anonymous(Arc::new(vec![grant]));
        let code = |method: &Method, path: &str, query: Option<&str>| {
            let address = Address::parse("h", path, query, &[]).unwrap();
            let operation = Operation::of(method, &address, &HeaderMap::new());
            let verdict = rules.check(&nobody, &address, operation, &HeaderMap::new());
            verdict.map_or_else(|error| error.code, |()| "ok")
        };
        assert_eq!(code(&Method::GET, "/pub/a/k", None), "ok");
        assert_eq!(code(&Method::HEAD, "/pub/a/k", Some("partNumber=1")), "ok");
        for (method, path, query) in [
            (Method::GET, "/pub/b", None),
            (Method::GET, "/other/a/k", None),
            (Method::GET, "/pub", Some("prefix=a/")),
            (Method::GET, "/", None),
            (Method::GET, "/pub/a/k", Some("acl")),
            (Method::GET, "/pub/a/k", Some("versionId=v")),
            (Method::GET, "/pub/a/k", Some("invented")),
            (Method::POST, "/pub/a/k", Some("select&select-type=2")),
            (Method::PUT, "/pub/a/k", None),
            (Method::DELETE, "/pub/a/k", None),
            (Method::POST, "/pub", Some("delete")),
        ] {
            assert_eq!(code(&method, path, query), "AccessDenied", "{method} {path} {query:?}");
        }
        let typed = Some("response-content-type=text/html");
        assert_eq!(code(&Method::GET, "/pub/a/k", typed), "InvalidRequest");
    }

    #[test]
    fn a_bound_on_buckets_shuts_the_account_level_too() {
        let bound = AccessRules { authenticator: None, allowed_buckets: vec!["mine".into()] };
        assert!(bound.check_key(&anybody(), Access::Read, None, None).is_err());
        assert!(AccessRules::default().check_key(&anybody(), Access::Read, None, None).is_ok());
    }
}

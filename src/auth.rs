//! Who sends a request, and may they: verification of client signatures, for proxies that demand
//! them.
//!
//! Promises:
//! - An [`Identity`] is given out only for a request whose `SigV4` signature (header, presigned URL
//!   or POST policy) was made with the secret of a known client, for this very request, at an
//!   acceptable time.
//! - Every header that changes what the request does is covered by the signature: the proxy signs
//!   all it forwards with main's key, so an uncovered one would be an order nobody gave.
//! - Signatures are compared in constant time. No secret, signature or canonical request is in any
//!   error.
//! - New credentials take effect for the next request and as a whole; keys derived from old ones go
//!   with them.
//!
//! What the caller must still do, because it concerns the body or the meaning of a request:
//! - hold the body to [`Identity::payload`] (hash it, or decode it with
//!   [`Identity::chunk_verifier`]);
//! - ask [`Identity::may`] for everything the request touches: its bucket and key, the source of a
//!   copy, every key of a `DeleteObjects`, the prefix of a listing.
//!
//! Replay within the allowed time is possible, as it is with S3 itself.
//!
//! Pure but for [`CredentialsFile`], and the present time is always an argument.

mod canonical;
mod clock;
mod credentials;
mod error;
mod grant;
mod keys;
mod policy;
mod reload;
mod scope;
mod sigv4;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;

use crate::s3::chunked::{ChunkVerifier, PayloadMode, SigningKey, StreamingForm};
use keys::SigningKeys;
use sigv4::Claim;

pub use credentials::{Client, Credentials, CredentialsError, MainKeyPair, SecretAccessKey};
pub use error::AuthError;
pub use grant::{Access, Grant};
pub use policy::{FORM_FIELDS_MAX, PostForm, PostGrant};
pub use reload::{CredentialsFile, FILE_BYTES_MAX, POLL_INTERVAL};
pub use sigv4::{EXPIRES_SECONDS_MAX, Kind, RequestHead, SKEW_MAX};

/// Verifies client signatures against the present credentials.
#[derive(Debug)]
pub struct Authenticator {
    active: ArcSwap<Active>,
    region: Option<String>,
}

/// One generation of credentials and the keys derived from it.
#[derive(Debug)]
struct Active {
    credentials: Credentials,
    keys: SigningKeys,
}

/// Who signed a request, and what the signature binds.
#[derive(Clone, Debug)]
pub struct Identity {
    client: Arc<Client>,
    kind: Kind,
    payload: PayloadMode,
    chunks: Option<ChunkVerifier>,
}

impl Authenticator {
    /// Starts with these credentials. `region`: the only one signatures may be made for; any if
    /// `None`.
    pub fn new(credentials: Credentials, region: Option<String>) -> Self {
        Self { active: ArcSwap::from_pointee(Active::new(credentials)), region }
    }

    /// Puts other credentials in place. Requests already being verified finish with the old ones.
    pub fn replace(&self, credentials: Credentials) {
        self.active.store(Arc::new(Active::new(credentials)));
    }

    /// Whether there is a client with this access key ID now.
    pub fn knows(&self, access_key_id: &str) -> bool {
        self.active.load().credentials.client(access_key_id).is_some()
    }

    /// What a request without any signature may read, if it is one; nothing unless the file of
    /// clients says so.
    pub fn anonymous(&self, head: &RequestHead<'_>) -> Option<Arc<Vec<Grant>>> {
        let active = self.active.load();
        let grants = active.credentials.anonymous();
        (!grants.is_empty() && sigv4::is_unsigned(head)).then(|| grants.clone())
    }

    /// Verifies a request signed in its `Authorization` header or in its query.
    ///
    /// An upload by HTML form has its signature in the body: see [`Self::verify_post`].
    pub fn verify(&self, head: &RequestHead<'_>) -> Result<Identity, AuthError> {
        let claim = Claim::read(head)?;
        claim.scope.check_region(claim.kind, self.region.as_deref())?;
        let active = self.active.load_full();
        let client = active.client(claim.scope.access_key_id())?;
        claim.check_time(head.now)?;
        claim.check_signed_headers(head.headers)?;
        let key = active.signing_key(&client, &claim.scope, |key| claim.is_signed_by(key, head))?;
        let chunks = match claim.payload {
            PayloadMode::Streaming(StreamingForm::Signed | StreamingForm::SignedTrailer) => {
                let (date, scope) = (claim.amz_date, claim.scope.text().to_owned());
                Some(ChunkVerifier::new(key, date, scope, claim.signature))
            }
            _ => None,
        };
        Ok(Identity { client, kind: claim.kind, payload: claim.payload, chunks })
    }

    /// Verifies an upload by HTML form: its policy's signature, validity and conditions.
    ///
    /// `fields` are the form's fields before `file`, in order; `bucket` is the one the form was
    /// sent to. `${filename}` in the key must have been replaced before.
    pub fn verify_post(
        &self,
        form: &PostForm<'_>,
        now: OffsetDateTime,
    ) -> Result<PostGrant, AuthError> {
        let claim = form.claim(now)?;
        claim.scope.check_region(Kind::PostPolicy, self.region.as_deref())?;
        let active = self.active.load_full();
        let client = active.client(claim.scope.access_key_id())?;
        active.signing_key(&client, &claim.scope, |key| claim.is_signed_by(key))?;
        let content_length = form.check_policy(claim.policy, now)?;
        let payload = PayloadMode::Unsigned;
        let identity = Identity { client, kind: Kind::PostPolicy, payload, chunks: None };
        Ok(PostGrant { identity, content_length })
    }
}

impl Active {
    fn new(credentials: Credentials) -> Self {
        Self { credentials, keys: SigningKeys::default() }
    }

    fn client(&self, access_key_id: &str) -> Result<Arc<Client>, AuthError> {
        let client = self.credentials.client(access_key_id).cloned();
        client.ok_or_else(AuthError::unknown_access_key)
    }

    /// The client's key for a scope, if `verifies` accepts it; kept for later only then.
    fn signing_key(
        &self,
        client: &Client,
        scope: &scope::Scope<'_>,
        verifies: impl FnOnce(&SigningKey) -> bool,
    ) -> Result<SigningKey, AuthError> {
        let (id, date, region) = (&client.access_key_id, scope.date(), scope.region());
        let kept = self.keys.get(id, date, region);
        let is_kept = kept.is_some();
        let key = kept.unwrap_or_else(|| {
            let secret = client.secret_access_key.expose();
            SigningKey::derive(secret, date, region, scope::SERVICE)
        });
        if !verifies(&key) {
            return Err(AuthError::signature_mismatch());
        }
        if !is_kept {
            self.keys.keep(id, date, region, key.clone());
        }
        Ok(key)
    }
}

impl Identity {
    /// The client's access key ID.
    pub fn access_key_id(&self) -> &str {
        &self.client.access_key_id
    }

    /// How the request was signed.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the signature says about the body; the caller must hold the body to it.
    ///
    /// For a presigned URL it may stand in the query, and is never a streaming one. How the body is
    /// framed is the headers' business ([`PayloadMode::from_headers`]).
    pub fn payload(&self) -> PayloadMode {
        self.payload
    }

    /// The verifier of the body's chunks, if the payload is one with signed chunks.
    pub fn chunk_verifier(&self) -> Option<ChunkVerifier> {
        self.chunks.clone()
    }

    /// The client's own key pair on main, if it has one.
    pub fn main_key_pair(&self) -> Option<&MainKeyPair> {
        self.client.main.as_ref()
    }

    /// Whether the client may do this; see [`Grant::allows`] for requests without bucket or key.
    pub fn may(&self, access: Access, bucket: Option<&str>, key: Option<&str>) -> bool {
        self.client.may(access, bucket, key)
    }
}

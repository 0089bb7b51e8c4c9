//! Signatures over chunks and trailers: each one signs the previous one, starting from the
//! signature of the request head (AWS: "Signature calculations for the authorization header:
//! transferring payload in multiple chunks").
//!
//! Promises: comparisons take constant time; keys cannot be displayed; data is hashed as it passes.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// SHA-256 of nothing: every chunk's string to sign contains it where a head would have its
/// headers.
const EMPTY_SHA256_HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The `SigV4` signing key of one secret access key for one day, region and service.
///
/// Holds the keyed HMAC state, never the secret itself; cannot be displayed.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Derives the key. `date` is `yyyymmdd`.
    pub fn derive(secret_access_key: &str, date: &str, region: &str, service: &str) -> Self {
        let initial = format!("AWS4{secret_access_key}");
        let mut key = Self::keyed(initial.as_bytes());
        for part in [date, region, service, "aws4_request"] {
            key = Self::keyed(&key.sign(part.as_bytes()));
        }
        key
    }

    /// HMAC-SHA256 of `message` under this key.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// Whether `signature` is the HMAC of `message`; takes constant time for any 32 bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8; 32]) -> bool {
        self.0.clone().chain_update(message).verify(signature.into()).is_ok()
    }

    fn keyed(key: &[u8]) -> Self {
        // An HMAC key longer than a block is replaced by its digest (RFC 2104), so that a key of
        // any length becomes one whole block here and no length can be refused.
        let mut block = [0u8; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Self(Hmac::new(&block.into()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// Verifies the chain of signatures of one signed streaming body.
#[derive(Clone)]
pub struct ChunkVerifier {
    key: SigningKey,
    amz_date: String,
    scope: String,
    previous: [u8; 32],
    chunk: Sha256,
}

impl ChunkVerifier {
    /// Starts the chain.
    ///
    /// `amz_date` is the request's time as signed (`yyyymmddThhmmssZ`), `scope` its credential
    /// scope (`yyyymmdd/region/s3/aws4_request`), `seed_signature` the verified signature of its
    /// head.
    pub fn new(key: SigningKey, amz_date: String, scope: String, seed_signature: [u8; 32]) -> Self {
        Self { key, amz_date, scope, previous: seed_signature, chunk: Sha256::new() }
    }

    /// Adds data of the current chunk.
    pub(super) fn update(&mut self, data: &[u8]) {
        self.chunk.update(data);
    }

    /// Ends the current chunk: whether `signature` is the right one for it.
    pub(super) fn finish_chunk(&mut self, signature: &[u8; 32]) -> bool {
        let hash = hex::encode(self.chunk.finalize_reset());
        let tail = format!("{EMPTY_SHA256_HEX}\n{hash}");
        self.verify_next("AWS4-HMAC-SHA256-PAYLOAD", &tail, signature)
    }

    /// Whether `signature` is the right one for the trailer lines, each `name:value\n`.
    pub(super) fn finish_trailer(&mut self, lines: &[u8], signature: &[u8; 32]) -> bool {
        let hash = hex::encode(Sha256::digest(lines));
        self.verify_next("AWS4-HMAC-SHA256-TRAILER", &hash, signature)
    }

    fn verify_next(&mut self, label: &str, tail: &str, signature: &[u8; 32]) -> bool {
        let previous = hex::encode(self.previous);
        let text = format!("{label}\n{}\n{}\n{previous}\n{tail}", self.amz_date, self.scope);
        self.previous = *signature;
        self.key.verify(text.as_bytes(), signature)
    }
}

impl fmt::Debug for ChunkVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Signatures have no place in a log, the seed included.
        f.debug_struct("ChunkVerifier").field("scope", &self.scope).finish_non_exhaustive()
    }
}

//! Signing a body chunk by chunk, each one together with the signature before it.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use super::hex;

/// SHA-256 of nothing.
const EMPTY_SHA256: [u8; 64] = *b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Goes on where the signature of the head ended.
pub(in super::super) struct ChunkSigner {
    /// HMAC under the derived key, with nothing in it yet.
    mac: Hmac<Sha256>,
    /// Time and scope, as they stand in every text that is signed.
    context: String,
    /// Hexadecimal.
    previous: [u8; 64],
}

impl ChunkSigner {
    pub(super) fn new(mac: Hmac<Sha256>, stamp: &str, scope: &str, seed: [u8; 64]) -> Self {
        Self { mac, context: format!("{stamp}\n{scope}\n"), previous: seed }
    }

    /// The signature of the next chunk.
    pub(in super::super) fn chunk(&mut self, hash: [u8; 32]) -> &str {
        self.next(b"AWS4-HMAC-SHA256-PAYLOAD\n", &[&EMPTY_SHA256[..], b"\n", &hex(hash)])
    }

    /// The signature of the trailer; each of its lines ends with a line feed.
    pub(in super::super) fn trailer(&mut self, lines: &[u8]) -> &str {
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

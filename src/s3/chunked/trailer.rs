//! The section behind the last chunk: `name:value` lines, a signature line in the signed form.
//!
//! Only one announced checksum is accepted, which is also S3's rule; everything else is refused, so
//! that no integrity value is ever dropped without having been looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::ChunkedError;
use super::payload::StreamingForm;
use super::signature::ChunkVerifier;
use crate::s3::checksum::{ChecksumAlgorithm, Hasher};

/// The last line of a signed trailer.
const SIGNATURE_NAME: &str = "x-amz-trailer-signature";

/// What a complete body said behind its last chunk; all of it verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// The checksum that was announced, sent and found to be right.
    pub checksum: Option<TrailerChecksum>,
    /// The size of the body without framing, in bytes.
    pub decoded_bytes: u64,
}

/// A verified checksum, ready to be sent on as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailerChecksum {
    /// The algorithm; its header is [`ChecksumAlgorithm::header_name`].
    pub algorithm: ChecksumAlgorithm,
    /// The value as S3 writes it (base64).
    pub value: String,
}

/// Picks the checksum to verify from the names `x-amz-trailer` announces.
pub(super) fn announced_checksum(names: &[&str]) -> Result<Option<Hasher>, ChunkedError> {
    let mut found = None;
    for name in names {
        let algorithm = ChecksumAlgorithm::from_header_name(name)
            .ok_or(ChunkedError::UnsupportedTrailer("not a checksum known here"))?;
        let hasher = algorithm
            .hasher()
            .ok_or(ChunkedError::UnsupportedTrailer("this checksum algorithm is not supported"))?;
        if found.replace(hasher).is_some() {
            return Err(ChunkedError::UnsupportedTrailer("more than one checksum"));
        }
    }
    Ok(found)
}

/// The lines of one trailer section as they come in.
#[derive(Debug, Default)]
pub(super) struct TrailerSection {
    /// The checksum line's value, decoded.
    value: Option<Vec<u8>>,
    signature: Option<[u8; 32]>,
    /// What the trailer's signature covers.
    signed_lines: Vec<u8>,
}

impl TrailerSection {
    /// Takes one line, without its line end, not empty.
    pub(super) fn line(
        &mut self,
        line: &[u8],
        form: StreamingForm,
        expected: Option<ChecksumAlgorithm>,
    ) -> Result<(), ChunkedError> {
        if !form.may_have_trailer() {
            return Err(ChunkedError::MalformedTrailer("this payload mode has no trailer"));
        }
        if self.signature.is_some() {
            return Err(ChunkedError::MalformedTrailer("the signature is not the last line"));
        }
        let text = std::str::from_utf8(line)
            .map_err(|_| ChunkedError::MalformedTrailer("a line is not text"))?;
        let (name, value) =
            text.split_once(':').ok_or(ChunkedError::MalformedTrailer("a line has no colon"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == SIGNATURE_NAME {
            return self.signature_line(value, form);
        }
        let algorithm = expected
            .filter(|algorithm| algorithm.header_name() == name)
            .ok_or(ChunkedError::MalformedTrailer("a line was not announced"))?;
        if self.value.is_some() {
            return Err(ChunkedError::MalformedTrailer("a line is repeated"));
        }
        let bytes =
            STANDARD.decode(value).map_err(|_| ChunkedError::InvalidChecksumValue(algorithm))?;
        self.value = Some(bytes);
        self.signed_lines.extend_from_slice(format!("{name}:{value}\n").as_bytes());
        Ok(())
    }

    /// The section is complete: checks its signature, then its checksum against the body's.
    pub(super) fn finish(
        self,
        form: StreamingForm,
        verifier: Option<&mut ChunkVerifier>,
        computed: Option<Hasher>,
    ) -> Result<Option<TrailerChecksum>, ChunkedError> {
        if let Some(verifier) = verifier
            && form == StreamingForm::SignedTrailer
        {
            let signature = self.signature.ok_or(ChunkedError::SignatureMismatch)?;
            if !verifier.finish_trailer(&self.signed_lines, &signature) {
                return Err(ChunkedError::SignatureMismatch);
            }
        }
        let Some(hasher) = computed else {
            return Ok(None);
        };
        let sent =
            self.value.ok_or(ChunkedError::MalformedTrailer("an announced line is missing"))?;
        let algorithm = hasher.algorithm();
        let bytes = hasher.finish_bytes();
        if sent.len() != bytes.len() {
            return Err(ChunkedError::InvalidChecksumValue(algorithm));
        }
        if sent != bytes {
            return Err(ChunkedError::BadDigest(algorithm));
        }
        Ok(Some(TrailerChecksum { algorithm, value: STANDARD.encode(bytes) }))
    }

    fn signature_line(&mut self, value: &str, form: StreamingForm) -> Result<(), ChunkedError> {
        if form == StreamingForm::UnsignedTrailer {
            return Err(ChunkedError::MalformedTrailer("this payload mode has no signatures"));
        }
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(value, &mut bytes)
            .map_err(|_| ChunkedError::MalformedTrailer("the signature is not 64 hex digits"))?;
        self.signature = Some(bytes);
        Ok(())
    }
}

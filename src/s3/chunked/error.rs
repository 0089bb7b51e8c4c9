//! What can be wrong with an aws-chunked body or the headers that announce it, in S3's terms.

use crate::s3::checksum::ChecksumAlgorithm;

/// Why a body cannot be accepted. The text of each variant is the S3 message; none holds a
/// signature, a checksum value or bytes of the body, so all of it may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// The input ended early, the framing is malformed, or the decoded size is not the announced
    /// one.
    #[error("The request body terminated unexpectedly: {0}")]
    IncompleteBody(&'static str),
    /// A chunk other than the last is smaller than the limit the caller asked for.
    #[error("Only the last chunk is allowed to have a size less than 8192 bytes")]
    InvalidChunkSize,
    /// The section behind the last chunk is malformed, incomplete, too long or not as announced.
    #[error(
        "The request contained trailing data that was not well-formed or did not conform to our \
         published schema: {0}"
    )]
    MalformedTrailer(&'static str),
    /// `x-amz-trailer` announces something that cannot be verified here: an unknown checksum
    /// algorithm, a header that is no checksum, or several checksums. Raised before any byte is
    /// read.
    #[error("The value specified in the x-amz-trailer header is not supported: {0}")]
    UnsupportedTrailer(&'static str),
    /// The trailer's value is not base64 of the algorithm's length.
    #[error("Value for {} trailing header is invalid.", .0.header_name())]
    InvalidChecksumValue(ChecksumAlgorithm),
    /// The trailer's checksum is not that of the bytes received.
    #[error("The {0} you specified did not match the calculated checksum.")]
    BadDigest(ChecksumAlgorithm),
    /// The signature of a chunk or of the trailer is wrong or missing.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         key and signing method."
    )]
    SignatureMismatch,
    /// A header that describes the payload cannot be understood.
    #[error("The value of the {0} header is not valid")]
    InvalidHeader(&'static str),
    /// The payload is signed with an asymmetric key (`SigV4A`).
    #[error("A header you provided implies functionality that is not implemented")]
    NotImplemented,
}

impl ChunkedError {
    /// The S3 error code.
    pub fn s3_code(&self) -> &'static str {
        match self {
            Self::IncompleteBody(_) => "IncompleteBody",
            Self::InvalidChunkSize => "InvalidChunkSizeError",
            Self::MalformedTrailer(_) => "MalformedTrailerError",
            Self::UnsupportedTrailer(_) | Self::InvalidChecksumValue(_) => "InvalidRequest",
            Self::BadDigest(_) => "BadDigest",
            Self::SignatureMismatch => "SignatureDoesNotMatch",
            Self::InvalidHeader(_) => "InvalidArgument",
            Self::NotImplemented => "NotImplemented",
        }
    }

    /// The HTTP status that belongs to [`s3_code`](Self::s3_code).
    pub fn status(&self) -> u16 {
        match self {
            Self::SignatureMismatch => 403,
            Self::NotImplemented => 501,
            _ => 400,
        }
    }
}

//! How the head of a request describes its body: payload mode, decoded length, announced trailers.
//!
//! Decided by headers alone, never by looking at the body: an object may well contain bytes that
//! look like chunk framing.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, HeaderValue};

use super::error::ChunkedError;
use crate::s3::headers::find_all;

/// Carries the payload mode; absent on anonymous requests of some clients.
const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// The size of the body without its framing.
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
/// The names of the trailers behind the last chunk.
const TRAILER: &str = "x-amz-trailer";
/// The content coding that stands for the framing; it never belongs to the stored object.
const AWS_CHUNKED: &str = "aws-chunked";

/// What `x-amz-content-sha256` says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadMode {
    /// No such header; the body is as it is.
    Absent,
    /// `UNSIGNED-PAYLOAD`; the body is as it is.
    Unsigned,
    /// The SHA-256 of the body, which is as it is.
    Hex([u8; 32]),
    /// The body is framed and must go through a [`ChunkedDecoder`](super::ChunkedDecoder).
    Streaming(StreamingForm),
}

/// The forms of aws-chunked framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamingForm {
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: every chunk signed, no trailer.
    Signed,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`: chunks and trailer signed.
    SignedTrailer,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: nothing signed, trailer allowed.
    UnsignedTrailer,
    /// Framing announced by `Content-Encoding: aws-chunked` alone (anonymous clients drop the other
    /// header): signatures and trailers may be there or not, and are never verifiable.
    Undeclared,
    /// `STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD` (`SigV4A`); recognised, not implemented.
    Ecdsa,
    /// `STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER` (`SigV4A`); recognised, not implemented.
    EcdsaTrailer,
}

impl StreamingForm {
    /// Whether every chunk must carry a signature.
    pub fn has_signatures(self) -> bool {
        matches!(self, Self::Signed | Self::SignedTrailer | Self::Ecdsa | Self::EcdsaTrailer)
    }

    /// Whether a trailer may follow the last chunk.
    pub fn may_have_trailer(self) -> bool {
        !matches!(self, Self::Signed | Self::Ecdsa)
    }

    /// Whether the caller should answer 501: signatures with asymmetric keys.
    pub fn is_sigv4a(self) -> bool {
        matches!(self, Self::Ecdsa | Self::EcdsaTrailer)
    }
}

impl PayloadMode {
    /// Reads the payload mode of a request.
    ///
    /// The content coding counts only where no hash of the body contradicts it and another header
    /// of the framing confirms it: clients do store objects with a stray `aws-chunked` (observed in
    /// the ceph/s3-tests suite), while anonymous ones drop `x-amz-content-sha256` and keep the
    /// framing.
    ///
    /// Errors: [`ChunkedError::InvalidHeader`] for a value outside S3's list, or several values.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, ChunkedError> {
        let framed = has_aws_chunked(headers)
            && (headers.contains_key(DECODED_LENGTH) || headers.contains_key(TRAILER));
        let mode = match only_value(headers, CONTENT_SHA256)? {
            None => Self::Absent,
            Some(value) => Self::parse(value)?,
        };
        Ok(match mode {
            Self::Absent | Self::Unsigned if framed => Self::Streaming(StreamingForm::Undeclared),
            mode => mode,
        })
    }

    /// Reads one value of `x-amz-content-sha256`.
    pub fn parse(value: &str) -> Result<Self, ChunkedError> {
        Ok(match value {
            "UNSIGNED-PAYLOAD" => Self::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Self::Streaming(StreamingForm::Signed),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
                Self::Streaming(StreamingForm::SignedTrailer)
            }
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Self::Streaming(StreamingForm::UnsignedTrailer),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" => Self::Streaming(StreamingForm::Ecdsa),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => {
                Self::Streaming(StreamingForm::EcdsaTrailer)
            }
            hash => {
                let mut bytes = [0u8; 32];
                hex::decode_to_slice(hash, &mut bytes)
                    .map_err(|_| ChunkedError::InvalidHeader(CONTENT_SHA256))?;
                Self::Hex(bytes)
            }
        })
    }
}

/// The decoded size a framed request announces, in bytes; `None` if it does not.
pub fn decoded_content_length(headers: &HeaderMap) -> Result<Option<u64>, ChunkedError> {
    let Some(value) = only_value(headers, DECODED_LENGTH)? else {
        return Ok(None);
    };
    // `u64::from_str` would take a leading plus sign.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = value.parse().ok().filter(|_| digits);
    length.map(Some).ok_or(ChunkedError::InvalidHeader(DECODED_LENGTH))
}

/// The trailers a request announces, in order; blanks around names are removed.
pub fn announced_trailers(headers: &HeaderMap) -> Result<Vec<&str>, ChunkedError> {
    let mut names = Vec::new();
    for value in headers.get_all(TRAILER) {
        let value = value.to_str().map_err(|_| ChunkedError::InvalidHeader(TRAILER))?;
        names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    Ok(names)
}

/// Removes what describes the framing from the headers of a request whose body has been decoded:
/// the `aws-chunked` tokens of `Content-Encoding` wherever they stand, the decoded length, the
/// trailer names.
///
/// Other content codings stay as they were; the header disappears when nothing is left of it.
pub fn strip_framing_headers(headers: &mut HeaderMap) {
    headers.remove(DECODED_LENGTH);
    headers.remove(TRAILER);
    if !has_aws_chunked(headers) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| {
            let tokens: Vec<&[u8]> = value
                .as_bytes()
                .split(|byte| *byte == b',')
                .filter(|t| !is_aws_chunked(t))
                .collect();
            let rest = tokens.join(&b',');
            // A subset of a valid value is valid; an impossible failure drops the coding's header.
            HeaderValue::from_bytes(rest.trim_ascii()).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(CONTENT_ENCODING);
    for value in kept {
        headers.append(CONTENT_ENCODING, value);
    }
}

fn has_aws_chunked(headers: &HeaderMap) -> bool {
    let mut values = find_all(headers, CONTENT_ENCODING.as_str());
    values.any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_aws_chunked))
}

fn is_aws_chunked(token: &[u8]) -> bool {
    token.trim_ascii().eq_ignore_ascii_case(AWS_CHUNKED.as_bytes())
}

/// The value of a header that may occur once only; two of them would let two readers disagree.
fn only_value<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> Result<Option<&'h str>, ChunkedError> {
    let mut values = find_all(headers, name);
    let first = values.next();
    if values.next().is_some() {
        return Err(ChunkedError::InvalidHeader(name));
    }
    let Some(value) = first else { return Ok(None) };
    let text = value.to_str().map_err(|_| ChunkedError::InvalidHeader(name))?;
    Ok(Some(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn mode(list: &[(&'static str, &'static str)]) -> Result<PayloadMode, ChunkedError> {
        PayloadMode::from_headers(&headers(list))
    }

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_payload_mode_is_recognised() {
        assert_eq!(mode(&[]), Ok(PayloadMode::Absent));
        assert_eq!(mode(&[(CONTENT_SHA256, "UNSIGNED-PAYLOAD")]), Ok(PayloadMode::Unsigned));
        let Ok(PayloadMode::Hex(hash)) = mode(&[(CONTENT_SHA256, EMPTY)]) else {
            panic!("no hash")
        };
        assert_eq!(hex::encode(hash), EMPTY);
        for (value, form) in [
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", StreamingForm::Signed),
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", StreamingForm::SignedTrailer),
            ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", StreamingForm::UnsignedTrailer),
            ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", StreamingForm::Ecdsa),
            ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", StreamingForm::EcdsaTrailer),
        ] {
            // minio-go sends no Content-Encoding with its signed chunks; the others do.
            assert_eq!(mode(&[(CONTENT_SHA256, value)]), Ok(PayloadMode::Streaming(form)));
            let with_coding = [(CONTENT_SHA256, value), ("content-encoding", "aws-chunked")];
            assert_eq!(mode(&with_coding), Ok(PayloadMode::Streaming(form)));
        }
    }

    #[test]
    fn unknown_or_repeated_hash_headers_are_refused() {
        for value in ["", "STREAMING-UNSIGNED-PAYLOAD", "unsigned-payload", "e3b0c442"] {
            let error = mode(&[(CONTENT_SHA256, value)]).unwrap_err();
            assert_eq!((error.s3_code(), error.status()), ("InvalidArgument", 400));
        }
        let twice = [(CONTENT_SHA256, EMPTY), (CONTENT_SHA256, "UNSIGNED-PAYLOAD")];
        assert!(mode(&twice).is_err());
    }

    #[test]
    fn framing_without_a_hash_header_needs_a_second_witness() {
        let framed = Ok(PayloadMode::Streaming(StreamingForm::Undeclared));
        let coding = ("content-encoding", "gzip, AWS-Chunked");
        assert_eq!(mode(&[coding, (DECODED_LENGTH, "5")]), framed);
        assert_eq!(mode(&[coding, (TRAILER, "x-amz-checksum-crc32")]), framed);
        assert_eq!(mode(&[coding]), Ok(PayloadMode::Absent));
        assert_eq!(mode(&[(DECODED_LENGTH, "5")]), Ok(PayloadMode::Absent));
        let hashed = mode(&[coding, (DECODED_LENGTH, "5"), (CONTENT_SHA256, EMPTY)]);
        assert!(matches!(hashed, Ok(PayloadMode::Hex(_))));
    }

    #[test]
    fn decoded_length_is_a_plain_number_up_to_u64() {
        let length = |value| decoded_content_length(&headers(&[(DECODED_LENGTH, value)]));
        assert_eq!(length("0"), Ok(Some(0)));
        assert_eq!(length("18446744073709551615"), Ok(Some(u64::MAX)));
        for value in ["", "+5", "-1", "5 5", "0x5", "18446744073709551616"] {
            assert!(length(value).is_err(), "{value:?}");
        }
        assert_eq!(decoded_content_length(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn stripping_leaves_only_the_codings_of_the_object() {
        for (sent, kept) in [
            (&["aws-chunked"][..], &[][..]),
            (&["aws-chunked,gzip"], &["gzip"]),
            (&["gzip, aws-chunked"], &["gzip"]),
            (&["aws-chunked, gzip, AWS-CHUNKED"], &["gzip"]),
            (&["gzip, deflate , aws-chunked"], &["gzip, deflate"]),
            (&["aws-chunked", "gzip"], &["gzip"]),
            (&["gzip ,  br"], &["gzip ,  br"]),
        ] {
            let mut map = headers(&[(DECODED_LENGTH, "1"), (TRAILER, "x-amz-checksum-crc32")]);
            for value in sent {
                map.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            strip_framing_headers(&mut map);
            let left: Vec<_> = map.get_all(CONTENT_ENCODING).iter().collect();
            assert_eq!(left, kept, "{sent:?}");
            assert_eq!(map.len(), kept.len());
        }
    }
}

//! The answers that are not success: how this store builds S3 errors.
//!
//! A client sees a code and a plain sentence. What really failed inside (a path, an SQL text) is
//! logged here, once, and never put into a response.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode, StdError};

/// What every operation of the store returns.
pub(super) type Answer<T> = Result<T, S3Error>;

/// An error with a code that `s3s` knows, and therefore its HTTP status.
pub(super) fn refuse(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// An error with a code of S3 that `s3s` has no name for.
pub(super) fn refuse_as(code: &str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = refuse(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// 400 `InvalidRequest`, S3's word for "these parts of the request do not fit together".
pub(super) fn invalid(message: impl Into<String>) -> S3Error {
    refuse(S3ErrorCode::InvalidRequest, message)
}

/// 501 `NotImplemented`: S3 has it, this store has not.
pub(super) fn unsupported(what: &str) -> S3Error {
    refuse(S3ErrorCode::NotImplemented, format!("This store does not implement {what}."))
}

/// 500 `InternalError`. The cause is logged, not sent.
pub(super) fn internal(doing: &str, cause: impl std::fmt::Display) -> S3Error {
    tracing::error!(doing, error = %cause, "the embedded store failed");
    refuse(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
}

pub(super) fn no_such_bucket() -> S3Error {
    refuse(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist.")
}

pub(super) fn no_such_key() -> S3Error {
    refuse(S3ErrorCode::NoSuchKey, "The specified key does not exist.")
}

pub(super) fn no_such_upload() -> S3Error {
    refuse(
        S3ErrorCode::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed.",
    )
}

pub(super) fn precondition_failed() -> S3Error {
    refuse(
        S3ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold.",
    )
}

pub(super) fn incomplete_body() -> S3Error {
    refuse(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

pub(super) fn bad_digest(what: &str) -> S3Error {
    refuse(
        S3ErrorCode::BadDigest,
        format!("The {what} you specified did not match the calculated checksum."),
    )
}

/// Why reading a request body failed.
///
/// `s3s` checks the payload hash and the chunk signatures inside the body stream, and its error
/// types are private, so their texts are all there is to tell a forged body from a short one.
pub(super) fn body_fault(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("SignatureMismatch") {
        return refuse(
            S3ErrorCode::SignatureDoesNotMatch,
            "The signature of a chunk does not match the one calculated from its data.",
        );
    }
    if text.contains("Sha256Mismatch") {
        return refuse_as(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    if text.contains(super::framing::SMALL_CHUNK) {
        return refuse_as(
            "InvalidChunkSizeError",
            StatusCode::FORBIDDEN,
            "Only the last chunk is allowed to have a size less than 8192 bytes",
        );
    }
    incomplete_body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_fault_keeps_forgery_and_truncation_apart() {
        let code = |text: &str| body_fault(&text.into()).code().as_str().to_owned();
        assert_eq!(code("AwsChunkedStreamError: SignatureMismatch"), "SignatureDoesNotMatch");
        assert_eq!(code("UploadStreamError: Sha256Mismatch"), "XAmzContentSHA256Mismatch");
        assert_eq!(code("connection reset"), "IncompleteBody");
    }
}

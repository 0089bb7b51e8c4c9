//! Errors the proxy itself answers, as S3 XML with the code a client knows.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use crate::auth::AuthError;
use crate::s3::address::AddressError;
use crate::s3::chunked::ChunkedError;
use crate::s3::form::FormError;
use crate::s3::xml::{MalformedXml, error_document};
use crate::upstream::WireError;

/// An error in S3's terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct S3Error {
    /// HTTP status.
    pub status: StatusCode,
    /// S3 error code.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Further elements of the document.
    pub elements: Vec<(&'static str, String)>,
}

impl S3Error {
    /// Makes an error.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), elements: Vec::new() }
    }

    /// The request as a whole is wrong.
    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    /// S3 has it, we do not.
    pub(super) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// Clients retry this with backoff.
    pub(super) fn slow_down(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message)
    }

    /// Main cannot be reached; nothing happened.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Something failed under way.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The client's body broke off.
    pub(super) fn incomplete(error: &impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            format!("The request body terminated unexpectedly: {error}"),
        )
    }

    /// Adds an element to the document.
    pub(super) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.elements.push((name, text.into()));
        self
    }

    /// The error as a response, without body for `HEAD`.
    pub(super) fn response(&self, resource: &str, request_id: &str, head: bool) -> Response<Bytes> {
        let xml = error_document(self.code, &self.message, resource, request_id, &self.elements);
        let mut response = Response::new(if head { Bytes::new() } else { Bytes::from(xml) });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-amz-request-id", id);
        }
        response
    }
}

impl From<AddressError> for S3Error {
    fn from(error: AddressError) -> Self {
        let code = match error {
            AddressError::InvalidUri => "InvalidURI",
            AddressError::KeyTooLong => "KeyTooLongError",
            AddressError::InvalidBucketName => "InvalidBucketName",
        };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }
}

impl From<ChunkedError> for S3Error {
    fn from(error: ChunkedError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, error.s3_code(), error.to_string())
    }
}

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::FORBIDDEN);
        let elements = error.elements().to_vec();
        Self { elements, ..Self::new(status, error.s3_code(), error.message()) }
    }
}

/// An answer of main's that broke off.
impl From<WireError> for S3Error {
    fn from(error: WireError) -> Self {
        Self::internal(format!("The answer of the storage broke off: {error}"))
    }
}

impl From<FormError> for S3Error {
    fn from(error: FormError) -> Self {
        let code = match error {
            FormError::Boundary | FormError::Malformed => "MalformedPOSTRequest",
            FormError::HeadTooLong => "MaxPostPreDataLengthExceeded",
            FormError::NoFile => "InvalidArgument",
            FormError::Truncated => "IncompleteBody",
        };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }
}

impl From<MalformedXml> for S3Error {
    fn from(error: MalformedXml) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", error.to_string())
    }
}

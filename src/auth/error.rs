//! Why a request is not let in, in S3's terms.

use std::borrow::Cow;
use std::time::Duration;

use super::sigv4::Kind;

/// A refusal: code, status and message as S3 words them, and the elements S3 adds to the body.
///
/// Holds no signature, secret or canonical request; all of it may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AuthError {
    code: &'static str,
    status: u16,
    message: Cow<'static, str>,
    elements: Vec<(&'static str, String)>,
}

impl AuthError {
    /// The S3 error code.
    pub fn s3_code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The text of the `Message` element, not yet escaped for XML.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Further elements of the error body, name and text; the text is not yet escaped for XML and
    /// may come from the request.
    pub fn elements(&self) -> &[(&'static str, String)] {
        &self.elements
    }

    fn new(code: &'static str, status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status, message: message.into(), elements: Vec::new() }
    }

    fn with(mut self, name: &'static str, text: String) -> Self {
        self.elements.push((name, text));
        self
    }

    /// No credentials, or credentials that do not reach this far.
    pub fn access_denied() -> Self {
        Self::new("AccessDenied", 403, "Access Denied")
    }

    pub(super) fn unknown_access_key() -> Self {
        let message = "The AWS Access Key Id you provided does not exist in our records.";
        Self::new("InvalidAccessKeyId", 403, message)
    }

    pub(super) fn signature_mismatch() -> Self {
        let message = "The request signature we calculated does not match the signature you \
                       provided. Check your key and signing method.";
        Self::new("SignatureDoesNotMatch", 403, message)
    }

    pub(super) fn malformed(kind: Kind, why: impl Into<Cow<'static, str>>) -> Self {
        match kind {
            Kind::Header => {
                let message = format!("The authorization header is malformed; {}", why.into());
                Self::new("AuthorizationHeaderMalformed", 400, message)
            }
            Kind::Presigned => Self::new("AuthorizationQueryParametersError", 400, why),
            Kind::PostPolicy => Self::new("InvalidArgument", 400, why),
        }
    }

    pub(super) fn wrong_region(kind: Kind, sent: &str, expected: &str) -> Self {
        let why = format!("the region '{sent}' is wrong; expecting '{expected}'");
        Self::malformed(kind, why).with("Region", expected.to_owned())
    }

    pub(super) fn no_date() -> Self {
        let message = "AWS authentication requires a valid Date or x-amz-date header";
        Self::new("AccessDenied", 403, message)
    }

    pub(super) fn too_skewed(request_time: String, server_time: String, max: Duration) -> Self {
        let message = "The difference between the request time and the current time is too large.";
        Self::new("RequestTimeTooSkewed", 403, message)
            .with("RequestTime", request_time)
            .with("ServerTime", server_time)
            .with("MaxAllowedSkewMilliseconds", max.as_millis().to_string())
    }

    pub(super) fn expired(expires_seconds: u64, expires_at: String, server_time: String) -> Self {
        Self::new("AccessDenied", 403, "Request has expired")
            .with("X-Amz-Expires", expires_seconds.to_string())
            .with("Expires", expires_at)
            .with("ServerTime", server_time)
    }

    pub(super) fn not_yet_valid(server_time: String) -> Self {
        Self::new("AccessDenied", 403, "Request is not valid yet").with("ServerTime", server_time)
    }

    pub(super) fn headers_not_signed(names: &[&str]) -> Self {
        let message = "There were headers present in the request which were not signed";
        Self::new("AccessDenied", 403, message).with("HeadersNotSigned", names.join(", "))
    }

    pub(super) fn sigv2() -> Self {
        let message = "The authorization mechanism you have provided is not supported. \
                       Please use AWS4-HMAC-SHA256.";
        Self::new("InvalidRequest", 400, message)
    }

    pub(super) fn sigv4a() -> Self {
        let message = "A header you provided implies functionality that is not implemented";
        Self::new("NotImplemented", 501, message)
    }

    pub(super) fn unsupported_type() -> Self {
        Self::new("InvalidArgument", 400, "Unsupported Authorization Type")
    }

    pub(super) fn several_mechanisms() -> Self {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, \
                       Signature query string parameter or the Authorization header should be \
                       specified";
        Self::new("InvalidArgument", 400, message)
    }

    pub(super) fn no_payload_hash() -> Self {
        let message = "Missing required header for this request: x-amz-content-sha256";
        Self::new("InvalidRequest", 400, message)
    }

    pub(super) fn bad_payload_hash() -> Self {
        let message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING values, \
                       or a valid sha256 value.";
        Self::new("InvalidArgument", 400, message)
    }

    pub(super) fn presigned_streaming() -> Self {
        let message = "A presigned request cannot have a streaming payload";
        Self::new("InvalidRequest", 400, message)
    }

    pub(super) fn bad_policy(why: &'static str) -> Self {
        let message = format!("The content of the form does not meet the conditions: {why}");
        Self::new("InvalidPolicyDocument", 400, message)
    }

    pub(super) fn policy_failed(why: impl std::fmt::Display) -> Self {
        Self::new("AccessDenied", 403, format!("Invalid according to Policy: {why}"))
    }
}

//! Main's answers on their way out, and what is answered when there is none.

use http::{Response, StatusCode};

use super::document::collect;
use super::error::S3Error;
use super::facts::content_length;
use super::record::Record;
use super::response::{Judge, ResponseBody};
use super::{Proxy, pass_on, refuse};
use crate::s3::xml;
use crate::upstream::redirect::Learnt;
use crate::upstream::{Received, SendError};

/// Longest error document that is looked into.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// Codes by which main refuses *our* signature, which the client must not take for its own.
const OUR_FAULT: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
];

impl Proxy {
    /// Passes main's response on, unless it speaks of our credentials or of another region.
    pub(super) async fn answer(
        &self,
        response: Response<Received>,
        record: Box<Record>,
        judge: Option<Judge>,
    ) -> Response<ResponseBody> {
        let status = response.status();
        if response.extensions().get::<Learnt>().is_some() {
            return refuse(&sent_to_the_wrong_place(), record);
        }
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let region = response.headers().get("x-amz-bucket-region");
            let region = region.and_then(|region| region.to_str().ok()).unwrap_or("another");
            tracing::error!(region, "main redirects to where this proxy does not follow");
            let message = format!("The bucket is in region {region}, out of reach of this proxy.");
            return refuse(&S3Error::internal(message), record);
        }
        let failed = status.is_client_error() || status.is_server_error();
        if !failed
            || record.method == http::Method::HEAD
            || content_length(response.headers()).is_none_or(|length| length > ERROR_BYTES_MAX)
        {
            return pass_on(response, record, judge);
        }
        Box::pin(self.look_into(response, record)).await
    }

    /// Passes an error document on, unless it speaks of our credentials or of another region.
    async fn look_into(
        &self,
        response: Response<Received>,
        record: Box<Record>,
    ) -> Response<ResponseBody> {
        let (parts, body) = response.into_parts();
        let Ok(document) = collect(body).await else {
            // Main may answer early and close while the request is still being sent; what its
            // answer was about is lost, that it refused is not.
            let error = S3Error::new(parts.status, "InternalError", "The storage closed early.");
            return refuse(&error, record);
        };
        if self.main.learn(&record.resource(), &document) {
            return refuse(&sent_to_the_wrong_place(), record);
        }
        let code = xml::result_document(&document).ok().and_then(|document| document.code);
        if let Some(code) = code.filter(|code| OUR_FAULT.contains(&code.as_str())) {
            tracing::error!(code, "main refuses the credentials of this proxy");
            let message = "This proxy cannot authenticate with its storage; see its log.";
            return refuse(&S3Error::unavailable(message), record);
        }
        let mut record = record;
        record.status = parts.status;
        Response::from_parts(parts, ResponseBody::fixed(document, record))
    }
}

/// Main wants the request elsewhere, and its body is on its way already. The next try goes right.
fn sent_to_the_wrong_place() -> S3Error {
    S3Error::unavailable("The bucket is kept in another place than expected. Please try again.")
}

pub(super) fn error_before_sending(error: &SendError) -> bool {
    !matches!(error, SendError::Connection(_))
}

pub(super) fn failed(error: &SendError) -> S3Error {
    tracing::warn!(%error, "no answer from main");
    match error {
        SendError::Connection(_) => S3Error::internal("The connection to the storage failed."),
        SendError::Target => S3Error::invalid_request("The request target is too long."),
        SendError::Connect(_) | SendError::Credentials(_) | SendError::Signing(_) => {
            S3Error::unavailable("The storage cannot be reached. Please try again.")
        }
    }
}

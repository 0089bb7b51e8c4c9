//! Main's answers on their way out, and what is answered when there is none.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::error::S3Error;
use super::facts::content_length;
use super::record::Record;
use super::response::{Judge, ResponseBody};
use super::{Proxy, name_request, pass_on, refuse};
use crate::s3::{refusal, xml};
use crate::upstream::redirect::Learnt;
use crate::upstream::{Received, SendError, WireError};

/// Longest error document that is looked into.
const ERROR_BYTES_MAX: u64 = 64 * 1024;

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
        if !failed || record.method == http::Method::HEAD || is_long(response.headers()) {
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
        let (mut parts, mut body) = response.into_parts();
        let document = match gather(&mut body).await {
            Ok(Gathered::Whole(document)) => document,
            Ok(Gathered::Begun(beginning)) => {
                let response = Response::from_parts(parts, body);
                return pass_on(response, record, None).map(|body| body.behind(beginning));
            }
            Err(error) => {
                // Main may answer early and close while the request is still being sent; what its
                // answer was about is lost, that it refused is not.
                tracing::debug!(%error, "an error document broke off");
                let error =
                    S3Error::new(parts.status, "InternalError", "The storage closed early.");
                return refuse(&error, record);
            }
        };
        if self.main.learn(&record.resource(), &document) {
            return refuse(&sent_to_the_wrong_place(), record);
        }
        let code = xml::result_document(&document).ok().and_then(|document| document.code);
        // The client must not take it for its own signature.
        if let Some(code) = code.filter(|code| refusal::is_about_signature(code)) {
            tracing::error!(code, "main refuses the credentials of this proxy");
            let message = "This proxy cannot authenticate with its storage; see its log.";
            return refuse(&S3Error::unavailable(message), record);
        }
        let mut record = record;
        record.status = Some(parts.status);
        name_request(&mut parts.headers, &record);
        Response::from_parts(parts, ResponseBody::fixed(document, record))
    }
}

/// Is it no document of S3? AWS sends those in chunks, without a length.
fn is_long(headers: &HeaderMap) -> bool {
    content_length(headers).is_some_and(|length| length > ERROR_BYTES_MAX)
}

/// What there is of an error document.
enum Gathered {
    Whole(Bytes),
    /// It is longer than any that is looked into; this is its beginning.
    Begun(Bytes),
}

async fn gather(body: &mut Received) -> Result<Gathered, WireError> {
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        document.extend_from_slice(&data);
        if u64::try_from(document.len()).is_ok_and(|length| length > ERROR_BYTES_MAX) {
            return Ok(Gathered::Begun(document.freeze()));
        }
    }
    Ok(Gathered::Whole(document.freeze()))
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

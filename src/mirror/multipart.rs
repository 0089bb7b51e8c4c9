//! The requests of a multipart upload to the mirror.

use http::Method;
use http::header::HeaderMap;

use super::retry::Failure;
use super::write::{COMPLETE, Call, Headers, Place, Tags, Writer, Written, object_headers};
use crate::s3::state::unquoted;
use crate::s3::xml;
use crate::upstream::Body;

/// Parts of one object copied at a time.
pub(super) const PARTS_AT_ONCE: usize = 4;

/// A part that was uploaded.
#[derive(Debug)]
pub(super) struct Part {
    number: u32,
    etag: String,
}

impl Writer {
    /// Begins a multipart upload; yields its ID.
    pub(super) async fn begin(
        &self,
        place: Place<'_>,
        headers: &Headers,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let what = "CreateMultipartUpload";
        let headers = object_headers(headers, tags)?;
        let call = Call { headers, ..Call::bare(what, Method::POST, &[("uploads", "")]) };
        let (_, document) = self.call(place, call).await?;
        let upload_id = xml::result_document(&document).ok().and_then(|result| result.upload_id);
        // Whatever has answered that way, an upload may have begun.
        upload_id.ok_or_else(|| {
            Failure::Transient(format!("mirror answered {what} without an ID")).late()
        })
    }

    /// Uploads one part.
    pub(super) async fn part(
        &self,
        place: Place<'_>,
        upload_id: &str,
        number: u32,
        length: u64,
        body: Body,
    ) -> Result<Part, Failure> {
        let text = number.to_string();
        let query = [("partNumber", text.as_str()), ("uploadId", upload_id)];
        let (what, method, headers) = ("UploadPart", Method::PUT, HeaderMap::new());
        let call = Call { what, method, query: &query, headers, length, body };
        let (answer, _) = self.call(place, call).await?;
        let etag = answer.get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.map(|etag| unquoted(etag).to_owned());
        let etag =
            etag.ok_or_else(|| Failure::Transient("mirror answered a part without ETag".into()))?;
        Ok(Part { number, etag })
    }

    /// Completes a multipart upload; success is in the body of the answer.
    pub(super) async fn complete(
        &self,
        place: Place<'_>,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Written, Failure> {
        let what = COMPLETE;
        let parts = parts.iter().map(|part| (part.number, part.etag.as_str()));
        let document = xml::complete_document(parts);
        let query = [("uploadId", upload_id)];
        let (headers, answer) =
            self.call(place, Call::document(what, Method::POST, &query, document)).await?;
        match xml::result_document(&answer) {
            Ok(result) if result.root == "CompleteMultipartUploadResult" => {
                Ok(Written { etag: result.etag, ..Written::told(&headers) })
            }
            Ok(result) => {
                let code = result.code.unwrap_or_default();
                Err(Failure::from_status("mirror", what, 500, &code).late())
            }
            Err(_) => Err(Failure::Transient(format!("mirror did not confirm {what}")).late()),
        }
    }

    /// Gives up a multipart upload. False: there is none (any more).
    pub(super) async fn abort(&self, place: Place<'_>, upload_id: &str) -> Result<bool, Failure> {
        let query = [("uploadId", upload_id)];
        let call = Call::bare("AbortMultipartUpload", Method::DELETE, &query);
        match self.call(place, call).await {
            Ok(_) => Ok(true),
            Err(failure) if matches!(failure.code(), "NoSuchUpload" | "NoSuchBucket") => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

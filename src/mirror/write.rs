//! Making one key of the mirror what main is.
//!
//! Objects are written by the same client that talks to main: `UNSIGNED-PAYLOAD` with a known
//! length is what every vendor takes, and the path that is signed is the path that is sent,
//! whatever the key. The AWS SDK, which the first version used, trims keys (one of white space
//! only cannot be sent at all) and refuses Latin-1 metadata; it makes and removes `buckets` only.
//! Nothing here retries: the journal retries whole copies.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use md5::Digest as _;

use super::buckets;
use super::multipart::PARTS_AT_ONCE;
use super::pace::Pace;
use super::refusals::Refusals;
use super::retry::Failure;
use crate::s3::address::{Query, path_style};
use crate::s3::state::unquoted;
use crate::s3::xml;
use crate::upstream::sign::UNSIGNED_PAYLOAD;
use crate::upstream::{Body, Outgoing, Received, SendError, Upstream, describe, empty, full};

/// Time for an answer, on top of what the bytes need.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Time for an upload to be completed: "could take several minutes", says S3, and other services copy
/// all parts together then.
const COMPLETE_TIMEOUT: Duration = Duration::from_mins(15);
/// The operation that takes it.
pub(super) const COMPLETE: &str = "CompleteMultipartUpload";
/// Slowest transfer that is waited for, in bytes per second.
const RATE_MIN: u64 = 128 * 1024;
/// Longest answer that is read.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Tags as pairs.
pub(super) type Tags = [(String, String)];
/// Headers that belong to an object.
pub(super) type Headers = [(HeaderName, HeaderValue)];

/// A key of the mirror.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
}

/// What the mirror says of an object that it has just made.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Where it keeps versions.
    pub(super) version_id: Option<String>,
    /// Without quotes.
    pub(super) etag: Option<String>,
}

impl Written {
    pub(super) fn told(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let version_id = text("x-amz-version-id").map(str::to_owned);
        Self { version_id, etag: text("etag").map(|etag| unquoted(etag).to_owned()) }
    }
}

/// Writes to the mirror.
pub(super) struct Writer {
    mirror: Arc<Upstream>,
    pub(super) buckets: Client,
    pub(super) region: String,
    pub(super) pace: Pace,
    /// Bodies that may be under way at a time.
    bodies_max: usize,
    pub(super) refusals: Refusals,
}

/// A request to the mirror.
pub(super) struct Call<'a> {
    pub(super) what: &'static str,
    pub(super) method: Method,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) length: u64,
    pub(super) body: Body,
}

impl Writer {
    pub(super) fn new(mirror: Arc<Upstream>, pace: Pace, workers: usize) -> Self {
        let region = mirror.endpoint().region.clone();
        let bodies_max = workers.saturating_mul(PARTS_AT_ONCE);
        let buckets = buckets::client(&mirror);
        Self { mirror, buckets, region, pace, bodies_max, refusals: Refusals::default() }
    }

    /// Writes an object in one request; yields what the answer tells of it. `length` is exact.
    pub(super) async fn put(
        &self,
        place: Place<'_>,
        headers: &Headers,
        tags: &Tags,
        length: u64,
        body: Body,
    ) -> Result<HeaderMap, Failure> {
        let (headers, method) = (object_headers(headers, tags)?, Method::PUT);
        let call = Call { what: "PutObject", method, query: &[], headers, length, body };
        self.call(place, call).await.map(|(answer, _)| answer)
    }

    /// Sets the retention of an object.
    pub(super) async fn retain(
        &self,
        place: Place<'_>,
        mode: &str,
        until: &str,
    ) -> Result<(), Failure> {
        let document = xml::retention_document(mode, until);
        let query = [("retention", "")];
        let call = Call::document("PutObjectRetention", Method::PUT, &query, document);
        self.call(place, call).await.map(drop)
    }

    /// Puts a legal hold on an object, or takes it off.
    pub(super) async fn hold(&self, place: Place<'_>, on: bool) -> Result<(), Failure> {
        let document = xml::legal_hold_document(on);
        let query = [("legal-hold", "")];
        let call = Call::document("PutObjectLegalHold", Method::PUT, &query, document);
        self.call(place, call).await.map(drop)
    }

    /// Removes an object; one that is not there is removed.
    pub(super) async fn delete(&self, place: Place<'_>) -> Result<(), Failure> {
        match self.call(place, Call::bare("DeleteObject", Method::DELETE, &[])).await {
            // Not every service takes the delete of nothing for a success.
            Err(failure) if matches!(failure.code(), "NoSuchKey" | "NoSuchBucket") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Removes one version of an object for good; one that is not there is removed.
    pub(super) async fn delete_version(&self, place: Place<'_>, id: &str) -> Result<(), Failure> {
        let query = [("versionId", id)];
        match self.call(place, Call::bare("DeleteObject", Method::DELETE, &query)).await {
            Err(failure) if matches!(failure.code(), "NoSuchVersion" | "NoSuchKey") => Ok(()),
            Err(failure) if bucket_missing(&failure) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Sets the tags of an object, or takes them all away.
    pub(super) async fn tag(&self, place: Place<'_>, tags: &Tags) -> Result<(), Failure> {
        let query = [("tagging", "")];
        if tags.is_empty() {
            let call = Call::bare("DeleteObjectTagging", Method::DELETE, &query);
            return self.call(place, call).await.map(drop);
        }
        let document = xml::tagging_document(tags);
        let call = Call::document("PutObjectTagging", Method::PUT, &query, document);
        self.call(place, call).await.map(drop)
    }

    /// Sets the access control list of an object by its short name.
    pub(super) async fn acl(&self, place: Place<'_>, name: &'static str) -> Result<(), Failure> {
        let mut call = Call::bare("PutObjectAcl", Method::PUT, &[("acl", "")]);
        call.headers.insert("x-amz-acl", HeaderValue::from_static(name));
        self.call(place, call).await.map(drop)
    }

    pub(super) async fn call(
        &self,
        place: Place<'_>,
        call: Call<'_>,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        let Call { what, method, query, headers, length, body } = call;
        self.pace.request().await;
        let body = self.pace.body(body, length).await;
        let mut parameters = Query::default();
        for (name, value) in query {
            parameters.push(name, value);
        }
        let outgoing = Outgoing {
            method,
            path: path_style(Some(place.bucket), Some(place.key)),
            query: parameters.canonical(),
            headers,
            payload: UNSIGNED_PAYLOAD,
            body,
            keys: None,
        };
        let exchange = async {
            let response = self.mirror.send(outgoing).await.map_err(|error| match error {
                SendError::Target => Failure::Permanent("the key is too long".into()),
                error @ SendError::Connection(_) => {
                    Failure::Down(format!("mirror: {what}: {error}")).late()
                }
                error => Failure::Down(format!("mirror: {what}: {error}")),
            })?;
            answer(what, response).await
        };
        let answer_timeout = if what == COMPLETE { COMPLETE_TIMEOUT } else { ANSWER_TIMEOUT };
        let limit = (answer_timeout + Duration::from_secs(length / RATE_MIN))
            .saturating_add(self.pace.longest(length, self.bodies_max));
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(Failure::Down(format!("mirror: no answer to {what} in time")).late())
        })
    }
}

impl<'a> Call<'a> {
    /// A request without body. `Content-Length: 0` is demanded where a body could be.
    pub(super) fn bare(
        what: &'static str,
        method: Method,
        query: &'a [(&'a str, &'a str)],
    ) -> Self {
        Self { what, method, query, headers: HeaderMap::new(), length: 0, body: empty() }
    }

    /// A request with an XML document, and the MD5 that some servers demand of it.
    pub(super) fn document(
        what: &'static str,
        method: Method,
        query: &'a [(&'a str, &'a str)],
        document: String,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&document));
        if let Ok(md5) = HeaderValue::try_from(md5) {
            headers.insert("content-md5", md5);
        }
        Self { what, method, query, headers, length: 0, body: full(document.into()) }
    }
}

/// Does this failure say that the bucket is missing?
pub(super) fn bucket_missing(failure: &Failure) -> bool {
    failure.code() == "NoSuchBucket"
}

/// Reads an answer to its end, so that the connection can be used again.
async fn answer(
    what: &'static str,
    response: Response<Received>,
) -> Result<(HeaderMap, Bytes), Failure> {
    let (parts, mut body) = response.into_parts();
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The head of an answer can come before what is asked for is done.
        let frame = frame.map_err(|error| {
            Failure::Down(format!("mirror: {what}: {}", describe(&error))).late()
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if document.len() + data.len() <= DOCUMENT_BYTES_MAX {
            document.extend_from_slice(data);
        }
    }
    if parts.status.is_success() {
        // S3 says which object it has made. Anything else that answers 200, such as the
        // maintenance page of a gateway, has confirmed nothing.
        let made = !matches!(what, "PutObject" | "UploadPart")
            || (parts.status == StatusCode::OK && parts.headers.contains_key("etag"));
        let done = matches!(parts.status, StatusCode::OK | StatusCode::NO_CONTENT);
        if made && done {
            return Ok((parts.headers, document.freeze()));
        }
        let reason = format!("mirror answered {what} with {} and confirmed nothing", parts.status);
        return Err(Failure::Transient(reason).late());
    }
    let code = xml::result_document(&document).ok().and_then(|document| document.code);
    let code = code.unwrap_or_default();
    let failure = Failure::from_status("mirror", what, parts.status.as_u16(), &code);
    // A gateway may have given up on a store that has not.
    Err(if parts.status.is_server_error() { failure.late() } else { failure })
}

pub(super) fn object_headers(headers: &Headers, tags: &Tags) -> Result<HeaderMap, Failure> {
    let mut out: HeaderMap = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        out.append(name.clone(), value.clone());
    }
    if !tags.is_empty() {
        let mut query = Query::default();
        for (key, value) in tags {
            query.push(key, value);
        }
        let value = HeaderValue::try_from(query.canonical())
            .map_err(|_| Failure::Permanent("the tags cannot be sent".into()))?;
        out.insert("x-amz-tagging", value);
    }
    Ok(out)
}

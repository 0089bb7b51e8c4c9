//! Asking an S3 what a key is now. Whose word an answer is stands in `word`.

mod word;

use std::time::Duration;

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderValue, IF_MATCH, RANGE};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::sign::UNSIGNED_PAYLOAD;
use super::{Outgoing, Received, SendError, Upstream, empty};
use crate::config::Quirk;
use crate::s3::acl::CannedAcl;
use crate::s3::address::{Query, path_style};
use crate::s3::state::ObjectState;
use crate::s3::{refusal, uploads, versions, xml};

/// How long an answer may take to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest tag set: 10 tags of 128 + 256 characters, escaped.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Longest page of versions: a thousand times a key of 1 KiB, escaped, and what stands beside it.
const LISTING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The least that can be asked of a bucket.
const LIST_ONE: [(&str, &str); 2] = [("list-type", "2"), ("max-keys", "1")];

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody answered in time, or the answer broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The service answered with an error.
    #[error("{who} refused {what}: {status} {code}")]
    Refused {
        /// `main` or `mirror`.
        who: &'static str,
        /// The operation.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// S3 error code; empty for `HEAD`, which has no body.
        code: String,
    },
    /// The object is no longer in the state that was asked for.
    #[error("the object changed on main")]
    Moved,
    /// The answer or the key is beyond what can be worked with.
    #[error("{0}")]
    Unusable(String),
}

impl ReadError {
    /// Can asking again not help? Credentials get mended and conflicts pass; a request that is
    /// refused as such stays so (an object under a key that only its client has, for one).
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => refusal::is_permanent(*status, code),
            Self::Unusable(_) => true,
            Self::Unreachable(_) | Self::Moved => false,
        }
    }
}

/// Asks one service about one key.
pub struct Reader<'a> {
    /// The service.
    pub upstream: &'a Upstream,
    /// Its name in reasons: `main` or `mirror`.
    pub who: &'static str,
    /// Bucket.
    pub bucket: &'a str,
    /// Key; none for the bucket itself.
    pub key: Option<&'a str>,
    /// One version of the key; none for the current one.
    pub version: Option<&'a str>,
}

impl Reader<'_> {
    /// Is there such a bucket? The key does not matter.
    pub async fn bucket_exists(&self) -> Result<bool, ReadError> {
        let bucket = Reader { key: None, version: None, ..*self };
        let response = bucket.request(Method::HEAD, &[], HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => {
                bucket.is_told_missing("ListObjectsV2", &LIST_ONE).await.map(|()| false)
            }
            StatusCode::BAD_REQUEST => Err(bucket.why("HeadBucket", &LIST_ONE).await?),
            status => Err(self.refused("HeadBucket", status.as_u16(), "")),
        }
    }

    /// The object now, or `None` where there surely is none: before something is removed because of it.
    pub async fn head_surely(&self) -> Result<Option<ObjectState>, ReadError> {
        let state = self.head().await?;
        if state.is_none() {
            self.is_surely_absent().await?;
        }
        Ok(state)
    }

    /// The object now, or `None` when there is none.
    pub async fn head(&self) -> Result<Option<ObjectState>, ReadError> {
        let mut headers = HeaderMap::new();
        if !self.upstream.endpoint().quirks.has(Quirk::NoChecksums) {
            headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        }
        let response = self.request(Method::HEAD, &[], headers).await?;
        match response.status() {
            StatusCode::OK => {
                ObjectState::from_response(response.headers()).map(Some).ok_or_else(|| {
                    ReadError::Unreachable(format!("{} answered HEAD without ETag", self.who))
                })
            }
            StatusCode::NOT_FOUND => Ok(None),
            // Boxed, as what is rare: this future is part of every copy's.
            StatusCode::BAD_REQUEST => Err(Box::pin(self.why("HeadObject", &[])).await?),
            status => Err(self.refused("HeadObject", status.as_u16(), "")),
        }
    }

    /// Size and number of parts, as `HEAD ?partNumber` tells them; `None` where it is not
    /// supported (the whole object is described then).
    pub async fn head_part(&self, number: u32) -> Result<Option<(u64, u32)>, ReadError> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str())];
        let response = self.request(Method::HEAD, &query, HeaderMap::new()).await?;
        let read = |name: &str| -> Option<u64> {
            response.headers().get(name)?.to_str().ok()?.parse().ok()
        };
        let parts = read("x-amz-mp-parts-count").and_then(|parts| u32::try_from(parts).ok());
        match response.status().as_u16() {
            200..=299 => Ok(read("content-length").zip(parts)),
            400 | 405 | 416 | 501 => Ok(None),
            404 => Err(ReadError::Moved),
            // A guess at the boundaries would stay.
            status => Err(self.refused("HeadObject", status, "")),
        }
    }

    /// The bytes of exactly this state, all or a range `(first, length)`.
    pub async fn get(
        &self,
        etag: &str,
        range: Option<(u64, u64)>,
    ) -> Result<Response<Received>, ReadError> {
        let mut headers = HeaderMap::new();
        let unusable = |_| ReadError::Unusable(format!("{} answered an unusable ETag", self.who));
        let etag = HeaderValue::try_from(format!("\"{etag}\"")).map_err(unusable)?;
        headers.insert(IF_MATCH, etag);
        if let Some((first, length)) = range {
            let range = format!("bytes={first}-{}", first + length - 1);
            headers.insert(RANGE, HeaderValue::try_from(range).map_err(unusable)?);
        }
        let response = self.request(Method::GET, &[], headers).await?;
        match response.status() {
            StatusCode::OK if range.is_none() => Ok(response),
            StatusCode::PARTIAL_CONTENT if range.is_some() => Ok(response),
            StatusCode::NOT_FOUND
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::RANGE_NOT_SATISFIABLE => Err(ReadError::Moved),
            status => {
                let code = self.code(response).await.unwrap_or_default();
                Err(self.refused("GetObject", status.as_u16(), &code))
            }
        }
    }

    /// The tags of the object, sorted.
    pub async fn tags(&self) -> Result<Vec<(String, String)>, ReadError> {
        let response = self.request(Method::GET, &[("tagging", "")], HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let document = self.document(response).await?;
                xml::tags(&document).map_err(|error| ReadError::Unreachable(error.to_string()))
            }
            // Some have no empty list.
            _ => self.missing("GetObjectTagging", response).await.map(|()| Vec::new()),
        }
    }

    /// The access control list of the object. A service without lists keeps all private.
    pub async fn acl(&self) -> Result<CannedAcl, ReadError> {
        let response = self.request(Method::GET, &[("acl", "")], HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let document = self.document(response).await?;
                CannedAcl::from_document(&document)
                    .map_err(|error| ReadError::Unreachable(error.to_string()))
            }
            StatusCode::NOT_FOUND => Err(ReadError::Moved),
            StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => Ok(CannedAcl::Private),
            status => {
                let code = self.code(response).await?;
                Err(self.refused("GetObjectAcl", status.as_u16(), &code))
            }
        }
    }

    /// One page of the key's versions, newest first; none where there is no such bucket.
    pub async fn versions(
        &self,
        from: Option<&(String, String)>,
        count: usize,
    ) -> Result<versions::Page, ReadError> {
        let key = self.key.unwrap_or_default();
        let query = versions::page_query(key, from, count);
        let response = self.send(Method::GET, None, &query, HeaderMap::new()).await?;
        if response.status() != StatusCode::OK {
            self.missing("ListObjectVersions", response).await?;
            return Ok(versions::Page::default());
        }
        let document = self.bounded_document(response, LISTING_BYTES_MAX).await?;
        versions::page(&document, key).map_err(|error| ReadError::Unreachable(error.to_string()))
    }

    /// The key's multipart uploads that are not over; none where there is no such bucket.
    pub async fn unfinished_uploads(&self) -> Result<Vec<uploads::Unfinished>, ReadError> {
        let key = self.key.unwrap_or_default();
        let query = uploads::page_query(key);
        let response = self.send(Method::GET, None, &query, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let document = self.bounded_document(response, LISTING_BYTES_MAX).await?;
                uploads::page(&document, key)
                    .map_err(|error| ReadError::Unreachable(error.to_string()))
            }
            _ => self.missing("ListMultipartUploads", response).await.map(|()| Vec::new()),
        }
    }

    /// The bucket's versioning: `Enabled`, `Suspended`, or `None` where it was never switched on or is
    /// not known to the service.
    pub async fn versioning(&self) -> Result<Option<String>, ReadError> {
        let mut query = Query::default();
        query.push("versioning", "");
        let response = self.send(Method::GET, None, &query, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let document = self.document(response).await?;
                xml::versioning(&document)
                    .map_err(|error| ReadError::Unreachable(error.to_string()))
            }
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => {
                let code = self.code(response).await?;
                Err(self.refused("GetBucketVersioning", status.as_u16(), &code))
            }
        }
    }

    fn refused(&self, what: &'static str, status: u16, code: &str) -> ReadError {
        ReadError::Refused { who: self.who, what, status, code: code.to_owned() }
    }

    async fn request(
        &self,
        method: Method,
        query: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Response<Received>, ReadError> {
        let mut parameters = Query::default();
        for (name, value) in query {
            parameters.push(name, value);
        }
        if let Some(version) = self.version {
            parameters.push("versionId", version);
        }
        self.send(method, self.key, &parameters, headers).await
    }

    async fn send(
        &self,
        method: Method,
        key: Option<&str>,
        parameters: &Query,
        headers: HeaderMap,
    ) -> Result<Response<Received>, ReadError> {
        let outgoing = Outgoing {
            method,
            path: path_style(Some(self.bucket), key),
            query: parameters.canonical(),
            headers,
            payload: UNSIGNED_PAYLOAD,
            body: empty(),
            keys: None,
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, self.upstream.send(outgoing)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(SendError::Target)) => {
                Err(ReadError::Unusable("the key is too long for a request".into()))
            }
            Ok(Err(error)) => Err(ReadError::Unreachable(format!("{}: {error}", self.who))),
            Err(_) => Err(ReadError::Unreachable(format!("{}: no answer in time", self.who))),
        }
    }

    async fn document(&self, response: Response<Received>) -> Result<BytesMut, ReadError> {
        self.bounded_document(response, DOCUMENT_BYTES_MAX).await
    }

    async fn bounded_document(
        &self,
        response: Response<Received>,
        bytes_max: usize,
    ) -> Result<BytesMut, ReadError> {
        let mut body = response.into_body();
        let mut document = BytesMut::new();
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| error.to_string())?;
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                if document.len() + data.len() > bytes_max {
                    return Err("the document is too long".to_owned());
                }
                document.extend_from_slice(data);
            }
            Ok(())
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, reading).await {
            Ok(Ok(())) => Ok(document),
            Ok(Err(error)) => Err(ReadError::Unreachable(format!("{}: {error}", self.who))),
            Err(_) => Err(ReadError::Unreachable(format!("{}: the answer stalled", self.who))),
        }
    }
}

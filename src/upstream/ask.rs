//! Questions to an S3 that are about more than one key, or whose every header matters.
//!
//! [`super::read`] asks what a key is; this asks anything and hands out status, headers and a
//! bounded document. Nothing here retries.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::sign::UNSIGNED_PAYLOAD;
use super::{Body, Outgoing, Received, SendError, Upstream, describe, empty};
use crate::s3::address::path_style;
use crate::s3::listing::{self, From, Page};
use crate::s3::xml;

/// How long an answer may take to begin, and again to end.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest document: 1000 keys of 1 KiB, percent-encoded, and what stands around them.
const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody answered in time, or the answer broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The service answered with an error.
    #[error("{what}: {status} {code}")]
    Refused {
        /// The operation.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// S3 error code; empty where the answer has no document.
        code: String,
    },
    /// The answer is not what S3 defines.
    #[error("{0}")]
    Unusable(String),
}

impl AskError {
    /// May the same question be answered later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // A 404 without a word of S3 is that of a gateway whose store is away.
            Self::Refused { status: 404, code, .. } if code.is_empty() => true,
            Self::Refused { status, .. } => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
            Self::Unusable(_) => false,
        }
    }

    /// Does it say that there is no such bucket?
    pub fn bucket_missing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NoSuchBucket")
    }
}

/// A request to one service.
pub struct Question<'a> {
    /// The operation, for reasons.
    pub what: &'static str,
    /// Method.
    pub method: Method,
    /// Bucket; none for the service itself.
    pub bucket: Option<&'a str>,
    /// Key; none for the bucket itself.
    pub key: Option<&'a str>,
    /// Canonical query.
    pub query: String,
    /// Headers of its own.
    pub headers: HeaderMap,
    /// Body of known length.
    pub body: Body,
}

impl<'a> Question<'a> {
    /// A request without query, headers and body.
    pub fn bare(
        what: &'static str,
        method: Method,
        bucket: Option<&'a str>,
        key: Option<&'a str>,
    ) -> Self {
        let (query, headers, body) = (String::new(), HeaderMap::new(), empty());
        Self { what, method, bucket, key, query, headers, body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The document, whole.
    pub document: Bytes,
}

impl Answer {
    /// The S3 error code of the document; empty if it has none.
    pub fn code(&self) -> String {
        let document = xml::result_document(&self.document).ok();
        document.and_then(|document| document.code).unwrap_or_default()
    }

    /// The answer if it says success.
    pub fn success(self, what: &'static str) -> Result<Self, AskError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let (status, code) = (self.status.as_u16(), self.code());
        Err(AskError::Refused { what, status, code })
    }
}

impl Upstream {
    /// Sends a question and waits for the head of the answer, whatever its status.
    pub async fn open(&self, question: Question<'_>) -> Result<Response<Received>, AskError> {
        let what = question.what;
        let outgoing = Outgoing {
            method: question.method,
            path: path_style(question.bucket, question.key),
            query: question.query,
            headers: question.headers,
            payload: UNSIGNED_PAYLOAD,
            body: question.body,
            keys: None,
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, self.send(outgoing)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(SendError::Target)) => {
                Err(AskError::Unusable("the key is too long for a request".into()))
            }
            Ok(Err(error)) => Err(AskError::Unreachable(format!("{what}: {error}"))),
            Err(_) => Err(AskError::Unreachable(format!("{what}: no answer in time"))),
        }
    }

    /// Sends a question and reads the whole answer, whatever its status.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, AskError> {
        let what = question.what;
        let (parts, mut body) = self.open(question).await?.into_parts();
        let mut document = BytesMut::new();
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    AskError::Unreachable(format!("{what}: {}", describe(&error)))
                })?;
                let Some(data) = frame.data_ref() else { continue };
                if document.len() + data.len() > DOCUMENT_BYTES_MAX {
                    return Err(AskError::Unusable(format!("{what}: the answer is too long")));
                }
                document.extend_from_slice(data);
            }
            Ok(())
        };
        tokio::time::timeout(ANSWER_TIMEOUT, reading).await.unwrap_or_else(|_| {
            Err(AskError::Unreachable(format!("{what}: the answer stalled")))
        })?;
        Ok(Answer { status: parts.status, headers: parts.headers, document: document.freeze() })
    }

    /// One page of a bucket's listing.
    pub async fn list(&self, bucket: &str, prefix: &str, from: &From) -> Result<Page, AskError> {
        let what = "ListObjectsV2";
        let mut question = Question::bare(what, Method::GET, Some(bucket), None);
        question.query = listing::page_query(prefix, from);
        let answer = self.ask(question).await?.success(what)?;
        listing::page(&answer.document)
            .map_err(|_| AskError::Unusable(format!("{what}: the answer is no listing")))
    }

    /// Every bucket of the account, sorted.
    pub async fn buckets(&self) -> Result<Vec<String>, AskError> {
        let what = "ListBuckets";
        let (mut names, mut token) = (Vec::new(), None::<String>);
        loop {
            let mut question = Question::bare(what, Method::GET, None, None);
            if let Some(token) = &token {
                let mut query = crate::s3::address::Query::default();
                query.push("continuation-token", token);
                question.query = query.canonical();
            }
            let answer = self.ask(question).await?.success(what)?;
            let (found, next) = listing::buckets(&answer.document)
                .map_err(|_| AskError::Unusable(format!("{what}: the answer is no list")))?;
            names.extend(found);
            match next {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => break,
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

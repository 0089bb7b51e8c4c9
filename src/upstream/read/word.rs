//! Whose word an answer is: a gateway may answer for a store that is away, and the answer to a `HEAD`
//! has no document that would tell.

use http::header::{HeaderMap, HeaderValue, RANGE};
use http::{Method, Response, StatusCode};

use super::{ReadError, Reader};
use crate::s3::xml;
use crate::upstream::Received;

impl Reader<'_> {
    /// Makes sure that it was an S3 that has said there is no such object, with a question whose
    /// answer has a document: a gateway without a store behind it may answer 404 to everything.
    pub async fn is_surely_absent(&self) -> Result<(), ReadError> {
        self.is_told_missing("GetObject", &[]).await
    }

    pub(super) async fn is_told_missing(
        &self,
        what: &'static str,
        query: &[(&str, &str)],
    ) -> Result<(), ReadError> {
        let response = self.request(Method::GET, query, first_byte()).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(ReadError::Moved);
        }
        self.missing(what, response).await
    }

    /// Why a `HEAD` was refused with 400, which only a question tells whose answer has a document: a token
    /// that has expired, or a key that only the object's client has.
    pub(super) async fn why(
        &self,
        what: &'static str,
        query: &[(&str, &str)],
    ) -> Result<ReadError, ReadError> {
        let response = self.request(Method::GET, query, first_byte()).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(self.refused(what, 400, ""));
        }
        let code = self.code(response).await?;
        Ok(self.refused(what, status.as_u16(), &code))
    }

    /// Takes an answer that is no success for the word that there is no such thing, if it is one.
    pub(super) async fn missing(
        &self,
        what: &'static str,
        response: Response<Received>,
    ) -> Result<(), ReadError> {
        let status = response.status();
        let code = self.code(response).await?;
        match status {
            StatusCode::NOT_FOUND if code.is_empty() => {
                let reason = format!("{} answered 404 without a word of S3", self.who);
                Err(ReadError::Unreachable(reason))
            }
            StatusCode::NOT_FOUND => Ok(()),
            status => Err(self.refused(what, status.as_u16(), &code)),
        }
    }

    /// The S3 error code of an answer; empty if it has none.
    pub(super) async fn code(&self, response: Response<Received>) -> Result<String, ReadError> {
        let document = self.document(response).await?;
        let code = xml::result_document(&document).ok().and_then(|document| document.code);
        Ok(code.unwrap_or_default())
    }
}

/// Of an object as little as can be.
fn first_byte() -> HeaderMap {
    HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))])
}

//! What a request did to main, judged by its end. Pure.
//!
//! The default is *unknown*, which costs a question to main; every other verdict has its reason.

use http::StatusCode;

use crate::journal::entry::Outcome;
use crate::s3::operation::Operation;
use crate::s3::xml::{MalformedXml, ResultDocument};

/// How far an exchange came.
#[derive(Debug, Clone, Copy)]
pub enum Reached<'a> {
    /// The last bytes of the request were never let go.
    Withheld,
    /// The request went out whole, and no response came.
    NoResponse,
    /// A response came; `document` is its body where success is told only there, `None` when
    /// that body broke off.
    Response {
        /// Status of the response.
        status: StatusCode,
        /// Result document of operations that are judged by it.
        document: Option<&'a Result<ResultDocument, MalformedXml>>,
    },
}

/// The verdict for one request.
pub fn judge(operation: Operation, reached: Reached<'_>) -> Outcome {
    let (status, document) = match reached {
        // With `Content-Length` set a cut body cannot commit, and a request without body that
        // was withheld was not sent at all.
        Reached::Withheld => return Outcome::NoEffect,
        Reached::NoResponse => return Outcome::Unknown,
        Reached::Response { status, document } => (status, document),
    };
    if status.is_server_error() {
        // A failed PUT may show the old value or the new one afterwards (S3 error best practices).
        return Outcome::Unknown;
    }
    if !status.is_success() {
        // Refused or redirected. A retried Complete that answers NoSuchUpload was settled by the
        // try that did it.
        return Outcome::NoEffect;
    }
    if !operation.judged_by_body() {
        return Outcome::Changed;
    }
    match document {
        Some(Ok(document)) if document.root == "Error" => Outcome::Unknown,
        Some(Ok(document)) if document.root.ends_with("Result") => Outcome::Changed,
        // Neither a result nor an error, or cut off.
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::operation::{Change, Effect};

    fn verdict(name: &'static str, status: u16, root: Option<&str>) -> Outcome {
        let document =
            root.map(|root| Ok(ResultDocument { root: root.into(), ..Default::default() }));
        let status = StatusCode::from_u16(status).unwrap();
        let operation = Operation { name, effect: Effect::Key(Change::Put) };
        judge(operation, Reached::Response { status, document: document.as_ref() })
    }

    #[test]
    fn only_a_success_status_changes_and_only_a_refusal_does_not() {
        assert_eq!(verdict("PutObject", 200, None), Outcome::Changed);
        assert_eq!(verdict("DeleteObject", 204, None), Outcome::Changed);
        assert_eq!(verdict("PutObject", 412, None), Outcome::NoEffect);
        assert_eq!(verdict("PutObject", 307, None), Outcome::NoEffect);
        assert_eq!(verdict("PutObject", 503, None), Outcome::Unknown);
    }

    #[test]
    fn a_200_with_an_error_inside_is_not_a_success() {
        for name in ["CompleteMultipartUpload", "CopyObject"] {
            assert_eq!(verdict(name, 200, Some("Error")), Outcome::Unknown);
            assert_eq!(verdict(name, 200, None), Outcome::Unknown, "body cut off");
            assert_eq!(verdict(name, 200, Some("html")), Outcome::Unknown);
        }
        assert_eq!(verdict("CopyObject", 200, Some("CopyObjectResult")), Outcome::Changed);
    }

    #[test]
    fn what_was_withheld_did_nothing_and_what_went_unanswered_is_unknown() {
        let operation = Operation { name: "PutObject", effect: Effect::Key(Change::Put) };
        assert_eq!(judge(operation, Reached::Withheld), Outcome::NoEffect);
        assert_eq!(judge(operation, Reached::NoResponse), Outcome::Unknown);
    }
}

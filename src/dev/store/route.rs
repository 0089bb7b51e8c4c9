//! Which requests this store answers from their raw form, and which it leaves to `s3s`.
//!
//! `s3s` has verified the signature and decoded the body before either happens. Requests that
//! carry a body or headers to be stored are taken raw; requests that are XML or lists go through
//! the typed operations of `s3s` (see [`super::service`]). Subresources that this store does not
//! have are refused here: `s3s` would take one it has never heard of for a plain PUT or GET.

use http::{Extensions, HeaderMap, HeaderValue, Method, Uri, header};
use s3s::path::S3Path;
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};

use super::Engine;
use super::access;
use super::fault::{Answer, internal, unsupported};
use super::gate::RequestId;
use super::object::ObjectRequest;
use super::target::{Domains, Target};

/// Subresources of S3 (and one of Ceph) that this store has not.
const UNSUPPORTED: [&str; 36] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "append",
    "cors",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "torrent",
    "versions",
    "vectors",
    "website",
];

/// An operation that is answered from the raw request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    Unsupported(&'static str),
}

/// The store's side of the fork.
#[derive(Clone, Debug)]
pub(super) struct Router {
    pub(super) engine: Engine,
    pub(super) domains: Domains,
}

impl Raw {
    /// `None` for what the typed operations answer.
    fn of(method: &Method, target: &Target, headers: &HeaderMap) -> Option<Self> {
        let unsupported = UNSUPPORTED.iter().find(|name| target.query(name).is_some());
        if let Some(name) = unsupported {
            return Some(Self::Unsupported(name));
        }
        if target.path.as_object().is_none() {
            let form = |value: &HeaderValue| value.as_bytes().starts_with(b"multipart/form-data");
            let posts_form =
                *method == Method::POST && headers.get(header::CONTENT_TYPE).is_some_and(form);
            return posts_form.then_some(Self::Unsupported("uploads by form"));
        }
        let has = |name| target.query(name).is_some();
        match *method {
            Method::HEAD => Some(Self::HeadObject),
            Method::GET if has("uploadId") || has("tagging") || has("attributes") => None,
            Method::GET => Some(Self::GetObject),
            Method::POST if has("uploads") => Some(Self::CreateMultipartUpload),
            Method::PUT if has("tagging") => None,
            Method::PUT => {
                let copy = headers.contains_key("x-amz-copy-source");
                let part = has("uploadId") || has("partNumber");
                Some(match (part, copy) {
                    (true, true) => Self::UploadPartCopy,
                    (true, false) => Self::UploadPart,
                    (false, true) => Self::CopyObject,
                    (false, false) => Self::PutObject,
                })
            }
            _ => None,
        }
    }
}

impl Router {
    async fn answer(&self, request: S3Request<Body>) -> Answer<S3Response<Body>> {
        let lost = || internal("routing a request", "it no longer matches its route");
        let target = Target::of(&request.uri, &request.headers, &self.domains).ok_or_else(lost)?;
        let raw = Raw::of(&request.method, &target, &request.headers).ok_or_else(lost)?;
        if let Raw::Unsupported(name) = raw {
            return Err(unsupported(name));
        }
        let S3Path::Object { bucket, key } = &target.path else {
            return Err(lost());
        };
        let (bucket, key) = (bucket.to_string(), key.to_string());
        let request = ObjectRequest {
            bucket,
            key,
            target,
            headers: request.headers,
            body: request.input,
            trailers: request.trailing_headers,
        };
        match raw {
            Raw::GetObject => self.engine.read_object(request, false).await,
            Raw::HeadObject => self.engine.read_object(request, true).await,
            Raw::PutObject => self.engine.put_object(request).await,
            Raw::CopyObject => self.engine.copy_object(request).await,
            Raw::CreateMultipartUpload => self.engine.create_upload(request).await,
            Raw::UploadPart => self.engine.put_part(request).await,
            Raw::UploadPartCopy => self.engine.copy_part(request).await,
            Raw::Unsupported(_) => Err(lost()),
        }
    }
}

#[async_trait::async_trait]
impl S3Route for Router {
    fn is_match(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        _: &mut Extensions,
    ) -> bool {
        Target::of(uri, headers, &self.domains)
            .is_some_and(|target| Raw::of(method, &target, headers).is_some())
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        access::check(request.credentials.is_some(), &request.uri, &request.headers)
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let id = request.extensions.get::<RequestId>().cloned();
        match self.answer(request).await {
            Ok(response) => Ok(response),
            // Written here, because s3s logs every error of a route, and a missing key is none.
            Err(mut error) => {
                if let Some(RequestId(id)) = id {
                    error.set_request_id(id);
                }
                let response = error.to_http_response()?;
                let (parts, body) = response.into_parts();
                let mut answer = S3Response::with_status(body, parts.status);
                answer.headers = parts.headers;
                Ok(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(method: &Method, uri: &str, headers: &[(&'static str, &str)]) -> Option<Raw> {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        let headers = headers.collect();
        let target = Target::of(&uri.parse().unwrap(), &headers, &Domains(Vec::new())).unwrap();
        Raw::of(method, &target, &headers)
    }

    #[test]
    fn operations_are_told_apart() {
        let copy = [("x-amz-copy-source", "b/k")];
        assert_eq!(raw(&Method::PUT, "/bkt/k", &[]), Some(Raw::PutObject));
        assert_eq!(raw(&Method::PUT, "/bkt/k?x-id=PutObject", &[]), Some(Raw::PutObject));
        assert_eq!(raw(&Method::PUT, "/bkt/k", &copy), Some(Raw::CopyObject));
        let part = "/bkt/k?partNumber=1&uploadId=u";
        assert_eq!(raw(&Method::PUT, part, &[]), Some(Raw::UploadPart));
        assert_eq!(raw(&Method::PUT, part, &copy), Some(Raw::UploadPartCopy));
        assert_eq!(raw(&Method::POST, "/bkt/k?uploads=", &[]), Some(Raw::CreateMultipartUpload));
        assert_eq!(raw(&Method::POST, "/bkt/k?uploadId=u", &[]), None);
        assert_eq!(raw(&Method::GET, "/bkt/k?uploadId=u", &[]), None);
        assert_eq!(raw(&Method::GET, "/bkt/", &[]), None);
        assert_eq!(raw(&Method::GET, "/", &[]), None);
    }

    #[test]
    fn a_subresource_the_store_has_not_is_never_a_plain_write() {
        for uri in ["/bkt/k?annotation=x", "/bkt/k?renameObject", "/bkt?lifecycle", "/bkt/k?acl"] {
            assert!(matches!(raw(&Method::PUT, uri, &[]), Some(Raw::Unsupported(_))), "{uri}");
        }
    }

    #[test]
    fn a_form_is_refused_before_it_is_gathered() {
        let form = [("content-type", "multipart/form-data; boundary=x")];
        let refused = Some(Raw::Unsupported("uploads by form"));
        assert_eq!(raw(&Method::POST, "/bkt", &form), refused);
        assert_eq!(raw(&Method::POST, "/bkt?delete", &[]), None);
    }
}

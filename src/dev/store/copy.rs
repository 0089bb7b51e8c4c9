//! `CopyObject`, and what copying parts has in common with it.

use http::{HeaderMap, HeaderValue};
use s3s::dto::CopySource;
use s3s::{Body, S3ErrorCode, S3Response};

use super::Engine;
use super::attributes::{Attributes, storage_class};
use super::checksum::Algorithm;
use super::conditions::{self, Verdict, WriteConditions};
use super::deliver::Delivery;
use super::fault::{Answer, invalid, precondition_failed, refuse, unsupported};
use super::index::objects::{Detail, ObjectRow, PutObject, Want};
use super::object::{ObjectRequest, only_null_version, standard, tags_of};
use super::receive::{BODY_BYTES_MAX, Promise, receive};
use super::respond::{checksum_xml, iso_date, xml};

impl Engine {
    /// `CopyObject`. The bytes are read again: that gives a copy of a multipart object its plain
    /// MD5 (H4) and any checksum that is asked for.
    pub(super) async fn copy_object(&self, request: ObjectRequest) -> Answer<S3Response<Body>> {
        let ObjectRequest { bucket, key, headers, .. } = request;
        let conditions = WriteConditions::of(&headers)?;
        let replace = directive(&headers, "x-amz-metadata-directive")?;
        let replace_tags = directive(&headers, "x-amz-tagging-directive")?;
        let asked_class = storage_class(&headers)?;
        let (source_bucket, source_key) = copy_source(&headers)?;
        let changes = replace
            || asked_class.is_some()
            || headers.contains_key("x-amz-website-redirect-location")
            || headers.contains_key("x-amz-server-side-encryption");
        if (&source_bucket, &source_key) == (&bucket, &key) && !changes {
            return Err(invalid(
                "This copy request is illegal because it is trying to copy an object to itself \
                 without changing the object's metadata, storage class, website redirect location \
                 or encryption attributes.",
            ));
        }
        let lease = self.files.lease();
        let source = self.index.object(&source_bucket, &source_key, Want::Body).await?;
        self.check_early(&bucket, &key, &conditions).await?;
        check_source(&headers, &source)?;
        if source.size > BODY_BYTES_MAX {
            return Err(invalid(
                "The specified copy source is larger than the maximum allowable size for a copy \
                 source: 5368709120",
            ));
        }
        let attributes = if replace {
            Attributes::of(&headers)?
        } else {
            source.detail.attributes.for_copy(&headers)?
        };
        let tags = if replace_tags { tags_of(&headers)? } else { source.tags.clone() };
        let algorithm = match headers.get("x-amz-checksum-algorithm") {
            Some(name) => Some(Algorithm::parse(name.to_str().unwrap_or_default())?),
            None => source.detail.checksum.as_ref().map(|checksum| checksum.algorithm),
        };
        let body = Delivery::open(&self.files, &source, 0..source.size, lease).await?;
        let promise = Promise::default();
        let received = receive(&self.files, body, promise, None, algorithm, true).await?;
        let checksum = checksum_xml(received.checksum.as_ref());
        let put = PutObject {
            bucket,
            key,
            conditions,
            id: self.files.number(),
            size: received.size,
            etag: received.md5.clone(),
            storage_class: asked_class.unwrap_or_else(standard),
            tags,
            detail: Detail { attributes, checksum: received.checksum },
            body: received.body,
        };
        let modified_ms = self.index.submit(put).await?;
        Ok(xml(
            "CopyObjectResult",
            &format!(
                "<LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag>{checksum}",
                iso_date(modified_ms),
                received.md5,
            ),
        ))
    }
}

pub(super) fn check_source(headers: &HeaderMap, source: &ObjectRow) -> Answer<()> {
    match conditions::judge(headers, "x-amz-copy-source-", &source.etag, source.modified_ms) {
        Verdict::Proceed => Ok(()),
        Verdict::NotModified | Verdict::Failed => Err(precondition_failed()),
    }
}

/// Bucket and key of `x-amz-copy-source`, which some clients send as raw UTF-8 (A4).
pub(super) fn copy_source(headers: &HeaderMap) -> Answer<(String, String)> {
    let wrong = || {
        let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        refuse(S3ErrorCode::InvalidArgument, message)
    };
    let value = headers.get("x-amz-copy-source").map(HeaderValue::as_bytes).unwrap_or_default();
    let value = std::str::from_utf8(value).map_err(|_| wrong())?;
    match CopySource::parse(value).map_err(|_| wrong())? {
        CopySource::Bucket { bucket, key, version_id } => {
            only_null_version(version_id.as_deref())?;
            if key.is_empty() {
                return Err(wrong());
            }
            Ok((bucket.into(), key.into()))
        }
        _ => Err(unsupported("access points")),
    }
}

/// `REPLACE` (true) or `COPY` (false, the default).
fn directive(headers: &HeaderMap, name: &str) -> Answer<bool> {
    match headers.get(name).map(HeaderValue::as_bytes) {
        None | Some(b"COPY") => Ok(false),
        Some(b"REPLACE") => Ok(true),
        Some(_) => Err(refuse(S3ErrorCode::InvalidArgument, format!("Unknown value of {name}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(value: &[u8]) -> Answer<(String, String)> {
        let value = HeaderValue::from_bytes(value).unwrap();
        copy_source(&HeaderMap::from_iter([("x-amz-copy-source".parse().unwrap(), value)]))
    }

    #[test]
    fn a_copy_source_is_read_raw_or_encoded() {
        let pair = |key: &str| ("bkt".to_owned(), key.to_owned());
        assert_eq!(source(b"bkt/a%20b%2Fc").unwrap(), pair("a b/c"));
        assert_eq!(source(b"/bkt//a").unwrap(), pair("/a"));
        assert_eq!(source("bkt/ü+".as_bytes()).unwrap(), pair("ü+"));
        assert_eq!(source(b"bkt/k?versionId=null").unwrap(), pair("k"));
        assert!(source(b"bkt/k?versionId=3").is_err());
        assert!(source(b"bkt").is_err());
    }
}

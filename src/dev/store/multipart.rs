//! Multipart uploads: create, parts, complete, abort, list.

pub(super) mod complete;
pub(super) mod plan;

use http::{HeaderMap, HeaderValue, header};
use s3s::{Body, S3Response};

use super::Engine;
use super::attributes::{Attributes, storage_class};
use super::checksum::{Algorithm, Coverage};
use super::conditions::copy_range;
use super::copy::{check_source, copy_source};
use super::deliver::Delivery;
use super::fault::{Answer, internal, invalid};
use super::index::objects::Want;
use super::index::uploads::{CreateUpload, PutPart, UploadDetail, UploadName, UploadRow};
use super::object::{ObjectRequest, etag, part_number, standard, tags_of, write_checksum};
use super::receive::{BODY_BYTES_MAX, NewBody, Promise, Received, receive};
use super::respond::{checksum_xml, escape, iso_date, xml};

impl Engine {
    /// `CreateMultipartUpload`.
    pub(super) async fn create_upload(&self, request: ObjectRequest) -> Answer<S3Response<Body>> {
        let ObjectRequest { bucket, key, headers, .. } = request;
        let attributes = Attributes::of(&headers)?;
        let checksum = checksum_of(&headers)?;
        let upload_id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let name = UploadName { bucket, key, upload_id };
        let content = format!(
            "<Bucket>{}</Bucket><Key>{}</Key><UploadId>{}</UploadId>",
            name.bucket,
            escape(&name.key),
            name.upload_id
        );
        let mut response = xml("InitiateMultipartUploadResult", &content);
        attributes.write_encryption_to(&mut response.headers);
        if let Some((algorithm, coverage)) = checksum {
            let headers = &mut response.headers;
            let value = HeaderValue::from_static(algorithm.name());
            headers.insert("x-amz-checksum-algorithm", value);
            headers.insert("x-amz-checksum-type", HeaderValue::from_static(coverage.name()));
        }
        let create = CreateUpload {
            name,
            id: self.files.number(),
            storage_class: storage_class(&headers)?.unwrap_or_else(standard),
            tags: tags_of(&headers)?,
            detail: UploadDetail { attributes, checksum },
        };
        self.index.submit(create).await?;
        Ok(response)
    }

    /// `UploadPart`.
    pub(super) async fn put_part(&self, request: ObjectRequest) -> Answer<S3Response<Body>> {
        let (name, number) = part_of(&request)?;
        let promise = Promise::of(&request.headers)?;
        let upload = self.index.upload(&name).await?;
        let compute = computed(&upload);
        let body = request.body;
        let received =
            receive(&self.files, body, promise, request.trailers, compute, false).await?;
        let mut response = S3Response::new(Body::empty());
        response.headers.insert(header::ETAG, etag(&received.md5));
        write_checksum(&mut response.headers, received.checksum.as_ref())?;
        // Coverage is a property of objects.
        response.headers.remove("x-amz-checksum-type");
        upload.detail.attributes.write_encryption_to(&mut response.headers);
        self.store_part(name, number, received).await?;
        Ok(response)
    }

    /// `UploadPartCopy`.
    pub(super) async fn copy_part(&self, request: ObjectRequest) -> Answer<S3Response<Body>> {
        let (name, number) = part_of(&request)?;
        let (source_bucket, source_key) = copy_source(&request.headers)?;
        let upload = self.index.upload(&name).await?;
        let lease = self.files.lease();
        let source = self.index.object(&source_bucket, &source_key, Want::Body).await?;
        check_source(&request.headers, &source)?;
        let range = copy_range(request.headers.get("x-amz-copy-source-range"), source.size)?;
        if range.end - range.start > BODY_BYTES_MAX {
            return Err(invalid("The specified copy source is larger than a part may be."));
        }
        let body = Delivery::open(&self.files, &source, range, lease).await?;
        let promise = Promise::default();
        let received = receive(&self.files, body, promise, None, computed(&upload), false).await?;
        let etag = received.md5.clone();
        let mut checksum = checksum_xml(received.checksum.as_ref());
        if let Some(at) = checksum.find("<ChecksumType>") {
            checksum.truncate(at);
        }
        let modified_ms = self.store_part(name, number, received).await?;
        let content = format!(
            "<LastModified>{}</LastModified><ETag>&quot;{etag}&quot;</ETag>{checksum}",
            iso_date(modified_ms),
        );
        Ok(xml("CopyPartResult", &content))
    }

    async fn store_part(&self, name: UploadName, number: u64, received: Received) -> Answer<i64> {
        let NewBody::File(file) = received.body else {
            return Err(internal("storing a part", "its body is not a file"));
        };
        let part = PutPart {
            name,
            number: i64::try_from(number).unwrap_or(i64::MAX),
            size: received.size,
            etag: received.md5,
            checksum: received.checksum,
            file,
        };
        self.index.submit(part).await
    }
}

/// The checksum of a part that the finished object's checksum will be made of.
fn computed(upload: &UploadRow) -> Option<Algorithm> {
    upload.detail.checksum.map(|(algorithm, _)| algorithm)
}

fn part_of(request: &ObjectRequest) -> Answer<(UploadName, u64)> {
    let number = part_number(request.target.query("partNumber").unwrap_or_default())?;
    let upload_id = request.target.query("uploadId").unwrap_or_default().to_owned();
    let name = UploadName { bucket: request.bucket.clone(), key: request.key.clone(), upload_id };
    Ok((name, number))
}

/// What `CreateMultipartUpload` asks for.
fn checksum_of(headers: &HeaderMap) -> Answer<Option<(Algorithm, Coverage)>> {
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let coverage = text("x-amz-checksum-type").map(Coverage::parse).transpose()?;
    let Some(algorithm) = text("x-amz-checksum-algorithm") else {
        if coverage.is_some() {
            return Err(invalid(
                "The x-amz-checksum-type header can only be used with the \
                 x-amz-checksum-algorithm header.",
            ));
        }
        return Ok(None);
    };
    let algorithm = Algorithm::parse(algorithm)?;
    let coverage = coverage.unwrap_or(algorithm.default_coverage());
    if !algorithm.allows(coverage) {
        return Err(invalid(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            coverage.name(),
            algorithm.name().to_ascii_lowercase()
        )));
    }
    Ok(Some((algorithm, coverage)))
}

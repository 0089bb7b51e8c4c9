//! Operations on single objects: GET, HEAD, PUT (see [`super::copy`] for COPY).
//!
//! These work on raw headers, not on `s3s` input types, so that header bytes are stored and
//! answered exactly as they came.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{Body, S3ErrorCode, S3Response, TrailingHeaders};

use super::Engine;
use super::attributes::{Attributes, storage_class};
use super::checksum::StoredChecksum;
use super::conditions::{self, Asked, Verdict, WriteConditions};
use super::deliver::Delivery;
use super::fault::{Answer, invalid, no_such_key, precondition_failed, refuse, refuse_as};
use super::index::objects::{Detail, ObjectRow, PutObject, Want};
use super::receive::{Promise, receive};
use super::respond::{http_date, number};
use super::tags::{self, Tags};
use super::target::Target;

/// A request for an object, as it came.
pub(super) struct ObjectRequest {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// Query parameters of a GET that replace a header of its response.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

/// What of an object is answered.
struct Slice {
    range: Range<u64>,
    /// Answered as 206.
    partial: bool,
    /// The position of the part that was asked for.
    part: Option<usize>,
}

impl Engine {
    /// GET, or HEAD when `head`.
    pub(super) async fn read_object(
        &self,
        request: ObjectRequest,
        head: bool,
    ) -> Answer<S3Response<Body>> {
        only_null_version(request.target.query("versionId"))?;
        let part = match request.target.query("partNumber") {
            None => None,
            Some(text) => Some(part_number(text)?),
        };
        let want = match (head, part) {
            (false, _) => Want::Body,
            (true, Some(_)) => Want::HeadAndParts,
            (true, None) => Want::Head,
        };
        // Before the row: from here on the files it names stay.
        let lease = self.files.lease();
        let object = self.index.object(&request.bucket, &request.key, want).await?;
        let mut response = S3Response::new(Body::empty());
        let headers = &mut response.headers;
        headers.insert(header::ETAG, etag(&object.etag));
        headers.insert(header::LAST_MODIFIED, http_date(object.modified_ms));
        match conditions::judge(&request.headers, "", &object.etag, object.modified_ms) {
            Verdict::Proceed => {}
            Verdict::Failed => return Err(precondition_failed()),
            Verdict::NotModified => {
                response.status = Some(StatusCode::NOT_MODIFIED);
                return Ok(response);
            }
        }
        let slice = slice(&object, part, &request.headers)?;
        object.detail.attributes.write_to(headers);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if object.storage_class != "STANDARD" {
            insert(headers, "x-amz-storage-class", &object.storage_class)?;
        }
        if !object.tags.is_empty() {
            headers.insert("x-amz-tagging-count", number(object.tags.len() as u64));
        }
        if request.headers.get("x-amz-checksum-mode").is_some_and(|mode| mode == "ENABLED") {
            write_checksum(headers, shown_checksum(&object, &slice))?;
        }
        if part.is_some() && object.part_count > 0 {
            headers.insert("x-amz-mp-parts-count", number(object.part_count.unsigned_abs()));
        }
        let length = slice.range.end - slice.range.start;
        headers.insert(header::CONTENT_LENGTH, number(length));
        if slice.partial {
            let (first, last) = (slice.range.start, slice.range.end - 1);
            let range = format!("bytes {first}-{last}/{}", object.size);
            insert(headers, "content-range", &range)?;
            response.status = Some(StatusCode::PARTIAL_CONTENT);
        }
        for (name, replaced) in OVERRIDES {
            if let Some(value) = request.target.query(name) {
                insert(headers, replaced.as_str(), value)?;
            }
        }
        if !head {
            let body = Delivery::open(&self.files, &object, slice.range, lease).await?;
            response.output = Body::http_body_unsync(body);
        }
        Ok(response)
    }

    /// `PutObject`.
    pub(super) async fn put_object(&self, request: ObjectRequest) -> Answer<S3Response<Body>> {
        let ObjectRequest { bucket, key, headers, body, trailers, .. } = request;
        let attributes = Attributes::of(&headers)?;
        let storage_class = storage_class(&headers)?.unwrap_or_else(standard);
        let tags = tags_of(&headers)?;
        let conditions = WriteConditions::of(&headers)?;
        let promise = Promise::of(&headers)?;
        // What can be refused now is refused before the client has sent its body.
        if conditions != WriteConditions::default() {
            self.check_early(&bucket, &key, &conditions).await?;
        } else if !promise.is_small() || headers.contains_key(header::EXPECT) {
            self.index.bucket(&bucket).await?;
        }
        let received = receive(&self.files, body, promise, trailers, None, true).await?;
        let detail = Detail { attributes, checksum: received.checksum };
        let mut response = S3Response::new(Body::empty());
        response.headers.insert(header::ETAG, etag(&received.md5));
        write_checksum(&mut response.headers, detail.checksum.as_ref())?;
        detail.attributes.write_encryption_to(&mut response.headers);
        let put = PutObject {
            bucket,
            key,
            conditions,
            id: self.files.number(),
            size: received.size,
            etag: received.md5,
            storage_class,
            tags,
            detail,
            body: received.body,
        };
        self.index.submit(put).await?;
        Ok(response)
    }

    /// Bucket and conditions as they are now. The transaction that writes decides again.
    pub(super) async fn check_early(
        &self,
        bucket: &str,
        key: &str,
        conditions: &WriteConditions,
    ) -> Answer<()> {
        match self.index.object(bucket, key, Want::Head).await {
            Ok(existing) => conditions.check(Some(&existing.etag)),
            Err(error) if error.code() == no_such_key().code() => conditions.check(None),
            Err(error) => Err(error),
        }
    }
}

/// Which bytes a GET or HEAD answers.
fn slice(object: &ObjectRow, part: Option<u64>, headers: &HeaderMap) -> Answer<Slice> {
    let size = object.size;
    let whole = Slice { range: 0..size, partial: false, part: None };
    let Some(part) = part else {
        let applies = headers.get(header::IF_RANGE).is_none_or(|value| {
            value.to_str().is_ok_and(|etag| conditions::lists(etag, &object.etag))
        });
        if !applies {
            return Ok(whole);
        }
        return match conditions::asked(headers.get(header::RANGE), size) {
            Asked::Everything => Ok(whole),
            Asked::Bytes(range) => Ok(Slice { range, partial: true, part: None }),
            Asked::Unsatisfiable => {
                let message = "The requested range is not satisfiable";
                let mut error = refuse(S3ErrorCode::InvalidRange, message);
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    error.set_headers(HeaderMap::from_iter([
                        (header::CONTENT_RANGE, value),
                        (header::CONTENT_TYPE, HeaderValue::from_static("application/xml")),
                    ]));
                }
                Err(error)
            }
        };
    };
    if headers.contains_key(header::RANGE) {
        return Err(invalid("Cannot specify both Range header and partNumber query parameter."));
    }
    // An object stored in one piece is its own part 1.
    if object.part_count == 0 && part == 1 {
        return Ok(Slice { partial: size > 0, ..whole });
    }
    let index = usize::try_from(part - 1).unwrap_or(usize::MAX);
    let Some(row) = object.parts.get(index) else {
        return Err(refuse_as(
            "InvalidPartNumber",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested partnumber is not satisfiable",
        ));
    };
    let start: u64 = object.parts.iter().take(index).map(|part| part.size).sum();
    Ok(Slice { range: start..start + row.size, partial: row.size > 0, part: Some(index) })
}

/// The checksum that belongs to exactly the bytes answered, if there is one.
fn shown_checksum<'o>(object: &'o ObjectRow, slice: &Slice) -> Option<&'o StoredChecksum> {
    match slice.part {
        Some(index) => object.parts.get(index)?.checksum.as_ref(),
        None if slice.range == (0..object.size) => object.detail.checksum.as_ref(),
        None => None,
    }
}

/// A bucket that was never versioned knows one version, `null`.
pub(super) fn only_null_version(version: Option<&str>) -> Answer<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(refuse(S3ErrorCode::InvalidArgument, "Invalid version id specified")),
    }
}

pub(super) fn part_number(text: &str) -> Answer<u64> {
    text.parse().ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        refuse(S3ErrorCode::InvalidArgument, message)
    })
}

pub(super) fn tags_of(headers: &HeaderMap) -> Answer<Tags> {
    headers
        .get("x-amz-tagging")
        .map_or_else(|| Ok(Tags::new()), |value| tags::parse(value.as_bytes()))
}

pub(super) fn standard() -> String {
    "STANDARD".to_owned()
}

pub(super) fn etag(value: &str) -> HeaderValue {
    // ETags are made of hex digits and a dash.
    HeaderValue::try_from(format!("\"{value}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

pub(super) fn write_checksum(
    headers: &mut HeaderMap,
    checksum: Option<&StoredChecksum>,
) -> Answer<()> {
    let Some(checksum) = checksum else {
        return Ok(());
    };
    insert(headers, checksum.algorithm.header().as_str(), &checksum.value)?;
    insert(headers, "x-amz-checksum-type", checksum.coverage.name())
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Answer<()> {
    let wrong =
        || refuse(S3ErrorCode::InvalidArgument, format!("The value of {name} is no header."));
    let name = HeaderName::try_from(name).map_err(|_| wrong())?;
    headers.insert(name, HeaderValue::try_from(value).map_err(|_| wrong())?);
    Ok(())
}

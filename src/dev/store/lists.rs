//! The answers of the four list operations.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use s3s::S3ErrorCode;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, ETag, EncodingType, Initiator,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, MultipartUpload,
    Object, ObjectStorageClass, Part, StorageClass,
};

use super::checksum::Algorithm;
use super::fault::{Answer, refuse};
use super::index::Index;
use super::index::listing::{Line, PAGE_KEYS_MAX, Page, after, common_prefix, successor};
use super::index::uploads::{PartRow, UploadName};
use super::respond::timestamp;
use super::service::owner;
use super::target::encode_form;

/// Uploads that are read at a time while grouping them.
const UPLOADS_READ: i64 = 1000;

/// `ListObjects`.
pub(super) async fn objects_v1(
    index: &Index,
    input: ListObjectsInput,
) -> Answer<ListObjectsOutput> {
    let bucket = index.bucket(&input.bucket).await?;
    let encode = encoder(input.encoding_type.as_ref())?;
    let marker = input.marker.unwrap_or_default();
    let delimiter = input.delimiter.unwrap_or_default();
    let page = Page {
        prefix: input.prefix.unwrap_or_default(),
        // A marker that is a common prefix has shown all of it.
        shown: (!delimiter.is_empty() && marker.ends_with(&delimiter)).then(|| marker.clone()),
        delimiter,
        from: if marker.is_empty() { Vec::new() } else { after(&marker) },
        count_max: page_size(input.max_keys)?,
    };
    let listing = index.list(bucket.id, &page).await?;
    // As in S3, without a delimiter the last key is the marker.
    let next = listing.lines.last().filter(|_| listing.truncated && !page.delimiter.is_empty());
    let next_marker = next.map(|line| encode(line.name()));
    let (contents, common_prefixes) = lines(listing.lines, encode, true);
    Ok(ListObjectsOutput {
        name: Some(bucket.name),
        prefix: Some(encode(&page.prefix)),
        marker: Some(encode(&marker)),
        max_keys: i32::try_from(page.count_max).ok(),
        is_truncated: Some(listing.truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: Some(encode(&page.delimiter)).filter(|delimiter| !delimiter.is_empty()),
        next_marker,
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

/// `ListObjectsV2`.
pub(super) async fn objects_v2(
    index: &Index,
    input: ListObjectsV2Input,
) -> Answer<ListObjectsV2Output> {
    let bucket = index.bucket(&input.bucket).await?;
    let encode = encoder(input.encoding_type.as_ref())?;
    let start_after = input.start_after.unwrap_or_default();
    let delimiter = input.delimiter.unwrap_or_default();
    let mut page = Page {
        prefix: input.prefix.unwrap_or_default(),
        delimiter,
        count_max: page_size(input.max_keys)?,
        ..Page::default()
    };
    if let Some(token) = &input.continuation_token {
        page.from = BASE64.decode(token).map_err(|_| {
            let message = "The continuation token provided is incorrect";
            refuse(S3ErrorCode::InvalidArgument, message)
        })?;
    } else if !start_after.is_empty() {
        page.from = after(&start_after);
        if !page.delimiter.is_empty() && start_after.ends_with(&page.delimiter) {
            page.shown = Some(start_after.clone());
        }
    }
    let listing = index.list(bucket.id, &page).await?;
    let next = listing.lines.last().filter(|_| listing.truncated);
    let next_continuation_token = next.map(|line| BASE64.encode(line.next()));
    let count = listing.lines.len();
    let with_owner = input.fetch_owner == Some(true);
    let (contents, common_prefixes) = lines(listing.lines, encode, with_owner);
    Ok(ListObjectsV2Output {
        name: Some(bucket.name),
        prefix: Some(encode(&page.prefix)),
        max_keys: i32::try_from(page.count_max).ok(),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(listing.truncated),
        next_continuation_token,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: Some(encode(&page.delimiter)).filter(|delimiter| !delimiter.is_empty()),
        encoding_type: input.encoding_type,
        start_after: Some(encode(&start_after)).filter(|start| !start.is_empty()),
        request_charged: None,
    })
}

/// `ListMultipartUploads`.
pub(super) async fn uploads(
    index: &Index,
    input: ListMultipartUploadsInput,
) -> Answer<ListMultipartUploadsOutput> {
    let bucket = index.bucket(&input.bucket).await?;
    let encode = encoder(input.encoding_type.as_ref())?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.unwrap_or_default();
    let key_marker = input.key_marker.unwrap_or_default();
    // Without a key marker S3 ignores the other one.
    let id_marker = input.upload_id_marker.filter(|_| !key_marker.is_empty()).unwrap_or_default();
    let count_max = page_size(input.max_uploads)?;
    let mut from = match (key_marker.is_empty(), id_marker.is_empty()) {
        (true, _) => (Vec::new(), String::new()),
        (false, true) => (after(&key_marker), String::new()),
        (false, false) => (key_marker.as_bytes().to_vec(), id_marker.clone()),
    };
    from = from.max((prefix.as_bytes().to_vec(), String::new()));
    let (mut shown, mut groups) = (Vec::new(), Vec::<String>::new());
    let (mut truncated, mut last) = (false, (String::new(), String::new()));
    'pages: loop {
        let rows = index.uploads(bucket.id, (&from.0, &from.1), UPLOADS_READ).await?;
        let last_page = rows.len() < usize::try_from(UPLOADS_READ).unwrap_or(usize::MAX);
        for row in rows {
            if (&row.key, &row.upload_id) < (&from.0, &from.1) {
                continue;
            }
            let key = String::from_utf8_lossy(&row.key).into_owned();
            if !key.starts_with(&prefix) {
                break 'pages;
            }
            if shown.len() + groups.len() == count_max {
                truncated = true;
                break 'pages;
            }
            if let Some(group) = common_prefix(&key, &prefix, &delimiter) {
                last = (group.to_owned(), String::new());
                from = (successor(group.as_bytes()).unwrap_or_default(), String::new());
                if *group != *key_marker {
                    groups.push(group.to_owned());
                }
                continue;
            }
            last = (key.clone(), row.upload_id.clone());
            from = (row.key, row.upload_id.clone());
            let checksum = row.detail.checksum;
            shown.push(MultipartUpload {
                key: Some(encode(&key)),
                upload_id: Some(row.upload_id),
                initiated: Some(timestamp(row.initiated_ms)),
                storage_class: Some(StorageClass::from(row.storage_class)),
                owner: Some(owner()),
                initiator: Some(initiator()),
                checksum_algorithm: checksum.map(|(algorithm, _)| algorithm_name(algorithm)),
                checksum_type: checksum
                    .map(|(_, coverage)| ChecksumType::from(coverage.name().to_owned())),
            });
        }
        if last_page {
            break;
        }
    }
    truncated &= count_max > 0;
    let group = |group: String| CommonPrefix { prefix: Some(encode(&group)) };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(bucket.name),
        prefix: Some(encode(&prefix)),
        delimiter: Some(encode(&delimiter)).filter(|delimiter| !delimiter.is_empty()),
        key_marker: Some(encode(&key_marker)),
        upload_id_marker: Some(id_marker),
        next_key_marker: truncated.then(|| encode(&last.0)),
        next_upload_id_marker: truncated.then_some(last.1),
        max_uploads: i32::try_from(count_max).ok(),
        is_truncated: Some(truncated),
        uploads: Some(shown),
        common_prefixes: Some(groups.into_iter().map(group).collect()),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

/// `ListParts`.
pub(super) async fn parts(index: &Index, input: ListPartsInput) -> Answer<ListPartsOutput> {
    let ListPartsInput { bucket, key, upload_id, .. } = input;
    let name = UploadName { bucket, key, upload_id };
    let upload = index.upload(&name).await?;
    let count_max = page_size(input.max_parts)?;
    let marker = input.part_number_marker.unwrap_or(0).max(0);
    let wanted = i64::try_from(count_max).unwrap_or(0) + 1;
    let mut rows = index.parts(upload.id, marker.into(), wanted).await?;
    let truncated = rows.len() > count_max && count_max > 0;
    rows.truncate(count_max);
    let last = rows.last().map(|part| part.number).unwrap_or_default();
    let checksum = upload.detail.checksum;
    Ok(ListPartsOutput {
        bucket: Some(name.bucket),
        key: Some(name.key),
        upload_id: Some(name.upload_id),
        part_number_marker: Some(marker),
        next_part_number_marker: i32::try_from(last).ok(),
        max_parts: i32::try_from(count_max).ok(),
        is_truncated: Some(truncated),
        parts: Some(rows.into_iter().map(part).collect()),
        storage_class: Some(StorageClass::from(upload.storage_class)),
        owner: Some(owner()),
        initiator: Some(initiator()),
        checksum_algorithm: checksum.map(|(algorithm, _)| algorithm_name(algorithm)),
        checksum_type: checksum.map(|(_, coverage)| ChecksumType::from(coverage.name().to_owned())),
        ..ListPartsOutput::default()
    })
}

fn part(row: PartRow) -> Part {
    let mut part = Part {
        part_number: i32::try_from(row.number).ok(),
        size: i64::try_from(row.size).ok(),
        e_tag: Some(ETag::Strong(row.etag)),
        last_modified: Some(timestamp(row.modified_ms)),
        ..Part::default()
    };
    if let Some(checksum) = row.checksum {
        let value = Some(checksum.value);
        match checksum.algorithm {
            Algorithm::Crc32 => part.checksum_crc32 = value,
            Algorithm::Crc32c => part.checksum_crc32c = value,
            Algorithm::Crc64Nvme => part.checksum_crc64nvme = value,
            Algorithm::Sha1 => part.checksum_sha1 = value,
            Algorithm::Sha256 => part.checksum_sha256 = value,
        }
    }
    part
}

fn lines(
    lines: Vec<Line>,
    encode: fn(&str) -> String,
    with_owner: bool,
) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(encode(&prefix)) }),
            Line::Object(entry) => contents.push(Object {
                key: Some(encode(&entry.key)),
                size: i64::try_from(entry.size).ok(),
                e_tag: Some(ETag::Strong(entry.etag)),
                last_modified: Some(timestamp(entry.modified_ms)),
                storage_class: Some(ObjectStorageClass::from(entry.storage_class)),
                owner: with_owner.then(owner),
                ..Object::default()
            }),
        }
    }
    (contents, prefixes)
}

/// How names are written into a list.
fn encoder(encoding: Option<&EncodingType>) -> Answer<fn(&str) -> String> {
    match encoding.map(EncodingType::as_str) {
        None | Some("") => Ok(str::to_owned),
        Some("url") => Ok(encode_form),
        Some(_) => Err(refuse(
            S3ErrorCode::InvalidArgument,
            "Invalid Encoding Method specified in Request",
        )),
    }
}

fn page_size(asked: Option<i32>) -> Answer<usize> {
    let Some(asked) = asked else {
        return Ok(PAGE_KEYS_MAX);
    };
    let asked = usize::try_from(asked).map_err(|_| {
        let message = "Argument maxKeys must be an integer between 0 and 2147483647";
        refuse(S3ErrorCode::InvalidArgument, message)
    })?;
    Ok(asked.min(PAGE_KEYS_MAX))
}

fn algorithm_name(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from(algorithm.name().to_owned())
}

fn initiator() -> Initiator {
    let owner = owner();
    Initiator { display_name: owner.display_name, id: owner.id }
}

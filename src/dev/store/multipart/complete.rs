//! `CompleteMultipartUpload`: from the client's list to the index, and the answer.

use s3s::dto::{
    ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag,
};
use s3s::{S3ErrorCode, S3Request, S3Response};

use super::super::checksum::{ALGORITHMS, Algorithm, Coverage, StoredChecksum};
use super::super::conditions::WriteConditions;
use super::super::fault::{Answer, refuse};
use super::super::index::Index;
use super::super::index::uploads::{CompleteUpload, UploadName};
use super::super::object::write_checksum;
use super::plan::Listed;

/// `CompleteMultipartUpload`.
pub(in super::super) async fn complete(
    index: &Index,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<S3Response<CompleteMultipartUploadOutput>> {
    let conditions = WriteConditions::of(&request.headers)?;
    let input = request.input;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let listed = parts.into_iter().map(listed).collect::<Answer<Vec<_>>>()?;
    let coverage = input.checksum_type.map(|coverage| Coverage::parse(coverage.as_str()));
    let checksum = claimed([
        input.checksum_crc32,
        input.checksum_crc32c,
        input.checksum_crc64nvme,
        input.checksum_sha1,
        input.checksum_sha256,
    ]);
    let host = request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let location = format!("http://{}{}", host.unwrap_or_default(), request.uri.path());
    let complete = CompleteUpload {
        name: UploadName {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            upload_id: input.upload_id,
        },
        conditions,
        listed,
        checksum,
        coverage: coverage.transpose()?,
        size: input.mpu_object_size.and_then(|size| u64::try_from(size).ok()),
    };
    let completed = index.submit(complete).await?;
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        location: Some(location),
        e_tag: Some(ETag::Strong(completed.etag)),
        ..CompleteMultipartUploadOutput::default()
    };
    let mut headers = http::HeaderMap::new();
    if let Some(checksum) = &completed.detail.checksum {
        let value = Some(checksum.value.clone());
        match checksum.algorithm {
            Algorithm::Crc32 => output.checksum_crc32 = value,
            Algorithm::Crc32c => output.checksum_crc32c = value,
            Algorithm::Crc64Nvme => output.checksum_crc64nvme = value,
            Algorithm::Sha1 => output.checksum_sha1 = value,
            Algorithm::Sha256 => output.checksum_sha256 = value,
        }
        output.checksum_type = Some(ChecksumType::from(checksum.coverage.name().to_owned()));
        write_checksum(&mut headers, Some(checksum))?;
    }
    completed.detail.attributes.write_encryption_to(&mut headers);
    Ok(S3Response::with_headers(output, headers))
}

fn listed(part: CompletedPart) -> Answer<Listed> {
    let malformed = || {
        refuse(
            S3ErrorCode::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published \
             schema",
        )
    };
    Ok(Listed {
        number: part.part_number.ok_or_else(malformed)?.into(),
        etag: part.e_tag.ok_or_else(malformed)?.into_value(),
        checksum: claimed([
            part.checksum_crc32,
            part.checksum_crc32c,
            part.checksum_crc64nvme,
            part.checksum_sha1,
            part.checksum_sha256,
        ]),
    })
}

/// The one checksum that is given, in the order of [`ALGORITHMS`].
fn claimed(values: [Option<String>; 5]) -> Option<StoredChecksum> {
    let mut given = ALGORITHMS.into_iter().zip(values);
    let (algorithm, value) = given.find_map(|(algorithm, value)| Some((algorithm, value?)))?;
    let composite = value.contains('-');
    let coverage = if composite { Coverage::Composite } else { Coverage::FullObject };
    Some(StoredChecksum { algorithm, value, coverage })
}

//! Making one key of the mirror what main is: uploads through the AWS SDK in its portable form.
//!
//! `UNSIGNED-PAYLOAD` with a known length is what every vendor takes; checksums are left out
//! unless a vendor demands them. The SDK does not retry: a streamed body cannot be replayed, and
//! the journal retries whole copies.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{
    BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration,
    Tag, Tagging,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use http::header::{HeaderName, HeaderValue};

use super::retry::Failure;
use crate::upstream::{Upstream, describe, sdk_http_client};

/// Time for an answer, on top of what the bytes need.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Slowest transfer that is waited for, in bytes per second.
const RATE_MIN: u64 = 128 * 1024;

/// Tags as pairs.
pub(super) type Tags = [(String, String)];
/// Headers that belong to an object.
pub(super) type Headers = [(HeaderName, HeaderValue)];

/// Writes to the mirror.
pub(super) struct Writer {
    client: Client,
    region: String,
}

impl Writer {
    pub(super) fn new(mirror: &Upstream) -> Self {
        let endpoint = mirror.endpoint();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint.url())
            .region(Region::new(endpoint.region.clone()))
            .force_path_style(true)
            .credentials_provider(mirror.provider().for_sdk())
            .http_client(sdk_http_client())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), region: endpoint.region.clone() }
    }

    /// Writes an object in one request. `length` is exact.
    pub(super) async fn put(
        &self,
        bucket: &str,
        key: &str,
        headers: &Headers,
        tags: &Tags,
        length: u64,
        body: SdkBody,
    ) -> Result<(), Failure> {
        let length_signed = i64::try_from(length).map_err(|_| too_large())?;
        let headers = texts(headers)?;
        let request = self
            .client
            .put_object()
            .bucket(bucket)
            .key(key)
            .content_length(length_signed)
            .set_tagging(tag_query(tags))
            .body(ByteStream::new(body))
            .customize()
            .mutate_request(move |request| set_headers(request, &headers));
        timed("PutObject", length, request.send()).await.map(drop)
    }

    /// Removes an object; one that is not there is removed.
    pub(super) async fn delete(&self, bucket: &str, key: &str) -> Result<(), Failure> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        match timed("DeleteObject", 0, request.send()).await {
            Err(Failure::Transient(reason)) if reason.contains("404") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Sets the tags of an object, or takes them all away.
    pub(super) async fn tag(&self, bucket: &str, key: &str, tags: &Tags) -> Result<(), Failure> {
        if tags.is_empty() {
            let request = self.client.delete_object_tagging().bucket(bucket).key(key);
            return timed("DeleteObjectTagging", 0, request.send()).await.map(drop);
        }
        let set: Result<Vec<Tag>, _> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let set = set.map_err(|error| Failure::Permanent(error.to_string()))?;
        let tagging = Tagging::builder().set_tag_set(Some(set)).build();
        let tagging = tagging.map_err(|error| Failure::Permanent(error.to_string()))?;
        let request = self.client.put_object_tagging().bucket(bucket).key(key).tagging(tagging);
        timed("PutObjectTagging", 0, request.send()).await.map(drop)
    }

    /// Begins a multipart upload.
    pub(super) async fn begin(
        &self,
        bucket: &str,
        key: &str,
        headers: &Headers,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let headers = texts(headers)?;
        let request = self
            .client
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .set_tagging(tag_query(tags))
            .customize()
            .mutate_request(move |request| set_headers(request, &headers));
        let created = timed("CreateMultipartUpload", 0, request.send()).await?;
        created.upload_id.ok_or_else(|| {
            Failure::Transient("mirror answered CreateMultipartUpload without an ID".into())
        })
    }

    /// Uploads one part.
    pub(super) async fn part(
        &self,
        upload: (&str, &str, &str),
        number: i32,
        length: u64,
        body: SdkBody,
    ) -> Result<CompletedPart, Failure> {
        let (bucket, key, upload_id) = upload;
        let length_signed = i64::try_from(length).map_err(|_| too_large())?;
        let request = self
            .client
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(number)
            .content_length(length_signed)
            .body(ByteStream::new(body));
        let uploaded = timed("UploadPart", length, request.send()).await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(uploaded.e_tag).build())
    }

    /// Completes a multipart upload; success is in the body of the answer.
    pub(super) async fn complete(
        &self,
        upload: (&str, &str, &str),
        parts: Vec<CompletedPart>,
    ) -> Result<(), Failure> {
        let (bucket, key, upload_id) = upload;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(parts);
        let completed = timed("CompleteMultipartUpload", 0, request.send()).await?;
        match completed.e_tag {
            Some(_) => Ok(()),
            None => {
                Err(Failure::Transient("mirror did not confirm CompleteMultipartUpload".into()))
            }
        }
    }

    /// Gives up a multipart upload. Failing to only leaves parts behind, which is logged.
    pub(super) async fn abort(&self, (bucket, key, upload_id): (&str, &str, &str)) {
        let request =
            self.client.abort_multipart_upload().bucket(bucket).key(key).upload_id(upload_id);
        if let Err(error) = timed("AbortMultipartUpload", 0, request.send()).await {
            tracing::warn!(bucket, key, %error, "parts are left behind on the mirror");
        }
    }

    /// Makes a bucket; one that is ours already is made.
    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let location = (!matches!(self.region.as_str(), "us-east-1" | "auto" | "")).then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()))
                .build()
        });
        let request =
            self.client.create_bucket().bucket(bucket).set_create_bucket_configuration(location);
        match timed("CreateBucket", 0, request.send()).await {
            Ok(_) => {
                tracing::info!(bucket, "made the bucket on the mirror");
                Ok(())
            }
            Err(failure) if failure.to_string().contains("BucketAlreadyOwnedByYou") => Ok(()),
            // A name somebody else owns, or no permission: a person has to look at it, and the
            // keys go on by themselves afterwards.
            Err(Failure::Permanent(reason)) => Err(Failure::Transient(reason)),
            Err(failure) => Err(failure),
        }
    }
}

/// Does this failure say that the bucket is missing?
pub(super) fn bucket_missing(failure: &Failure) -> bool {
    matches!(failure, Failure::Transient(reason) if reason.contains("NoSuchBucket"))
}

fn too_large() -> Failure {
    Failure::Permanent("the object is larger than S3 can hold".into())
}

async fn timed<T, E>(
    what: &'static str,
    length: u64,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let limit = ANSWER_TIMEOUT + Duration::from_secs(length / RATE_MIN);
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(failure(what, &error)),
        Err(_) => Err(Failure::Down(format!("mirror: no answer to {what} in time"))),
    }
}

fn failure<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().code().unwrap_or_default();
            // A 200 that holds an error is a failure of the service.
            let status = if status < 300 { 500 } else { status };
            Failure::from_status("mirror", what, status, code)
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            Failure::Transient(format!("mirror answered {what} unreadably: {status}"))
        }
        SdkError::ConstructionFailure(_) => {
            Failure::Permanent(format!("{what} cannot be sent: {}", describe(error)))
        }
        _ => Failure::Down(format!("mirror: {what}: {}", describe(error))),
    }
}

/// Headers as the SDK takes them.
fn texts(headers: &Headers) -> Result<Vec<(String, String)>, Failure> {
    let mut out: Vec<(String, String)> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            Failure::Permanent(format!("the value of {name} is not UTF-8 and cannot be sent"))
        })?;
        match out.last_mut() {
            // Repeated headers are one list.
            Some((previous, list)) if previous == name.as_str() => {
                list.push(',');
                list.push_str(text);
            }
            _ => out.push((name.as_str().to_owned(), text.to_owned())),
        }
    }
    Ok(out)
}

fn set_headers(request: &mut HttpRequest, headers: &[(String, String)]) {
    for (name, value) in headers {
        if request.headers_mut().try_insert(name.clone(), value.clone()).is_err() {
            // Both came from headers that were valid, as UTF-8.
            tracing::error!(name, "a header could not be set on the mirror's object");
        }
    }
}

fn tag_query(tags: &Tags) -> Option<String> {
    let mut query = crate::s3::address::Query::default();
    for (key, value) in tags {
        query.push(key, value);
    }
    Some(query.canonical()).filter(|query| !query.is_empty())
}

//! Buckets that come and go on main come and go on the mirror.
//!
//! Objects make their bucket on the mirror when they need it; this is for buckets that have none yet,
//! or no more. What a mirror's bucket holds beside main's keys is not ours to remove: it is kept, and
//! the change is parked with the reason. The AWS SDK makes and removes buckets, where it knows the
//! vendors' ways.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::replicate::{Done, ROUNDS, Replicated, Replicator};
use super::retry::Failure;
use super::write::{ANSWER_TIMEOUT, Writer, bucket_missing};
use crate::config::{Fence, Quirk};
use crate::journal::Work;
use crate::upstream::{Upstream, describe, sdk_http_client};

/// Tries to remove a bucket that is not empty yet although no key of it is on its way any more. Other
/// proxies may still be at it, for most of a minute; the only one waits for a delete that lands late.
const EMPTY_BUCKET_TRIES: u32 = 8;
const EMPTY_BUCKET_TRIES_ALONE: u32 = 3;

/// A client that makes and removes the mirror's buckets.
pub(super) fn client(mirror: &Upstream) -> Client {
    let endpoint = mirror.endpoint();
    let connect = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).build();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint.url())
        .region(Region::new(endpoint.region.clone()))
        .force_path_style(!endpoint.quirks.has(Quirk::VirtualHosted))
        .credentials_provider(mirror.provider().for_sdk())
        .http_client(sdk_http_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(connect)
        .build();
    Client::from_conf(config)
}

impl Replicator {
    /// The bucket itself came or went.
    pub(super) async fn replicate_bucket(&self, work: &Work) -> Result<Done, Failure> {
        let bucket = self.naming.of(&work.entry.object.bucket);
        for _ in 0..ROUNDS {
            let exists = self.main(work).bucket_exists().await?;
            if exists {
                self.writer.create_bucket(&bucket).await?;
            } else {
                if let Some(done) = self.spare(work).await {
                    return Ok(done);
                }
                match self.writer.delete_bucket(&bucket).await {
                    Err(failure) if failure.code() == "BucketNotEmpty" => {
                        let is_soon = self.is_soon_empty(work).await;
                        return Err(failure.judged(!is_soon));
                    }
                    done => done?,
                }
            }
            if self.main(work).bucket_exists().await? == exists {
                let facts = Arc::default();
                return Ok(Done::Replicated(Replicated { facts, bytes: 0, in_versions: false }));
            }
        }
        Err(Failure::Transient("the bucket keeps changing on main".into()))
    }

    /// Deletes of a bucket's objects may still be under way; once they are not, what keeps the
    /// bucket is not ours to remove.
    async fn is_soon_empty(&self, work: &Work) -> bool {
        let tries = match self.fence {
            Fence::Always => EMPTY_BUCKET_TRIES,
            Fence::Overlap => EMPTY_BUCKET_TRIES_ALONE,
        };
        if work.entry.attempts < tries {
            return true;
        }
        match &self.deletes {
            Some(deletes) => deletes.are_under_way(&work.entry.object.bucket).await,
            None => false,
        }
    }
}

impl Writer {
    /// Makes a bucket; one that is ours already is made.
    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let location = (!matches!(self.region.as_str(), "us-east-1" | "auto" | "")).then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()))
                .build()
        });
        let request =
            self.buckets.create_bucket().bucket(bucket).set_create_bucket_configuration(location);
        self.pace.request().await;
        match with_sdk("CreateBucket", request.send()).await {
            Ok(_) => {
                tracing::info!(bucket, "made the bucket on the mirror");
                Ok(())
            }
            Err(failure) if failure.code() == "BucketAlreadyOwnedByYou" => Ok(()),
            // A name somebody else owns, or no permission: a person has to look at it, and the
            // keys go on by themselves afterwards.
            Err(failure) => Err(failure.judged(false)),
        }
    }

    /// Removes a bucket, if it is empty; one that is not there is removed.
    pub(super) async fn delete_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let request = self.buckets.delete_bucket().bucket(bucket);
        self.pace.request().await;
        match with_sdk("DeleteBucket", request.send()).await {
            Ok(_) => Ok(()),
            Err(failure) if bucket_missing(&failure) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

async fn with_sdk<T, E>(
    what: &'static str,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(SdkError::ServiceError(answer))) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().code().unwrap_or_default();
            Err(Failure::from_status("mirror", what, status, code))
        }
        Ok(Err(error)) => Err(Failure::Down(format!("mirror: {what}: {}", describe(&error)))),
        Err(_) => Err(Failure::Down(format!("mirror: no answer to {what} in time"))),
    }
}

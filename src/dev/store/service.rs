//! The typed operations of `s3s`: buckets, lists, deletes, tags, and the ends of uploads.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, BucketLocationConstraint,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateBucketInput,
    CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, Error, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput,
    ListPartsOutput, Owner, PutObjectTaggingInput, PutObjectTaggingOutput, Tag, Timestamp,
};
use s3s::{S3, S3ErrorCode, S3Request, S3Response, S3Result};

use super::Engine;
use super::fault::refuse;
use super::index::buckets::{CreateBucket, DeleteBucket};
use super::index::objects::{DeleteObjects, Deletion, SetTags, Want};
use super::index::uploads::{AbortUpload, UploadName};
use super::lists;
use super::multipart::complete;
use super::object::only_null_version;
use super::respond::timestamp;
use super::tags;

/// S3's limit on the keys of one `DeleteObjects`.
const DELETIONS_MAX: usize = 1000;

#[async_trait::async_trait]
impl S3 for Engine {
    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let prefix = request.input.prefix.unwrap_or_default();
        let buckets = self.index.buckets().await?;
        let shown = buckets.into_iter().filter(|bucket| bucket.name.starts_with(&prefix));
        let buckets = shown.map(|bucket| Bucket {
            name: Some(bucket.name),
            creation_date: Some(timestamp(bucket.created_ms)),
            bucket_region: None,
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: Some(owner()),
            ..ListBucketsOutput::default()
        }))
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let input = request.input;
        let location = input.create_bucket_configuration.and_then(|c| c.location_constraint);
        let location = location.map(|location| location.as_str().to_owned()).unwrap_or_default();
        let output = CreateBucketOutput { location: Some(format!("/{}", input.bucket)) };
        self.index.submit(CreateBucket { name: input.bucket, location }).await?;
        Ok(S3Response::new(output))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.index.submit(DeleteBucket { name: request.input.bucket }).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = self.index.bucket(&request.input.bucket).await?;
        let region = if bucket.location.is_empty() { "us-east-1" } else { &bucket.location };
        let mut response = S3Response::new(HeadBucketOutput::default());
        if let Ok(value) = http::HeaderValue::try_from(region) {
            response.headers.insert("x-amz-bucket-region", value);
        }
        Ok(response)
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.index.bucket(&request.input.bucket).await?;
        let location = Some(bucket.location).filter(|location| !location.is_empty());
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: location.map(BucketLocationConstraint::from),
        }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.index.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        Ok(S3Response::new(lists::objects_v1(&self.index, request.input).await?))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Ok(S3Response::new(lists::objects_v2(&self.index, request.input).await?))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Ok(S3Response::new(lists::uploads(&self.index, request.input).await?))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        Ok(S3Response::new(lists::parts(&self.index, request.input).await?))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        only_null_version(input.version_id.as_deref())?;
        let deletion = Deletion {
            key: input.key,
            etag: input.if_match.map(|condition| match condition {
                ETagCondition::Any => "*".to_owned(),
                ETagCondition::ETag(etag) => etag.into_value(),
            }),
            size: input.if_match_size,
            modified_second: input.if_match_last_modified_time.map(second),
        };
        let delete = DeleteObjects { bucket: input.bucket, deletions: vec![deletion] };
        for outcome in self.index.submit(delete).await? {
            outcome?;
        }
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let quiet = input.delete.quiet == Some(true);
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > DELETIONS_MAX {
            return Err(refuse(
                S3ErrorCode::MalformedXML,
                "The XML you provided was not well-formed or did not validate against our \
                 published schema",
            ));
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        let mut deletions = Vec::with_capacity(objects.len());
        for object in objects {
            match only_null_version(object.version_id.as_deref()) {
                Ok(()) => deletions.push(Deletion {
                    key: object.key,
                    etag: object.e_tag.map(ETag::into_value),
                    size: object.size,
                    modified_second: object.last_modified_time.map(second),
                }),
                Err(error) => errors.push(deletion_error(object.key, &error)),
            }
        }
        let keys: Vec<_> = deletions.iter().map(|deletion| deletion.key.clone()).collect();
        let delete = DeleteObjects { bucket: input.bucket, deletions };
        for (key, outcome) in keys.into_iter().zip(self.index.submit(delete).await?) {
            match outcome {
                Ok(()) if quiet => {}
                Ok(()) => {
                    deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() });
                }
                Err(error) => errors.push(deletion_error(key, &error)),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        complete::complete(&self.index, request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.index.submit(AbortUpload { name: UploadName { bucket, key, upload_id } }).await?;
        let output = AbortMultipartUploadOutput::default();
        Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        only_null_version(input.version_id.as_deref())?;
        let object = self.index.object(&input.bucket, &input.key, Want::Head).await?;
        let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
        let tag_set = object.tags.into_iter().map(tag).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input;
        only_null_version(input.version_id.as_deref())?;
        let pairs = input.tagging.tag_set.into_iter();
        let pairs = pairs.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
        let tags = tags::check(pairs.collect())?;
        self.index.submit(SetTags { bucket: input.bucket, key: input.key, tags }).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let DeleteObjectTaggingInput { bucket, key, version_id, .. } = request.input;
        only_null_version(version_id.as_deref())?;
        self.index.submit(SetTags { bucket, key, tags: Vec::new() }).await?;
        let output = DeleteObjectTaggingOutput::default();
        Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
    }
}

/// The owner of everything: a store has one key.
pub(super) fn owner() -> Owner {
    Owner { display_name: Some("owner".to_owned()), id: Some("0".repeat(64)) }
}

fn second(time: Timestamp) -> i64 {
    time::OffsetDateTime::from(time).unix_timestamp()
}

fn deletion_error(key: String, error: &s3s::S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}

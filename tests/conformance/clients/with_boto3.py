"""boto3."""

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from job import CONTENT_TYPE, METADATA, Job, Unseekable

job = Job()
config = Config(signature_version=UNSIGNED) if job.anonymous else None
s3 = boto3.client(
    "s3",
    endpoint_url=job.endpoint,
    region_name="us-east-1",
    aws_access_key_id=job.access_key or "unused",
    aws_secret_access_key=job.secret_key or "unused",
    config=config,
)
extra = {"ContentType": CONTENT_TYPE, "Metadata": METADATA}


def perform(case):
    where = {"Bucket": job.bucket, "Key": job.key(case)}
    if case == "20MiB":
        s3.upload_file(job.source(case), ExtraArgs=extra, **where)
    elif case == "stream":
        s3.upload_fileobj(Unseekable(job.source(case)), ExtraArgs=extra, **where)
    else:
        s3.put_object(Body=job.data(case), **extra, **where)
    s3.download_file(Filename=job.target(case), **where)


def put_and_get(key, data):
    s3.put_object(Bucket=job.bucket, Key=key, Body=data)
    return s3.get_object(Bucket=job.bucket, Key=key)["Body"].read()


job.run(perform, put_and_get)

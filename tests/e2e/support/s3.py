"""boto3 clients for main, mirror and the proxy; no client retries, so that every fault shows."""

import http.client

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from .stores import REGION

# Python's own limit is 100; S3 allows as much metadata as fits in 2 KB, hundreds of headers.
http.client._MAXHEADERS = 1000

#: What a client may send to a proxy that holds the real credentials itself.
DUMMY = ("DUMMYACCESSKEY", "dummy-secret-that-opens-nothing")


def client(endpoint, credentials=None, *, addressing="path", anonymous=False, **config):
    """A client on `endpoint`; without `credentials` it signs with DUMMY, or not at all."""
    settings = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": 32,
        **config,
    }
    if anonymous:
        settings["signature_version"] = UNSIGNED
    access_key, secret_key = DUMMY
    if credentials is not None:
        access_key, secret_key = credentials.access_key, credentials.secret_key
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": addressing}, **settings),
    )


def of_store(store):
    return client(store.endpoint, store.credentials)


def every_key(s3, bucket):
    """{key: listing entry} of a whole bucket."""
    entries = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            entries[entry["Key"]] = entry
    return entries


def put_multipart(s3, bucket, key, parts, **create):
    """Uploads `parts` (bytes each) in order and completes; returns Complete's answer."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **create)["UploadId"]
    done = []
    for number, body in enumerate(parts, start=1):
        answer = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
        )
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
    )

"""minio-py."""

import io
from urllib.parse import urlsplit

from job import CONTENT_TYPE, METADATA, Job, Unseekable
from minio import Minio

job = Job()
client = Minio(
    urlsplit(job.endpoint).netloc,
    access_key=job.access_key or None,
    secret_key=job.secret_key or None,
    secure=False,
    region="us-east-1",
)
extra = {"content_type": CONTENT_TYPE, "metadata": METADATA}


def perform(case):
    where = {"bucket_name": job.bucket, "object_name": job.key(case)}
    if case == "stream":
        source = Unseekable(job.source(case))
        client.put_object(data=source, length=-1, part_size=5 << 20, **extra, **where)
    elif case == "20MiB":
        client.fput_object(file_path=job.source(case), part_size=5 << 20, **extra, **where)
    else:
        client.fput_object(file_path=job.source(case), **extra, **where)
    client.fget_object(file_path=job.target(case), **where)


def put_and_get(key, data):
    client.put_object(job.bucket, key, io.BytesIO(data), len(data))
    return client.get_object(job.bucket, key).read()


job.run(perform, put_and_get)

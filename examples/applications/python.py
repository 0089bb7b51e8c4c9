# pip install boto3
import os

import boto3
from botocore import UNSIGNED
from botocore.config import Config

s3 = boto3.client(
    "s3",
    endpoint_url=os.environ.get("S3_ENDPOINT", "http://s3-proxy.s3-mirror.svc.cluster.local"),
    region_name="us-east-1",
    # The proxy signs with its own credentials, so the request need not be signed.
    config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
)

bucket = os.environ.get("BUCKET", "my-bucket")
s3.put_object(Bucket=bucket, Key="hello/python.txt", Body=b"Hello from Python")
print(s3.get_object(Bucket=bucket, Key="hello/python.txt")["Body"].read().decode())

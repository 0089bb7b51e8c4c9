"""MAIN_QUIRKS and MIRROR_QUIRKS: services that refuse what S3 takes, or want it otherwise."""

import hashlib

import pytest
from botocore.exceptions import ClientError

from support import raw, sigv4
from support.http_fault import HttpFaultProxy, s3_error

BODY = b"content of an object " * 5000


def refusing(lab, refuses):
    """A relay in front of main that refuses requests for which `refuses(headers)` holds."""

    def rule(request):
        headers = dict(request.headers)
        if refuses(request, headers):
            return s3_error(400, "Bad Request", "InvalidArgument")
        return None

    return lab.closing(HttpFaultProxy(lab.main.address, rule))


def has_checksum(_, headers):
    return any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum")) for name in headers)


def has_trailer(_, headers):
    return "TRAILER" in headers.get("x-amz-content-sha256", "") or "x-amz-trailer" in headers


def trailer_upload(proxy, bucket, key, body, value):
    name = "x-amz-checksum-crc32"
    sent = sigv4.unsigned_chunks(body, 30_000, (name, value))
    headers = [
        ("Host", "h"),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", str(len(body))),
        ("x-amz-trailer", name),
        ("Content-Length", str(len(sent))),
    ]
    return raw.exchange(proxy.address, "PUT", f"/{bucket}/{key}", headers, sent)


@pytest.mark.parametrize("size", [0, 10, len(BODY)])
def test_checksums_that_main_refuses_are_checked_here_and_not_sent(lab, size):
    relay = refusing(lab, has_checksum)
    proxy = lab.proxy(main_endpoint=relay.endpoint, MAIN_QUIRKS="b2")
    bucket = lab.bucket("b2")
    client = lab.client(proxy)
    body = BODY[:size]
    client.put_object(Bucket=bucket, Key="k", Body=body)  # boto3 adds a CRC-32 by itself
    upload = client.create_multipart_upload(Bucket=bucket, Key="m", ChecksumAlgorithm="CRC32")
    part = client.upload_part(
        Bucket=bucket, Key="m", PartNumber=1, UploadId=upload["UploadId"], Body=body
    )
    client.complete_multipart_upload(
        Bucket=bucket,
        Key="m",
        UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["Body"].read() == body
    with pytest.raises(ClientError) as failure:
        client.put_object(Bucket=bucket, Key="k", Body=body, ChecksumCRC32="AAAAAQ==")
    assert failure.value.response["Error"]["Code"] == "BadDigest"
    stored = lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert stored == body
    lab.assert_converged(proxy, bucket)


def test_without_the_quirk_the_refusal_is_mains(lab):
    relay = refusing(lab, has_checksum)
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    with pytest.raises(ClientError) as failure:
        lab.client(proxy).put_object(Bucket=lab.bucket("plain"), Key="k", Body=b"x")
    assert failure.value.response["Error"]["Code"] == "InvalidArgument"


@pytest.mark.parametrize("quirk", ["ceph", "r2", "no-trailers"])
def test_a_trailer_that_main_does_not_know_is_checked_here_and_taken_off(lab, quirk):
    relay = refusing(lab, has_trailer)
    proxy = lab.proxy(main_endpoint=relay.endpoint, MAIN_QUIRKS=quirk)
    bucket = lab.bucket("trailer")
    good = trailer_upload(proxy, bucket, "k", BODY, sigv4.crc32(BODY))
    assert good.status == 200, good
    bad = trailer_upload(proxy, bucket, "bad", BODY, sigv4.crc32(b"other"))
    assert (bad.status, bad.error_code) == (400, "BadDigest")
    stored = lab.s3_main.get_object(Bucket=bucket, Key="k")
    assert stored["Body"].read() == BODY and "ContentEncoding" not in stored
    assert lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    lab.assert_converged(proxy, bucket)


def test_documents_get_the_md5_that_main_demands(lab):
    def without_md5(request, headers):
        return request.method == "PUT" and "tagging" in request.target and (
            "content-md5" not in headers
        )

    relay = refusing(lab, without_md5)
    proxy = lab.proxy(main_endpoint=relay.endpoint, MAIN_QUIRKS="content-md5")
    bucket = lab.bucket("md5")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging=tags)
    assert lab.s3_main.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags["TagSet"]
    lab.assert_converged(proxy, bucket)


def test_the_bucket_stands_in_the_host_where_main_wants_it_there(lab):
    seen = []
    body = b"answered by the relay"
    etag = hashlib.md5(body).hexdigest()
    answer = (
        f'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: {len(body)}\r\n\r\n'
    ).encode() + body

    def rule(request):
        seen.append((dict(request.headers)["host"], request.target))
        return answer

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    endpoint = f"http://localhost:{relay.port}"
    proxy = lab.proxy(main_endpoint=endpoint, MAIN_QUIRKS="virtual-hosted")
    answered = raw.exchange(proxy.address, "GET", "/my-bucket/a%20b?x=1", [("Host", "h")])
    assert (answered.status, answered.body) == (200, body)
    raw.exchange(proxy.address, "GET", "/My_Bucket/k", [("Host", "h")])
    raw.exchange(proxy.address, "GET", "/", [("Host", "h")])
    assert seen == [
        (f"my-bucket.localhost:{relay.port}", "/a%20b?x=1"),
        (f"localhost:{relay.port}", "/My_Bucket/k"),
        (f"localhost:{relay.port}", "/"),
    ]

"""MAIN_QUIRKS and MIRROR_QUIRKS: services that refuse what S3 takes, or want it otherwise."""

import hashlib

import pytest
from botocore.exceptions import ClientError

from support import raw, sigv4
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until

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


@pytest.mark.parametrize("quirk", ["", "ceph", "r2", "signed-payload"])
@pytest.mark.parametrize("size", [0, 10, 65536])
def test_the_checksum_behind_a_small_body_is_put_in_front_and_stored(lab, quirk, size):
    seen = []

    def rule(request):
        headers = dict(request.headers)
        if request.method == "PUT":
            seen.append(headers)
        return s3_error(400, "Bad Request", "InvalidArgument") if has_trailer(None, headers) else None

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint, MAIN_QUIRKS=quirk)
    bucket = lab.bucket("in-front")
    body = BODY[:size]
    good = trailer_upload(proxy, bucket, "k", body, sigv4.crc32(body))
    assert good.status == 200, good
    assert seen[0]["x-amz-checksum-crc32"] == sigv4.crc32(body)
    stored = lab.s3_main.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert stored["Body"].read() == body and "ContentEncoding" not in stored
    assert stored["ChecksumCRC32"] == sigv4.crc32(body)
    bad = trailer_upload(proxy, bucket, "bad", body, sigv4.crc32(b"other"))
    assert (bad.status, bad.error_code) == (400, "BadDigest")
    assert len(seen) == 1, "nothing of it was sent"
    assert proxy.status()["unsettled_intents"] == 0
    lab.assert_converged(proxy, bucket)


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


def test_a_checksum_behind_a_large_body_stays_behind_it_and_is_stored(lab):
    seen = []
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda each: seen.append(each)))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    bucket = lab.bucket("behind")
    assert trailer_upload(proxy, bucket, "k", BODY, sigv4.crc32(BODY)).status == 200
    sent = dict(next(each for each in seen if each.method == "PUT").headers)
    assert sent["x-amz-trailer"] == "x-amz-checksum-crc32"
    assert int(sent["content-length"]) > len(BODY) == int(sent["x-amz-decoded-content-length"])
    stored = lab.s3_main.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert stored["Body"].read() == BODY and stored["ChecksumCRC32"] == sigv4.crc32(BODY)


def test_a_list_of_deletes_always_has_the_md5_that_some_demand(lab):
    def without_md5(request, headers):
        return request.method == "POST" and "content-md5" not in headers

    relay = refusing(lab, without_md5)
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    bucket = lab.bucket("delete-md5")
    client = lab.client(proxy)  # boto3 sends a CRC-32 and no MD5
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    gone = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    assert [each["Key"] for each in gone["Deleted"]] == ["k"]
    assert lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


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


def is_unsigned(_, headers):
    return headers.get("x-amz-content-sha256", "UNSIGNED").find("UNSIGNED") >= 0


@pytest.fixture
def signing(lab):
    """A proxy between two services that refuse whatever is not signed to its last byte."""
    relays = [
        lab.closing(HttpFaultProxy(store.address, lambda request: (
            s3_error(403, "Forbidden", "AccessDenied")
            if is_unsigned(request, dict(request.headers)) else None
        )))
        for store in (lab.main, lab.mirror)
    ]
    proxy = lab.proxy(
        main_endpoint=relays[0].endpoint,
        mirror_endpoint=relays[1].endpoint,
        MAIN_QUIRKS="signed-payload",
        MIRROR_QUIRKS="signed-payload",
        TEE_MEMORY_BYTES=0,
        TEE_SPOOL_BYTES=0,
    )
    return lab, proxy, lab.bucket("signed"), relays


@pytest.mark.parametrize("size", [0, 10, len(BODY), 3 * 1024 * 1024 + 1])
def test_unsigned_bodies_are_signed_for_a_main_that_refuses_them(signing, size):
    lab, proxy, bucket, (to_main, to_mirror) = signing
    body = (BODY * 40)[:size]
    length = ("Content-Length", str(size))
    for key, headers in {
        "absent": [],
        "unsigned": [("x-amz-content-sha256", "UNSIGNED-PAYLOAD")],
        "hash": [("x-amz-content-sha256", hashlib.sha256(body).hexdigest())],
    }.items():
        sent = [("Host", "h"), length, *headers]
        answered = raw.exchange(proxy.address, "PUT", f"/{bucket}/{key}", sent, body)
        assert answered.status == 200, answered
        got = raw.exchange(proxy.address, "GET", f"/{bucket}/{key}", [("Host", "h")])
        assert (got.status, got.body) == (200, body)
    lab.assert_converged(proxy, bucket)
    assert "ContentEncoding" not in lab.s3_main.head_object(Bucket=bucket, Key="unsigned")
    forms = {dict(request.headers)["x-amz-content-sha256"] for request in to_main.requests}
    assert (sigv4.STREAMING_SIGNED in forms) == (size > 0)
    if size > len(BODY):  # what is in the mirror's memory goes with its hash
        forms = {dict(request.headers)["x-amz-content-sha256"] for request in to_mirror.requests}
        assert sigv4.STREAMING_SIGNED in forms


@pytest.mark.parametrize("size", [0, 10, len(BODY)])
def test_a_checksum_behind_the_body_is_stored_by_a_main_that_wants_signatures(signing, size):
    lab, proxy, bucket, _ = signing
    body = BODY[:size]
    good = trailer_upload(proxy, bucket, "k", body, sigv4.crc32(body))
    assert good.status == 200, good
    stored = lab.s3_main.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert stored["Body"].read() == body and "ContentEncoding" not in stored
    assert stored["ChecksumCRC32"] == sigv4.crc32(body)
    bad = trailer_upload(proxy, bucket, "bad", body, sigv4.crc32(b"other"))
    assert (bad.status, bad.error_code) == (400, "BadDigest")
    lab.assert_converged(proxy, bucket)
    assert lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_documents_parts_and_forms_are_signed_too(signing):
    lab, proxy, bucket, _ = signing
    host = ("Host", "h")

    def call(method, target, body=b"", *headers):
        headers = [host, ("Content-Length", str(len(body))), *headers]
        answered = raw.exchange(proxy.address, method, target, headers, body)
        assert answered.status in (200, 204), answered
        return answered

    call("PUT", f"/{bucket}/k", b"x")
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    call("PUT", f"/{bucket}/k?tagging", tags)
    upload = call("POST", f"/{bucket}/parts?uploads").body.decode()
    upload = upload.partition("<UploadId>")[2].partition("</UploadId>")[0]
    part = f"/{bucket}/parts?partNumber=1&uploadId={upload}"
    etag = call("PUT", part, BODY).header("etag")
    listed = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    call("POST", f"/{bucket}/parts?uploadId={upload}", listed.encode())
    form = (
        b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nform\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + BODY + b"\r\n--b--\r\n"
    )
    call("POST", f"/{bucket}", form, ("Content-Type", "multipart/form-data; boundary=b"))
    call("PUT", f"/{bucket}/gone", b"x")
    call("POST", f"/{bucket}?delete", b"<Delete><Object><Key>gone</Key></Object></Delete>")
    lab.assert_converged(proxy, bucket)
    keys = {each["Key"] for each in lab.s3_main.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {"k", "parts", "form"}
    assert lab.s3_main.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]


def test_a_signed_upload_that_breaks_off_has_no_effect(signing):
    lab, proxy, bucket, _ = signing
    with raw.Connection(proxy.address) as connection:
        head = [("Host", "h"), ("Content-Length", str(len(BODY)))]
        connection.send(raw.request_bytes("PUT", f"/{bucket}/cut", head) + BODY[:-1])
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket)


def test_a_body_of_unknown_length_cannot_be_signed(signing):
    _, proxy, bucket, _ = signing
    headers = [("Host", "h"), ("Transfer-Encoding", "chunked")]
    answered = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, b"1\r\nx\r\n0\r\n\r\n")
    assert (answered.status, answered.error_code) == (411, "MissingContentLength")


def test_plain_http_to_aws_is_signed_and_said_at_the_start(lab):
    """Nothing is sent: there is no AWS here."""
    proxy = lab.proxy(main_endpoint="http://s3.eu-west-1.amazonaws.com")

    def warnings():
        return [line for line in proxy.log_lines() if line["level"] == "warn"]

    # A line may come a moment after the readiness.
    until(warnings, "a warning")
    warned = warnings()
    assert any("plain http to AWS" in line["message"] for line in warned), warned
    assert "MAIN_S3_ENDPOINT" in warned[0]["message"] and len(warned) == 1

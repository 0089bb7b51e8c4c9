"""P1: what works directly works through the proxy: objects, conditions, copies, lists, errors.

Each scenario runs directly against main and through the proxy; every answer is compared (status,
headers but for times and ids, parsed body, error code), then mirror and inventory with main.
"""

from datetime import datetime, timezone

import pytest

from support.twin import run_twice

EARLIER = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


def put_get_head_delete(s):
    s.put("hello.txt", b"hello, world")
    s.get("hello.txt")
    s.head("hello.txt")
    s.call("delete_object", status=204, Key="hello.txt")
    s.get("hello.txt", status=404)
    s.head("hello.txt", status=404)
    s.call("delete_object", status=204, Key="hello.txt")


def bodies_of_many_sizes(s):
    for size in (0, 1, 1023, 1024, 65535, 65536, 70_000, 1_048_577):
        s.put(f"size-{size}", b"x" * size)
        s.get(f"size-{size}")
        s.head(f"size-{size}")


def overwriting(s):
    for text in (b"first", b"the second, longer", b""):
        s.put("again", text, ContentType="text/plain")
        s.get("again")
    s.put("again", b"{}", ContentType="application/json")
    s.head("again")


def every_content_header_and_user_metadata(s):
    s.put(
        "dressed",
        b"body",
        ContentType="text/html; charset=utf-8",
        ContentEncoding="gzip",
        ContentLanguage="de, en",
        ContentDisposition='attachment; filename="a b.txt"',
        CacheControl="max-age=3600, private",
        Expires=EARLIER,
        WebsiteRedirectLocation="/elsewhere",
        Metadata={"one": "1", "two-words": "with spaces", "percent": "a%20b+c", "empty": ""},
    )
    s.head("dressed")
    s.get("dressed")
    s.put("plain", b"body")
    s.head("plain")


def overriding_response_headers(s):
    s.put("report", b"1,2,3", ContentType="text/plain")
    s.get(
        "report",
        ResponseContentType="text/csv",
        ResponseContentDisposition='attachment; filename="r+1 %.csv"',
        ResponseCacheControl="no-store",
        ResponseContentLanguage="en",
        ResponseContentEncoding="identity",
    )


def ranges(s):
    s.put("alphabet", b"abcdefghijklmnopqrstuvwxyz")
    for text in ("bytes=0-0", "bytes=2-5", "bytes=20-", "bytes=-3", "bytes=20-99", "bytes=-99"):
        s.get("alphabet", status=206, Range=text)
    s.get("alphabet", status=416, Range="bytes=26-30")
    s.head("alphabet", status=206, Range="bytes=2-5")
    s.put("empty", b"")
    s.get("empty", status=416, Range="bytes=0-0")


def conditional_reads(s):
    etag = s.put("page", b"content")["ETag"]
    s.get("page", IfMatch=etag)
    s.get("page", status=412, IfMatch='"00000000000000000000000000000000"')
    s.get("page", status=304, IfNoneMatch=etag)
    s.get("page", IfNoneMatch='"00000000000000000000000000000000"')
    modified = s.head("page")["LastModified"]
    s.get("page", status=304, IfModifiedSince=modified)
    s.get("page", IfModifiedSince=EARLIER)
    s.get("page", IfUnmodifiedSince=modified)
    s.get("page", status=412, IfUnmodifiedSince=EARLIER)
    s.head("page", status=304, IfNoneMatch=etag)
    s.head("page", status=412, IfMatch='"00000000000000000000000000000000"')


def conditional_writes(s):
    s.put("once", b"1", IfNoneMatch="*")
    s.call("put_object", status=412, Key="once", Body=b"2", IfNoneMatch="*")
    etag = s.get("once")["ETag"]
    s.call("put_object", status=412, Key="once", Body=b"3", IfMatch='"0000"')
    s.put("once", b"4", IfMatch=etag)
    s.get("once")


def copies(s):
    s.put("from here+%/ä", b"copied", ContentType="text/x-one", Metadata={"kept": "yes"})
    source = {"Bucket": s.bucket, "Key": "from here+%/ä"}
    s.call("copy_object", status=200, Key="to", CopySource=source)
    s.get("to")
    s.call(
        "copy_object",
        status=200,
        Key="replaced",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/x-two",
        Metadata={"new": "also"},
    )
    s.head("replaced")
    s.call("copy_object", status=404, Key="to", CopySource={"Bucket": s.bucket, "Key": "none"})
    s.get("to")


def metadata_only_copy_onto_itself(s):
    s.put("same", b"the body stays", ContentType="text/x-one", Metadata={"a": "1"})
    source = {"Bucket": s.bucket, "Key": "same"}
    s.call("copy_object", status=400, Key="same", CopySource=source)
    s.call(
        "copy_object",
        status=200,
        Key="same",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/x-two",
        Metadata={"a": "2", "b": "3"},
    )
    s.get("same")


def conditional_copies(s):
    etag = s.put("source", b"x")["ETag"]
    source = {"Bucket": s.bucket, "Key": "source"}
    s.call("copy_object", status=200, Key="yes", CopySource=source, CopySourceIfMatch=etag)
    s.call("copy_object", status=412, Key="no", CopySource=source, CopySourceIfMatch='"0"')
    s.call("copy_object", status=412, Key="no", CopySource=source, CopySourceIfNoneMatch=etag)
    s.head("no", status=404)


def deleting_many(s):
    names = [f"item {n}" for n in range(12)] + ["a&b<c>", "ü", "plus+", "per%cent"]
    for name in names:
        s.put(name, b"x")
    wanted = [{"Key": name} for name in [*names[:10], *names[12:], "never-existed"]]
    s.call("delete_objects", status=200, Delete={"Objects": wanted})
    s.call("list_objects_v2", status=200)
    quiet = {"Objects": [{"Key": names[10]}, {"Key": names[11]}], "Quiet": True}
    s.call("delete_objects", status=200, Delete=quiet)
    s.call("list_objects_v2", status=200)


def lists(s):
    for name in ("a/1", "a/2", "a/b/3", "b", "c d", "e+f", "g%h", "ü/x", "z"):
        s.put(name, name.encode())
    for operation in ("list_objects", "list_objects_v2"):
        s.call(operation, status=200)
        s.call(operation, status=200, Delimiter="/")
        s.call(operation, status=200, Prefix="a/", Delimiter="/")
        s.call(operation, status=200, Prefix="c d")
        s.call(operation, status=200, Prefix="e+")
        s.call(operation, status=200, Prefix="none-such")
        s.call(operation, status=200, MaxKeys=3)
        s.call(operation, status=200, EncodingType="url")
    s.call("list_objects", status=200, Marker="b", MaxKeys=2)
    s.call("list_objects_v2", status=200, StartAfter="b")
    token, pages = {}, 0
    while pages == 0 or token:
        page = s.call("list_objects_v2", status=200, MaxKeys=2, **token)
        pages += 1
        token = {"ContinuationToken": page["NextContinuationToken"]} if page["IsTruncated"] else {}
    assert pages == 5


def tagging(s):
    s.put("tagged", b"x", Tagging="colour=blue&with%20space=a%2Bb")
    s.head("tagged")
    s.call("get_object_tagging", status=200, Key="tagged")
    tags = {"TagSet": [{"Key": "colour", "Value": "red"}, {"Key": "ü", "Value": "ö + /=@"}]}
    s.call("put_object_tagging", status=200, Key="tagged", Tagging=tags)
    s.call("get_object_tagging", status=200, Key="tagged")
    s.call("delete_object_tagging", status=204, Key="tagged")
    s.call("get_object_tagging", status=200, Key="tagged")


def checksums(s):
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        if algorithm in ("CRC32C", "CRC64NVME"):
            # boto3 computes these two only with an extra package; the values are of b"checked".
            name = {"CRC32C": "ChecksumCRC32C", "CRC64NVME": "ChecksumCRC64NVME"}[algorithm]
            value = {"CRC32C": "y2dK3w==", "CRC64NVME": "AAAAAAAAAAA="}[algorithm]
            s.call("put_object", status=400, Key=algorithm, Body=b"checked", **{name: value})
            continue
        s.put(algorithm, b"checked", ChecksumAlgorithm=algorithm)
        s.head(algorithm, ChecksumMode="ENABLED")
        s.get(algorithm, ChecksumMode="ENABLED")


def wrong_digests(s):
    s.call("put_object", status=400, Key="md5", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
    s.call("put_object", status=400, Key="sum", Body=b"x", ChecksumCRC32="AAAAAA==")
    s.call("put_object", status=400, Key="sha", Body=b"x", ChecksumSHA256="A" * 43 + "=")
    s.call("list_objects_v2", status=200)


def errors(s):
    s.get("none", status=404)
    s.head("none", status=404)
    s.call("get_object_tagging", status=404, Key="none")
    none = {"Bucket": "no-such-bucket-anywhere"}
    s.call("get_object", status=404, Key="k", **none)
    s.call("put_object", status=404, Key="k", Body=b"x", **none)
    s.call("list_objects_v2", status=404, **none)
    s.call("head_bucket", status=404, **none)
    s.call("delete_bucket", status=404, **none)
    upload = {"Key": "k", "UploadId": "none"}
    s.call("upload_part", status=404, PartNumber=1, Body=b"x", **upload)
    s.call("abort_multipart_upload", status=404, **upload)
    s.call("list_parts", status=404, **upload)


def buckets(s):
    other = {"Bucket": s.bucket + "-two"}
    s.call("create_bucket", status=200, **other)
    s.call("head_bucket", status=200, **other)
    s.call("get_bucket_location", status=200, **other)
    s.call("put_object", status=200, Key="in the way", Body=b"x", **other)
    s.call("delete_bucket", status=409, **other)
    s.call("delete_object", status=204, Key="in the way", **other)
    s.call("delete_bucket", status=204, **other)
    s.call("head_bucket", status=404, **other)
    s.call("get_bucket_versioning", status=200)


SCENARIOS = [
    put_get_head_delete,
    bodies_of_many_sizes,
    overwriting,
    every_content_header_and_user_metadata,
    overriding_response_headers,
    ranges,
    conditional_reads,
    conditional_writes,
    copies,
    metadata_only_copy_onto_itself,
    conditional_copies,
    deleting_many,
    lists,
    tagging,
    checksums,
    wrong_digests,
    errors,
    buckets,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_the_answer_is_the_same_through_the_proxy(steady, scenario):
    lab, proxy, inventory = steady
    run_twice(lab, proxy, scenario, inventory)


def test_an_anonymous_client_gets_the_same_answers(steady):
    lab, proxy, inventory = steady
    run_twice(lab, proxy, put_get_head_delete, inventory, anonymous=True)
    run_twice(lab, proxy, lists, inventory, anonymous=True)


def test_sdk_defaults_and_required_checksums_only_give_the_same_object(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("sums")
    etags = set()
    for setting in ("when_supported", "when_required"):
        client = lab.client(
            proxy, request_checksum_calculation=setting, response_checksum_validation=setting
        )
        etags.add(client.put_object(Bucket=bucket, Key=setting, Body=b"same bytes")["ETag"])
        assert client.get_object(Bucket=bucket, Key=setting)["Body"].read() == b"same bytes"
    assert len(etags) == 1
    lab.assert_converged(proxy, bucket, inventory=inventory)

"""What a copy is beside its bytes: storage class, part boundaries of long uploads, large objects."""

import hashlib
import re
import urllib.parse

import pytest

from support import s3
from support.http_fault import HttpFaultProxy

MIB = 1024 * 1024
TEES = {"kept": {}, "read-back": {"TEE_MEMORY_BYTES": 0, "TEE_SPOOL_BYTES": 0}}


def classes(client, bucket, keys):
    heads = {key: client.head_object(Bucket=bucket, Key=key) for key in keys}
    return {key: head.get("StorageClass", "STANDARD") for key, head in heads.items()}


@pytest.mark.parametrize("tee", TEES.values(), ids=TEES.keys())
def test_storage_classes_are_mapped_however_an_object_came_to_be(lab, tee):
    proxy = lab.proxy(MIRROR_STORAGE_CLASS="STANDARD_IA=GLACIER_IR,*=ONEZONE_IA", **tee)
    bucket = lab.bucket("classes")
    client = lab.client(proxy)
    infrequent = {"StorageClass": "STANDARD_IA"}
    client.put_object(Bucket=bucket, Key="plain", Body=b"x")
    client.put_object(Bucket=bucket, Key="infrequent", Body=b"x", **infrequent)
    s3.put_multipart(client, bucket, "parts", [bytes(5 * MIB), b"x"], **infrequent)
    source = {"Bucket": bucket, "Key": "plain"}
    client.copy_object(Bucket=bucket, Key="copy", CopySource=source, **infrequent)
    client.put_object(Bucket=bucket, Key="moved", Body=b"x")
    proxy.wait_drained()
    assert classes(lab.s3_mirror, bucket, ["moved"]) == {"moved": "ONEZONE_IA"}
    # Nothing but the class changes.
    moved = {"Bucket": bucket, "Key": "moved"}
    client.copy_object(**moved, CopySource=moved, MetadataDirective="REPLACE", **infrequent)
    lab.assert_converged(proxy, bucket)
    assert classes(lab.s3_mirror, bucket, ["plain", "infrequent", "parts", "copy", "moved"]) == {
        "plain": "ONEZONE_IA",
        "infrequent": "GLACIER_IR",
        "parts": "GLACIER_IR",
        "copy": "GLACIER_IR",
        "moved": "GLACIER_IR",
    }


def test_without_a_map_the_mirror_chooses_the_class(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("classes")
    lab.client(proxy).put_object(
        Bucket=bucket, Key="k", Body=b"x", ContentType="a/b", StorageClass="STANDARD_IA"
    )
    lab.assert_converged(proxy, bucket)
    assert classes(lab.s3_mirror, bucket, ["k"]) == {"k": "STANDARD"}


@pytest.mark.parametrize("tee", TEES.values(), ids=TEES.keys())
def test_what_is_too_large_for_one_request_is_sent_in_parts(lab, tee):
    """The logic of objects above 5 GiB, with a smaller limit."""
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, lambda request: None))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, MIRROR_PUT_BYTES_MAX=5 * MIB, **tee)
    bucket = lab.bucket("limit")
    client = lab.client(proxy)
    bodies = {"fits": bytes(range(256)) * 20 * 1024, "above": b"0123456" * MIB + b"end"}
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"m": key}, Tagging="t=1")
    proxy.wait_drained(60)
    for key, body in bodies.items():
        copy = lab.s3_mirror.get_object(Bucket=bucket, Key=key)
        assert copy["Body"].read() == body and copy["Metadata"] == {"m": key}
        assert lab.s3_mirror.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    longest = max(
        int(dict(request.headers).get("content-length", 0)) for request in relay.requests
    )
    assert longest == 5 * MIB
    assert lab.s3_mirror.head_object(Bucket=bucket, Key="above")["ETag"].endswith('-2"')


class Pretended:
    """A store that knows one multipart object of a thousand tiny parts, which no real one takes."""

    COUNT = 1000

    def __init__(self, lab, pass_on):
        self.parts = [b"%d" % number * (number % 7 + 1) for number in range(1, self.COUNT + 1)]
        self.etags = [hashlib.md5(part).hexdigest() for part in self.parts]
        joined = b"".join(bytes.fromhex(etag) for etag in self.etags)
        self.etag = f"{hashlib.md5(joined).hexdigest()}-{self.COUNT}"
        self.body = b"".join(self.parts)
        self.there = False
        self.received = {}
        self.relay = lab.closing(HttpFaultProxy(pass_on.address, self.rule))

    def rule(self, request):
        path, _, query = request.target.partition("?")
        fields = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        headers = dict(request.headers)
        if not path.endswith("/long"):
            return None
        if request.method == "POST" and "uploads" in fields:
            return answer(b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                          b"</InitiateMultipartUploadResult>")
        if request.method == "PUT":
            number = int(fields["partNumber"])
            self.received[number] = int(headers["content-length"])
            return answer(b"", etag=self.etags[number - 1])
        if request.method == "POST":
            self.there = True
            return answer(b"<CompleteMultipartUploadResult><ETag>&quot;%s&quot;</ETag>"
                          b"</CompleteMultipartUploadResult>" % self.etag.encode())
        if not self.there:
            return answer(b"", status="404 Not Found")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if wanted:
            first, last = map(int, wanted.groups())
            piece = self.body[first : last + 1]
            return answer(piece, status="206 Partial Content", etag=self.etag)
        return answer(self.body, etag=self.etag)

    def sizes(self):
        return {number: len(part) for number, part in enumerate(self.parts, start=1)}


def answer(body, status="200 OK", etag=None):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: a/b\r\n"
    if etag:
        head += f'ETag: "{etag}"\r\nLast-Modified: Sat, 21 Nov 2026 06:41:17 GMT\r\n'
    return head.encode() + b"\r\n" + body


@pytest.mark.parametrize("tee", TEES.values(), ids=TEES.keys())
def test_an_upload_of_a_thousand_parts_keeps_every_boundary(lab, tee):
    main, mirror = Pretended(lab, lab.main), Pretended(lab, lab.mirror)
    proxy = lab.proxy(
        main_endpoint=main.relay.endpoint, mirror_endpoint=mirror.relay.endpoint, **tee
    )
    bucket = lab.bucket("long")
    s3.put_multipart(lab.client(proxy), bucket, "long", main.parts, ContentType="a/b")
    proxy.wait_drained(60)
    assert mirror.there and mirror.received == main.received == main.sizes()
    reads = [request for request in main.relay.requests if request.method == "GET"]
    assert len(reads) == (0 if tee is TEES["kept"] else Pretended.COUNT)


class WithLists:
    """A relay that keeps one access control list per key, for a store that has none."""

    def __init__(self, lab, store):
        self.lists = {}
        self.asked = 0
        self.relay = lab.closing(HttpFaultProxy(store.address, self.rule))

    def rule(self, request):
        path, _, query = request.target.partition("?")
        key = path.rsplit("/", 1)[1]
        named, query = dict(request.headers).get("x-amz-acl"), query.rstrip("=")
        if query == "acl" and request.method == "PUT":
            self.lists[key] = named
            return answer(b"")
        if query == "acl":
            self.asked += 1
            return answer(self.document(self.lists.get(key, "private")))
        if request.method == "PUT":
            # A new object has no list of the old one. What is sent with it this store does not know.
            self.lists.pop(key, None)
        return None

    @staticmethod
    def document(name):
        grants = "<Grant><Grantee><ID>o</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
        if name == "public-read":
            uri = "http://acs.amazonaws.com/groups/global/AllUsers"
            grants += f"<Grant><Grantee><URI>{uri}</URI></Grantee><Permission>READ</Permission></Grant>"
        return (
            "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList>"
            f"{grants}</AccessControlList></AccessControlPolicy>"
        ).encode()


def test_access_control_lists_follow_where_that_is_wanted(lab):
    main, mirror = WithLists(lab, lab.main), WithLists(lab, lab.mirror)
    proxy = lab.proxy(
        main_endpoint=main.relay.endpoint, mirror_endpoint=mirror.relay.endpoint, MIRROR_ACL="true"
    )
    bucket = lab.bucket("lists")
    client = lab.client(proxy)

    def put(key):
        client.put_object(Bucket=bucket, Key=key, Body=b"x", ContentType="a/b")

    for key in ("open", "closed", "anew", "private"):
        put(key)
    for key in ("open", "closed", "anew"):
        client.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")
    lab.assert_converged(proxy, bucket)
    public = dict.fromkeys(("open", "closed", "anew"), "public-read")
    assert {k: v for k, v in mirror.lists.items() if v != "private"} == public
    client.put_object_acl(Bucket=bucket, Key="closed", ACL="private")
    put("anew")
    lab.assert_converged(proxy, bucket)
    assert {k for k, v in mirror.lists.items() if v != "private"} == {"open"}


def test_access_control_lists_are_left_alone_by_default(lab):
    main, mirror = WithLists(lab, lab.main), WithLists(lab, lab.mirror)
    proxy = lab.proxy(main_endpoint=main.relay.endpoint, mirror_endpoint=mirror.relay.endpoint)
    bucket = lab.bucket("lists")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    client.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    lab.assert_converged(proxy, bucket)
    assert main.asked == 0 and mirror.lists == {}

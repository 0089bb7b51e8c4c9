"""Signed requests by hand against a proxy that verifies its clients: every byte counts."""

import hashlib
import json
from datetime import datetime, timedelta, timezone

import pytest

from support import raw, sigv4
from support.http_fault import HttpFaultProxy

KEY = ("VERIFIED", "verified-secret-0123456789")
SMALL = b"0123456789" * 2000
#: More than waits for its intent: the end is what is held back.
LARGE = b"0123456789" * 20_000
CHUNK_BYTES = 8192
CRC32 = "x-amz-checksum-crc32"


@pytest.fixture(scope="module")
def place(module_lab, tmp_path_factory):
    """(lab, relay to main, proxy, bucket)"""
    lab = module_lab
    file = tmp_path_factory.mktemp("verified") / "clients.json"
    rule = {"bucket": "*", "access": "read-write"}
    file.write_text(
        json.dumps([{"access_key_id": KEY[0], "secret_access_key": KEY[1], "buckets": [rule]}])
    )
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda request: None))
    proxy = lab.proxy(
        main_endpoint=relay.endpoint,
        inventory={"DISABLE_DATABASE": "true"},
        CLIENT_CREDENTIALS_FILE=str(file),
        LOG_LEVEL="debug",
    )
    return lab, relay, proxy, lab.bucket("verified")


def host(proxy):
    return ("host", f"127.0.0.1:{proxy.port}")


def send(proxy, method, target, signer, payload, body=b"", headers=(), unsigned=()):
    signed = signer.headers(method, target, [host(proxy), *headers], payload)
    length = [("content-length", str(len(body)))] if body or method != "GET" else []
    return raw.exchange(proxy.address, method, target, [*signed, *length, *unsigned], body)


def chunked(proxy, target, body, trailer=None, damage=lambda framed: framed):
    """Uploads in signed chunks, damaged after they were signed."""
    signer = sigv4.Signer(*KEY)
    payload = sigv4.STREAMING_SIGNED_TRAILER if trailer else sigv4.STREAMING_SIGNED
    headers = [host(proxy), ("x-amz-decoded-content-length", str(len(body)))]
    if trailer:
        headers.append(("x-amz-trailer", trailer[0]))
    signed = signer.headers("PUT", target, headers, payload)
    framed = damage(sigv4.signed_chunks(signer, body, CHUNK_BYTES, trailer))
    return raw.exchange(
        proxy.address, "PUT", target, [*signed, ("content-length", str(len(framed)))], framed
    )


def other_digit(framed, at):
    digit = b"0" if framed[at : at + 1] != b"0" else b"1"
    return framed[:at] + digit + framed[at + 1 :]


def swapped(framed):
    """The first two chunks, each of which is good in its place, in the wrong order."""
    size = len(framed[: framed.index(b"\r\n")]) + 2 + CHUNK_BYTES + 2
    return framed[size : 2 * size] + framed[:size] + framed[2 * size :]


DAMAGES = {
    "a byte of the first chunk": lambda framed: other_digit(framed, framed.index(b"\r\n") + 5),
    "a byte of the last chunk": lambda framed: other_digit(framed, framed.rindex(b"\r\n0;") - 2),
    "the signature of a chunk": lambda framed: other_digit(framed, framed.index(b"=") + 3),
    "the last signature of all": lambda framed: other_digit(framed, framed.rindex(b"0;") + 25),
    "the order": swapped,
}


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["nothing", "small", "large"])
@pytest.mark.parametrize("trailer", [False, True], ids=["plain", "trailer"])
def test_signed_chunks_are_stored_as_their_bytes(place, body, trailer):
    lab, _, proxy, bucket = place
    trailer = (CRC32, sigv4.crc32(body)) if trailer else None
    answered = chunked(proxy, f"/{bucket}/good", body, trailer)
    assert answered.status == 200, answered
    stored = lab.s3_main.get_object(Bucket=bucket, Key="good", ChecksumMode="ENABLED")
    assert stored["Body"].read() == body and "ContentEncoding" not in stored
    if trailer:
        assert stored["ChecksumCRC32"] == trailer[1]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_one_wrong_byte_in_signed_chunks_stores_nothing(place, body, damage):
    lab, _, proxy, bucket = place
    answered = chunked(proxy, f"/{bucket}/bad", body, None, damage)
    assert (answered.status, answered.error_code) == (403, "SignatureDoesNotMatch")
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket, Prefix="bad")


@pytest.mark.parametrize("at", ["value", "signature"])
def test_a_trailer_that_was_not_signed_so_stores_nothing(place, at):
    lab, _, proxy, bucket = place

    def damage(framed):
        if at == "signature":
            return other_digit(framed, framed.rindex(b"x-amz-trailer-signature:") + 30)
        # The right checksum of other bytes, under the old signature.
        return framed.replace(good.encode(), sigv4.crc32(b"other").encode())

    good = sigv4.crc32(SMALL)
    answered = chunked(proxy, f"/{bucket}/bad", SMALL, (CRC32, good), damage)
    assert answered.status in (400, 403) and answered.error_code in (
        "SignatureDoesNotMatch",
        "BadDigest",
    ), answered
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket, Prefix="bad")


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_a_body_of_another_hash_than_the_signed_one_stores_nothing(place, body):
    lab, _, proxy, bucket = place
    wrong = hashlib.sha256(b"other").hexdigest()
    answered = send(proxy, "PUT", f"/{bucket}/hash", sigv4.Signer(*KEY), wrong, body)
    assert (answered.status, answered.error_code) == (400, "XAmzContentSHA256Mismatch")
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket, Prefix="hash")


def at(minutes):
    return sigv4.Signer(*KEY, now=datetime.now(timezone.utc) + timedelta(minutes=minutes))


def of_another_region():
    signer = sigv4.Signer(*KEY)
    signer.scope = signer.scope.replace("us-east-1", "eu-west-9")
    return signer


def of_another_service():
    signer = sigv4.Signer(*KEY)
    signer.scope = signer.scope.replace("/s3/", "/sqs/")
    return signer


def of_another_day():
    signer = sigv4.Signer(*KEY)
    signer.scope = "20130524" + signer.scope[8:]
    return signer


REFUSALS = {
    "16 minutes ago": (lambda: at(-16), 403, "RequestTimeTooSkewed"),
    "in 16 minutes": (lambda: at(16), 403, "RequestTimeTooSkewed"),
    "unknown key": (lambda: sigv4.Signer("NOBODY", KEY[1]), 403, "InvalidAccessKeyId"),
    "wrong secret": (lambda: sigv4.Signer(KEY[0], "x" * 20), 403, "SignatureDoesNotMatch"),
    "a scope of another region": (of_another_region, 403, "SignatureDoesNotMatch"),
    "another service": (of_another_service, 400, "AuthorizationHeaderMalformed"),
    "another day": (of_another_day, 400, "AuthorizationHeaderMalformed"),
}


@pytest.mark.parametrize("signer, status, code", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_signature_that_does_not_hold_is_refused_with_its_code(place, signer, status, code):
    _, relay, proxy, bucket = place
    before = len(relay.requests)
    answered = send(proxy, "GET", f"/{bucket}/k", signer(), sigv4.EMPTY_SHA256)
    assert (answered.status, answered.error_code) == (status, code), answered
    head = send(proxy, "HEAD", f"/{bucket}/k", signer(), sigv4.EMPTY_SHA256)
    assert (head.status, head.body) == (status, b"")
    assert len(relay.requests) == before


@pytest.mark.parametrize(
    "authorization, status, code",
    [
        ("AWS VERIFIED:c2lnbmF0dXJl", 400, "InvalidRequest"),
        ("AWS4-ECDSA-P256-SHA256 Credential=VERIFIED/20130524/s3/aws4_request, "
         "SignedHeaders=host, Signature=00", 501, "NotImplemented"),
        ("AWS4-HMAC-SHA256 nonsense", 400, "AuthorizationHeaderMalformed"),
        ("Bearer token", 400, None),
    ],
)
def test_other_kinds_of_signatures_are_refused_by_name(place, authorization, status, code):
    _, relay, proxy, bucket = place
    before = len(relay.requests)
    headers = [host(proxy), ("authorization", authorization), ("x-amz-date", "20130524T000000Z")]
    answered = raw.exchange(proxy.address, "GET", f"/{bucket}/k", headers)
    assert answered.status == status, answered
    assert code is None or answered.error_code == code
    assert len(relay.requests) == before


@pytest.mark.parametrize(
    "header",
    [
        ("x-amz-copy-source", "/other/secret"),
        ("x-amz-acl", "public-read-write"),
        ("x-amz-meta-a", "b"),
        ("x-amz-security-token", "token"),
    ],
    ids=lambda header: header[0],
)
def test_a_header_that_was_added_behind_the_signature_reaches_nobody(place, header):
    _, relay, proxy, bucket = place
    before = len(relay.requests)
    payload = hashlib.sha256(SMALL).hexdigest()
    signer = sigv4.Signer(*KEY)
    answered = send(proxy, "PUT", f"/{bucket}/k", signer, payload, SMALL, unsigned=[header])
    assert (answered.status, answered.error_code) == (403, "AccessDenied")
    assert len(relay.requests) == before


def test_headers_that_proxies_and_sdks_leave_unsigned_may_be_so(place):
    lab, _, proxy, bucket = place
    payload = hashlib.sha256(SMALL).hexdigest()
    unsigned = [("content-type", "text/x-unsigned"), ("accept-encoding", "gzip")]
    answered = send(
        proxy, "PUT", f"/{bucket}/free", sigv4.Signer(*KEY), payload, SMALL, unsigned=unsigned
    )
    assert answered.status == 200, answered
    assert lab.s3_main.head_object(Bucket=bucket, Key="free")["ContentType"] == "text/x-unsigned"


@pytest.mark.parametrize("name", ["expect", "content-length", "accept-encoding", "connection"])
def test_headers_that_intermediaries_touch_may_be_signed(place, name):
    """rclone and Go sign accept-encoding, the common runtime content-length, others expect."""
    _, _, proxy, bucket = place
    values = {"expect": "100-continue", "content-length": str(len(SMALL))}
    values |= {"accept-encoding": "identity", "connection": "keep-alive"}
    payload = hashlib.sha256(SMALL).hexdigest()
    target = f"/{bucket}/signed-{name}"
    signed = sigv4.Signer(*KEY).headers("PUT", target, [host(proxy), (name, values[name])], payload)
    if name != "content-length":
        signed.append(("content-length", str(len(SMALL))))
    assert raw.exchange(proxy.address, "PUT", target, signed, SMALL).status == 200

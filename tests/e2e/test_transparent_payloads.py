"""P1 for payload modes: however a client frames and signs its body, the object is the body.

The requests are hand-made. Directly to main they carry main's real key; through the proxy a dummy
key (chunk signatures included), which the proxy must take apart without being able to verify.
"""

import hashlib

import pytest

from support import raw, s3, sigv4
from support.poll import until

BODY = bytes(range(256)) * 800  # 204800 bytes: more than three chunks of 64 KiB
CHUNK_BYTES = 64 * 1024


class Way:
    """How to reach a bucket: an address and the key pair to sign with."""

    def __init__(self, address, access_key, secret_key):
        self.address = address
        self.keys = (access_key, secret_key)
        self.host = f"{address[0]}:{address[1]}"


def ways(lab, proxy):
    credentials = lab.main.credentials
    return {
        "directly": Way(lab.main.address, credentials.access_key, credentials.secret_key),
        "through the proxy": Way(proxy.address, *s3.DUMMY),
    }


def put(way, bucket, key, mode, body=BODY, *, trailer=None, decoded_length=None, extra=()):
    """One hand-made PUT in a payload mode; the faults are in the arguments."""
    signer = sigv4.Signer(*way.keys)
    target = f"/{bucket}/{key}"
    headers = [("host", way.host), *extra]
    streaming = mode.startswith("STREAMING-")
    payload_hash = mode
    if mode == "hex":
        payload_hash = hashlib.sha256(body).hexdigest()
    if streaming:
        length = len(body) if decoded_length is None else decoded_length
        headers += [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", str(length)),
        ]
        if trailer is not None:
            headers.append(("x-amz-trailer", trailer[0]))
    signed = signer.headers("PUT", target, headers, payload_hash)
    if mode in (sigv4.STREAMING_SIGNED, sigv4.STREAMING_SIGNED_TRAILER):
        sent = sigv4.signed_chunks(signer, body, CHUNK_BYTES, trailer)
    elif mode == sigv4.STREAMING_UNSIGNED_TRAILER:
        sent = sigv4.unsigned_chunks(body, CHUNK_BYTES, trailer)
    else:
        sent = body
    return raw.exchange(
        way.address, "PUT", target, [*signed, ("content-length", str(len(sent)))], sent
    )


def assert_object(lab, bucket, key, body=BODY):
    stored = lab.s3_main.get_object(Bucket=bucket, Key=key)
    assert stored["Body"].read() == body
    assert stored["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    # The framing is not part of the object.
    assert "ContentEncoding" not in stored


GOOD_TRAILER = ("x-amz-checksum-crc32", sigv4.crc32(BODY))
MODES = {
    "hex": ("hex", None),
    "unsigned": (sigv4.UNSIGNED, None),
    "signed-chunks": (sigv4.STREAMING_SIGNED, None),
    "signed-chunks-and-trailer": (sigv4.STREAMING_SIGNED_TRAILER, GOOD_TRAILER),
    "unsigned-chunks-and-trailer": (sigv4.STREAMING_UNSIGNED_TRAILER, GOOD_TRAILER),
}


@pytest.mark.parametrize("mode, trailer", MODES.values(), ids=MODES.keys())
def test_every_payload_mode_stores_the_bare_body(steady, mode, trailer):
    lab, proxy, inventory = steady
    etags, buckets = set(), {}
    for name, way in ways(lab, proxy).items():
        buckets[name] = lab.bucket("payload")
        answer = put(way, buckets[name], "k", mode, trailer=trailer)
        assert answer.status == 200, (name, answer)
        assert_object(lab, buckets[name], "k")
        etags.add(answer.header("etag"))
    assert len(etags) == 1
    lab.assert_converged(proxy, buckets["through the proxy"], inventory=inventory)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 8 * 1024 * 1024 + 1])
def test_chunked_bodies_of_any_size_are_unframed(steady, size):
    lab, proxy, _ = steady
    bucket = lab.bucket("sizes")
    body = (BODY * (size // len(BODY) + 1))[:size]
    way = ways(lab, proxy)["through the proxy"]
    trailer = ("x-amz-checksum-crc32", sigv4.crc32(body))
    for mode in (sigv4.STREAMING_SIGNED, sigv4.STREAMING_UNSIGNED_TRAILER):
        used = trailer if mode.endswith("TRAILER") else None
        answer = put(way, bucket, mode, mode, body, trailer=used)
        assert answer.status == 200, answer
        assert_object(lab, bucket, mode, body)
    lab.assert_converged(proxy, bucket)


def test_one_huge_chunk_is_as_good_as_many(steady):
    """Some clients send a whole part as one chunk."""
    lab, proxy, _ = steady
    bucket = lab.bucket("onechunk")
    body = BODY * 40
    sent = sigv4.unsigned_chunks(body, len(body), ("x-amz-checksum-crc32", sigv4.crc32(body)))
    headers = [
        ("Host", "h"),
        ("Content-Length", str(len(sent))),
        ("X-Amz-Content-SHA256", sigv4.STREAMING_UNSIGNED_TRAILER),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ("X-Amz-Decoded-Content-Length", str(len(body))),
        ("Content-Encoding", "aws-chunked"),
    ]
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, sent)
    assert answer.status == 200, answer
    assert_object(lab, bucket, "k", body)


def test_framing_is_recognised_without_a_content_encoding(steady):
    """Some clients sign chunks and never say aws-chunked."""
    lab, proxy, _ = steady
    bucket = lab.bucket("noenc")
    signer = sigv4.Signer(*s3.DUMMY)
    headers = [("host", "h"), ("x-amz-decoded-content-length", str(len(BODY)))]
    signed = signer.headers("PUT", f"/{bucket}/k", headers, sigv4.STREAMING_SIGNED)
    sent = sigv4.signed_chunks(signer, BODY, CHUNK_BYTES)
    answer = raw.exchange(
        proxy.address, "PUT", f"/{bucket}/k", [*signed, ("content-length", str(len(sent)))], sent
    )
    assert answer.status == 200, answer
    assert_object(lab, bucket, "k")


def test_only_the_framing_token_leaves_the_content_encoding(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("gzip")
    sent = sigv4.unsigned_chunks(BODY, CHUNK_BYTES, GOOD_TRAILER)
    headers = [
        ("Host", "h"),
        ("Content-Length", str(len(sent))),
        ("X-Amz-Content-SHA256", sigv4.STREAMING_UNSIGNED_TRAILER),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ("X-Amz-Decoded-Content-Length", str(len(BODY))),
        ("Content-Encoding", "gzip, aws-chunked"),
    ]
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, sent)
    assert answer.status == 200, answer
    assert lab.s3_main.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"
    lab.assert_converged(proxy, bucket)


def test_chunks_inside_transfer_encoding_chunked_are_accepted(steady):
    """A stream of unknown encoded length, but of a declared decoded one."""
    lab, proxy, _ = steady
    bucket = lab.bucket("te")
    framed = sigv4.unsigned_chunks(BODY, CHUNK_BYTES, GOOD_TRAILER)
    headers = [
        ("Host", "h"),
        ("Transfer-Encoding", "chunked"),
        ("X-Amz-Content-SHA256", sigv4.STREAMING_UNSIGNED_TRAILER),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ("X-Amz-Decoded-Content-Length", str(len(BODY))),
        ("Content-Encoding", "aws-chunked"),
    ]
    pieces = b"".join(
        f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in sigv4.split(framed, 50_000)
    )
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, pieces + b"0\r\n\r\n")
    assert answer.status == 200, answer
    assert_object(lab, bucket, "k")


def test_no_signature_and_no_payload_hash_at_all(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("bare")
    headers = [("Host", "h"), ("Content-Length", str(len(BODY)))]
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, BODY)
    assert answer.status == 200, answer
    assert_object(lab, bucket, "k")


BAD_TRAILER = ("x-amz-checksum-crc32", sigv4.crc32(b"something else"))
FAULTS = {
    "wrong-payload-hash": dict(mode="0" * 64),
    "wrong-signed-trailer": dict(mode=sigv4.STREAMING_SIGNED_TRAILER, trailer=BAD_TRAILER),
    "wrong-unsigned-trailer": dict(mode=sigv4.STREAMING_UNSIGNED_TRAILER, trailer=BAD_TRAILER),
    "decoded-length-too-large": dict(mode=sigv4.STREAMING_SIGNED, decoded_length=len(BODY) + 1),
    "decoded-length-too-small": dict(mode=sigv4.STREAMING_SIGNED, decoded_length=len(BODY) - 1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_body_that_is_not_what_it_says_is_refused_and_nothing_is_stored(steady, fault):
    lab, proxy, inventory = steady
    bucket = lab.bucket("badbody")
    lab.s3_main.put_object(Bucket=bucket, Key="through-the-proxy", Body=b"what was there")
    answers = {}
    for name, way in ways(lab, proxy).items():
        key = name.replace(" ", "-")
        answers[name] = put(way, bucket, key, **fault)
    direct, proxied = answers.values()
    assert proxied.status == 400, proxied
    assert (proxied.status, proxied.error_code) == (direct.status, direct.error_code)
    there = lab.s3_main.get_object(Bucket=bucket, Key="through-the-proxy")["Body"].read()
    assert there == b"what was there"
    proxy.wait_drained()


BROKEN_FRAMES = {
    "cut-in-a-chunk": lambda framed: framed[: len(framed) // 2],
    "no-last-chunk": lambda framed: framed[: framed.rindex(b"0\r\nx-amz")],
    "no-trailer": lambda framed: framed[: framed.rindex(b"x-amz")] + b"\r\n",
    "bad-size": lambda framed: framed.replace(b"10000\r\n", b"1000g\r\n", 1),
    "overflowing-size": lambda framed: framed.replace(b"10000\r\n", b"f" * 17 + b"\r\n", 1),
    "size-too-small": lambda framed: framed.replace(b"10000\r\n", b"ffff\r\n", 1),
}


@pytest.mark.parametrize("damage", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_broken_framing_is_refused_and_nothing_is_stored(steady, damage):
    lab, proxy, _ = steady
    bucket = lab.bucket("badframe")
    sent = damage(sigv4.unsigned_chunks(BODY, CHUNK_BYTES, GOOD_TRAILER))
    headers = [
        ("Host", "h"),
        ("Content-Length", str(len(sent))),
        ("X-Amz-Content-SHA256", sigv4.STREAMING_UNSIGNED_TRAILER),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ("X-Amz-Decoded-Content-Length", str(len(BODY))),
        ("Content-Encoding", "aws-chunked"),
    ]
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, sent)
    assert answer.status == 400 and answer.error_code, answer
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket)


def test_a_client_that_leaves_in_mid_body_stores_nothing(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("leaver")
    headers = [("Host", "h"), ("Content-Length", str(len(BODY)))]
    with raw.Connection(proxy.address) as connection:
        connection.send(raw.request_bytes("PUT", f"/{bucket}/k", headers, BODY[:-1]))
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket)


def test_a_write_runs_to_its_outcome_when_the_client_leaves(steady):
    """The whole body was sent: the write counts, mirror and inventory included."""
    lab, proxy, inventory = steady
    bucket = lab.bucket("gone")
    headers = [("Host", "h"), ("Content-Length", str(len(BODY)))]
    with raw.Connection(proxy.address) as connection:
        connection.send(raw.request_bytes("PUT", f"/{bucket}/k", headers, BODY))
    until(
        lambda: "Contents" in lab.s3_main.list_objects_v2(Bucket=bucket),
        "the object on main",
    )
    lab.assert_converged(proxy, bucket, inventory=inventory)

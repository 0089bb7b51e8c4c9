"""Requests made to be read differently by two servers in a row: one meaning, or none."""

import pytest

from support import raw, s3
from support.http_fault import HttpFaultProxy, s3_error
from support.raw import Connection, ConnectionEnded


def send_and_read_all(address, data):
    """Every answer until the connection ends or nothing more comes."""
    answers = []
    with Connection(address, timeout=1.5) as connection:
        connection.send(data)
        try:
            while True:
                answers.append(connection.read_response())
        except (ConnectionEnded, TimeoutError):
            return answers


def smuggled(bucket):
    return f"PUT /{bucket}/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".encode()


def head(bucket, *lines):
    return "\r\n".join([f"PUT /{bucket}/k HTTP/1.1", "Host: h", *lines, "", ""]).encode()


@pytest.fixture(scope="module")
def place(steady):
    lab, proxy, _ = steady
    return lab, proxy, lab.bucket("smuggling")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 1", "Content-Length: 40"],
        ["Content-Length: 1, 40"],
        ["Content-Length: +1"],
        ["Content-Length: 0x1"],
        ["Content-Length : 1"],
        ["Transfer-Encoding : chunked", "Content-Length: 1"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["X-Folded: a", " Transfer-Encoding: chunked", "Content-Length: 1"],
    ],
    ids=lambda lines: lines[0].replace(" ", "_"),
)
def test_a_length_of_two_meanings_is_refused_and_nothing_behind_it_is_read(place, lines):
    lab, proxy, bucket = place
    answers = send_and_read_all(proxy.address, head(bucket, *lines) + b"x" + smuggled(bucket))
    assert [answer.status for answer in answers] == [400], answers
    assert "smuggled" not in s3.every_key(lab.s3_main, bucket)


def test_chunked_wins_over_a_length_and_the_connection_ends_behind_it(place):
    lab, proxy, bucket = place
    both = head(bucket, "Content-Length: 4", "Transfer-Encoding: chunked")
    data = both + b"3\r\nabc\r\n0\r\n\r\n" + smuggled(bucket)
    answers = send_and_read_all(proxy.address, data)
    assert len(answers) == 1, answers
    stored = s3.every_key(lab.s3_main, bucket)
    assert "smuggled" not in stored
    if answers[0].status == 200:
        assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


@pytest.mark.parametrize(
    "body",
    [b"zz\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n", b"fffffffffffffffff\r\nabc", b"3\r\nabcdef\r\n"],
)
def test_chunk_sizes_that_are_none_store_nothing(place, body):
    lab, proxy, bucket = place
    lab.s3_main.delete_object(Bucket=bucket, Key="k")
    data = head(bucket, "Transfer-Encoding: chunked") + body + smuggled(bucket)
    answers = send_and_read_all(proxy.address, data)
    assert len(answers) <= 1 and all(answer.status >= 400 for answer in answers), answers
    proxy.wait_drained()
    assert not {"k", "smuggled"} & set(s3.every_key(lab.s3_main, bucket))


def test_a_refusal_of_the_proxys_own_key_is_never_shown_as_the_clients(lab):
    bucket = lab.bucket("ours")
    codes = iter(["InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"])
    answer = s3_error(403, "Forbidden", "x")

    def rule(request):
        if not request.target.startswith(f"/{bucket}"):
            return None
        return s3_error(403, "Forbidden", next(codes)) if request.method == "GET" else answer

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    for _ in range(3):
        reply = raw.exchange(proxy.address, "GET", f"/{bucket}/k", [("Host", "h")])
        assert (reply.status, reply.error_code) == (503, "ServiceUnavailable")
        assert b"from the test" not in reply.body


def test_a_presigned_upload_of_the_javascript_sdk_is_not_held_to_the_checksum_of_nothing(steady):
    """It signs the CRC-32 of an empty body into the query; the upload has another body."""
    lab, proxy, inventory = steady
    bucket = lab.bucket("presigned")
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
        "&X-Amz-Credential=A%2F20261121%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261121T000000Z"
        "&X-Amz-Expires=900&X-Amz-Signature=00&X-Amz-SignedHeaders=host"
        "&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject"
    )
    headers = [("Host", "h"), ("Content-Length", "7")]
    reply = raw.exchange(proxy.address, "PUT", f"/{bucket}/k?{query}", headers, b"content")
    assert reply.status == 200, reply
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"content"
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_directory_buckets_are_refused(steady):
    _, proxy, _ = steady
    for target in ("/name--use1-az4--x-s3/k", "/bucket?session"):
        reply = raw.exchange(proxy.address, "GET", target, [("Host", "h")])
        assert (reply.status, reply.error_code) == (501, "NotImplemented")

"""Requests made to be read differently by two servers in a row: one meaning, or none."""

import pytest

from support import raw, s3
from support.http_fault import HttpFaultProxy, error_document, s3_error, s3_error_in_chunks
from support.poll import until
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


@pytest.mark.parametrize("error", [s3_error, s3_error_in_chunks])
def test_a_refusal_of_the_proxys_own_key_is_never_shown_as_the_clients(lab, error):
    bucket = lab.bucket("ours")
    codes = [
        (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (403, "RequestTimeTooSkewed"),
        (400, "ExpiredToken"), (400, "InvalidToken"), (400, "AuthorizationHeaderMalformed"),
    ]  # fmt: skip
    answers = iter([error(status, "No", code) for status, code in codes])

    def rule(request):
        if not request.target.startswith(f"/{bucket}"):
            return None
        return next(answers) if request.method == "GET" else s3_error(403, "Forbidden", "x")

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    for _ in codes:
        reply = raw.exchange(proxy.address, "GET", f"/{bucket}/k", [("Host", "h")])
        assert (reply.status, reply.error_code) == (503, "ServiceUnavailable")
        assert b"from the test" not in reply.body
    assert "main refuses the credentials of this proxy" in proxy.process.stdout()


def test_an_error_document_without_a_length_passes_however_long_it_is(lab):
    """A gateway's page may be longer than any document that is looked into."""
    more = [b"", b"<!-- " + b"x" * 200_000 + b" -->"]
    answers = iter([s3_error_in_chunks(404, "Not Found", "NoSuchKey", each) for each in more])
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda _: next(answers)))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    with Connection(proxy.address) as connection:
        for each in more:
            connection.send(raw.request_bytes("GET", "/bucket/k", [("Host", "h")]))
            reply = connection.read_response()
            assert (reply.status, reply.body) == (404, error_document("NoSuchKey") + each)


@pytest.mark.parametrize(
    "method, target, refused",
    [
        ("POST", "k?select&select-type=2&delete", (400, "InvalidArgument")),
        ("POST", "k?delete", (405, "MethodNotAllowed")),
        ("POST", "k?uploads&uploadId=u", (400, "InvalidArgument")),
        ("DELETE", "k?tagging&uploadId=u", (400, "InvalidArgument")),
        ("PUT", "k?uploadId=u&uploadId=v&partNumber=1", (400, "InvalidArgument")),
    ],
)
def test_what_services_take_for_different_operations_is_refused(lab, method, target, refused):
    seen = []
    relay = lab.closing(HttpFaultProxy(lab.main.address, seen.append))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    document = b"<Delete><Object><Key>other</Key></Object></Delete>"
    headers = [("Host", "h"), ("Content-Length", str(len(document)))]
    reply = raw.exchange(proxy.address, method, f"/bucket/{target}", headers, document)
    assert (reply.status, reply.error_code) == refused
    assert seen == []


@pytest.mark.parametrize("source", ["x-amz-copy-source", "x-amz-rename-source"])
def test_of_two_sources_of_a_copy_none_is_chosen(steady, source):
    _, proxy, _ = steady
    headers = [("Host", "h"), ("Content-Length", "0"), (source, "a/k"), (source, "b/k")]
    reply = raw.exchange(proxy.address, "PUT", "/bucket/k", headers)
    assert (reply.status, reply.error_code) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "inside",
    ["<Key>other</Key><Key>mine</Key>", "<Key>a<!-- -->b</Key>", "<Key>a<x/></Key>"],
)
def test_a_list_of_deletes_that_names_two_keys_for_one_object_deletes_neither(steady, inside):
    lab, proxy, _ = steady
    bucket = lab.bucket("two-keys")
    for key in ("other", "mine", "a", "ab", "b"):
        lab.s3_main.put_object(Bucket=bucket, Key=key, Body=b"1")
    document = f"<Delete><Object>{inside}</Object></Delete>".encode()
    headers = [("Host", "h"), ("Content-Length", str(len(document)))]
    reply = raw.exchange(proxy.address, "POST", f"/{bucket}?delete", headers, document)
    assert (reply.status, reply.error_code) == (400, "MalformedXML")
    assert len(s3.every_key(lab.s3_main, bucket)) == 5


@pytest.mark.parametrize(
    "method, target", [("DELETE", "k?uploadId="), ("PUT", "k?partNumber=1&uploadId=")]
)
def test_an_empty_upload_is_none_and_the_key_is_looked_at(lab, method, target):
    """Ceph deletes or writes the object itself then."""
    bucket = lab.bucket("no-upload")

    def rule(request):
        if request.method != method or "uploadId=" not in request.target:
            return None
        if method == "DELETE":
            lab.s3_main.delete_object(Bucket=bucket, Key="k")
        else:
            lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"part")
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"object")
    lab.assert_converged(proxy, bucket)
    body = b"" if method == "DELETE" else b"part"
    headers = [("Host", "h"), ("Content-Length", str(len(body)))]
    assert raw.exchange(proxy.address, method, f"/{bucket}/{target}", headers, body).status == 200
    lab.assert_converged(proxy, bucket)


def test_a_delete_that_was_given_up_with_its_body_is_looked_at(lab):
    """Some services act when they have the head of a request whose body is none of their business."""
    bucket = lab.bucket("headlong")

    def rule(request):
        if request.method == "DELETE":
            lab.s3_main.delete_object(Bucket=bucket, Key="k")

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"object")
    lab.assert_converged(proxy, bucket)
    head = [("Host", "h"), ("Content-Length", "5")]
    with Connection(proxy.address) as connection:
        connection.send(raw.request_bytes("DELETE", f"/{bucket}/k", head))
        until(lambda: not s3.every_key(lab.s3_main, bucket), "main has acted", 20)
    lab.assert_converged(proxy, bucket)


def test_an_empty_object_in_chunks_is_nothing_to_main_before_its_last_chunk(lab):
    bucket = lab.bucket("empty-chunks")
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda _: None))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"old")
    last = b"0\r\n\r\n"
    head = [
        ("Host", "h"), ("Content-Length", str(len(last))), ("x-amz-decoded-content-length", "0"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("Content-Encoding", "aws-chunked"),
    ]  # fmt: skip
    request = raw.request_bytes("PUT", f"/{bucket}/k", head)
    for sent in (b"", last[:3]):
        with Connection(proxy.address) as connection:
            connection.send(request + sent)
            until(lambda: proxy.status()["unsettled_intents"] == 1, "it has begun", 20)
        proxy.wait_drained()
    # More than was announced.
    assert raw.exchange(proxy.address, "PUT", f"/{bucket}/k", head, b"1\r\nx\r").status == 400
    proxy.wait_drained()
    assert [each.method for each in relay.requests if each.method == "PUT"] == []
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    assert raw.exchange(proxy.address, "PUT", f"/{bucket}/k", head, last).status == 200
    lab.assert_converged(proxy, bucket)
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b""


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

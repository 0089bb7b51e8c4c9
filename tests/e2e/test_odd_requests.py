"""Requests by raw socket that no SDK sends today, and answers that no client expects."""

import pytest

from support import raw, s3
from support.http_fault import HttpFaultProxy, s3_error

HOST = ("Host", "h")


def put(proxy, target, *headers, body=b"bytes"):
    sent = [HOST, ("Content-Length", str(len(body))), *headers]
    return raw.exchange(proxy.address, "PUT", target, sent, body)


def test_a_raw_hash_sign_ends_the_path_as_in_every_url(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("hash")
    assert put(proxy, f"/{bucket}/k%23x").status == 200
    assert put(proxy, f"/{bucket}/j#x").status == 200
    assert list(s3.every_key(lab.s3_main, bucket)) == ["j", "k#x"]


@pytest.mark.parametrize("token", ["x-amz-acl", "close, X-Amz-Meta-A"])
def test_a_connection_header_cannot_take_a_header_out_of_the_request(steady, token):
    lab, proxy, _ = steady
    bucket = lab.bucket("connection")
    named = [("x-amz-acl", "private"), ("x-amz-meta-a", "b"), ("Connection", token)]
    answered = put(proxy, f"/{bucket}/k", *named)
    assert (answered.status, answered.error_code) == (400, "InvalidRequest")
    assert not s3.every_key(lab.s3_main, bucket)


def test_a_target_in_absolute_form_means_its_path(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("absolute")
    assert put(proxy, f"http://somewhere.else/{bucket}/a%20key?x-id=PutObject").status == 200
    assert list(s3.every_key(lab.s3_main, bucket)) == ["a key"]


# Latin-1 is beyond the store used here; the differential suite has it.
@pytest.mark.parametrize("value", ["x   y", "  x  ", "a;b=\"c\"", "\u00fc in UTF-8"])
def test_metadata_is_what_the_client_wrote_on_both_sides(steady, value):
    lab, proxy, _ = steady
    bucket = lab.bucket("metadata")
    value = raw.as_bytes(value)
    answered = put(proxy, f"/{bucket}/k", ("x-amz-meta-a", value))
    assert answered.status == 200, answered
    got = raw.exchange(proxy.address, "HEAD", f"/{bucket}/k", [HOST]).header("x-amz-meta-a")
    assert got.encode("latin-1") == value.strip()
    lab.assert_converged(proxy, bucket)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_header_that_was_invented_today_reaches_main_signed(lab, method):
    seen = []

    def rule(request):
        seen.append(dict(request.headers))
        return s3_error(501, "Not Implemented", "NotImplemented")

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    headers = [HOST, ("x-amz-invented-today", "yes"), ("Content-Length", "0")]
    answered = raw.exchange(proxy.address, method, "/bucket/k?invented", headers)
    assert answered.status == 501
    assert seen[0]["x-amz-invented-today"] == "yes"
    assert ";x-amz-invented-today" in seen[0]["authorization"]


LIES = {
    "complete": ("POST", "?uploadId=u", b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
                 b'<ETag>"e"</ETag></Part></CompleteMultipartUpload>', []),
    "copy": ("PUT", "", b"", [("x-amz-copy-source", "/other/key")]),
}


@pytest.mark.parametrize("method, query, body, headers", LIES.values(), ids=LIES.keys())
def test_an_error_inside_a_success_reaches_the_client_and_not_the_mirror(
    lab, method, query, body, headers
):
    """White space, by which main keeps the connection alive, then an error."""
    error = s3_error(200, "OK", "InternalError").partition(b"\r\n\r\n")[2]
    document = b" \n" * 3000 + error
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
    answer += f"Content-Length: {len(document)}\r\n\r\n".encode() + document

    relay = lab.closing(
        HttpFaultProxy(lab.main.address, lambda each: answer if each.method == method else None)
    )
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    bucket = lab.bucket("lies")
    sent = [HOST, ("Content-Length", str(len(body))), *headers]
    got = raw.exchange(proxy.address, method, f"/{bucket}/k{query}", sent, body)
    assert (got.status, got.body) == (200, document)
    proxy.wait_drained()
    assert lab.keys_on_mirror(bucket) == set()


@pytest.mark.parametrize("status", [304, 412, 416])
def test_conditional_answers_leave_the_connection_usable(steady, status):
    """Nothing is in the way of the next request: no stray byte behind any of them."""
    lab, proxy, _ = steady
    bucket = lab.bucket("conditions")
    etag = lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"bytes")["ETag"]
    condition = {
        304: ("If-None-Match", etag),
        412: ("If-Match", '"other"'),
        416: ("Range", "bytes=100-200"),
    }[status]
    with raw.Connection(proxy.address) as connection:
        for method in ("GET", "HEAD", "GET"):
            connection.send(raw.request_bytes(method, f"/{bucket}/k", [HOST, condition]))
            answered = connection.read_response(head_only=method == "HEAD")
            assert answered.status == status
        connection.send(raw.request_bytes("GET", f"/{bucket}/k", [HOST]))
        assert connection.read_response().body == b"bytes"


@pytest.mark.parametrize(
    "method, header",
    [("PUT", "x-amz-meta-snowball-auto-extract"), ("DELETE", "x-minio-force-delete")],
)
def test_one_request_for_many_keys_is_refused_before_it_reaches_main(lab, method, header):
    seen = []
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda each: seen.append(each)))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    # MinIO takes for a yes what merely holds `true`, and `1` and `t` too.
    for values in (["true"], ["xtrue"], ["1"], ["false", "true"]):
        sent = [HOST, ("Content-Length", "0"), *((header, value) for value in values)]
        answered = raw.exchange(proxy.address, method, "/bucket/k", sent)
        assert (answered.status, answered.error_code) == (501, "NotImplemented"), values
    assert seen == []


def test_an_event_stream_passes_as_it_comes(lab):
    """S3 Select answers frames of a binary format, of no announced length."""
    frames = [bytes(range(256)), b"\x00\x00\x00\x10", b"\r\n0\r\n\r\n"]
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n"
    answer += b"Transfer-Encoding: chunked\r\n\r\n"
    answer += b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames)
    answer += b"0\r\n\r\n"
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda _: answer))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    question = b"<SelectObjectContentRequest/>"
    sent = [HOST, ("Content-Length", str(len(question)))]
    target = "/bucket/k?select&select-type=2"
    answered = raw.exchange(proxy.address, "POST", target, sent, question)
    assert (answered.status, answered.body) == (200, b"".join(frames))

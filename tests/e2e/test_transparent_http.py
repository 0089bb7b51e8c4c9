"""P1 at the level of HTTP: connections, Expect, many headers, anonymous and presigned requests."""

import socket
import threading

import pytest

from support import raw, s3
from support.raw import Connection, ConnectionEnded, request_bytes


def test_150_metadata_headers_pass_both_ways(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("many")
    metadata = [(f"x-amz-meta-n{number}", f"v{number}") for number in range(150)]
    headers = [("Host", "h"), ("Content-Length", "1"), *metadata]
    answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, b"x")
    assert answer.status == 200, answer
    answer = raw.exchange(proxy.address, "GET", f"/{bucket}/k", [("Host", "h")])
    returned = {(name, value) for name, value in answer.headers if name.startswith("x-amz-meta-")}
    assert returned == set(metadata)
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_expect_100_continue_is_answered_before_the_body_is_sent(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("expect")
    headers = [("Host", "h"), ("Content-Length", "5"), ("Expect", "100-continue")]
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("PUT", f"/{bucket}/k", headers))
        assert connection.read_head()[0] == 100
        connection.send(b"hello")
        assert connection.read_response().status == 200
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def test_an_error_to_expect_100_continue_needs_no_body(steady):
    lab, proxy, _ = steady
    headers = [("Host", "h"), ("Content-Length", "5"), ("Expect", "100-continue")]
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("PUT", "/no-such-bucket-anywhere/k", headers))
        status, _, _ = connection.read_head()
        if status == 100:
            connection.send(b"hello")
            status = connection.read_response().status
    assert status == 404


def test_a_connection_serves_many_requests_one_after_another(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("keepalive")
    with Connection(proxy.address) as connection:
        for number in range(20):
            body = f"body {number}".encode()
            length = [("Host", "h"), ("Content-Length", str(len(body)))]
            connection.send(request_bytes("PUT", f"/{bucket}/{number}", length, body))
            assert connection.read_response().status == 200
            connection.send(request_bytes("GET", f"/{bucket}/{number}", [("Host", "h")]))
            assert connection.read_response().body == body
            connection.send(request_bytes("HEAD", f"/{bucket}/{number}", [("Host", "h")]))
            answer = connection.read_response(head_only=True)
            assert answer.header("content-length") == str(len(body))
            connection.send(request_bytes("GET", f"/{bucket}/none", [("Host", "h")]))
            assert connection.read_response().error_code == "NoSuchKey"
            connection.send(request_bytes("DELETE", f"/{bucket}/{number}", [("Host", "h")]))
            assert connection.read_response().status == 204


def test_requests_sent_before_their_turn_are_answered_in_order(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("pipeline")
    for number in range(5):
        lab.s3_main.put_object(Bucket=bucket, Key=str(number), Body=str(number).encode())
    with Connection(proxy.address) as connection:
        connection.send(
            b"".join(
                request_bytes("GET", f"/{bucket}/{number}", [("Host", "h")]) for number in range(5)
            )
        )
        assert [connection.read_response().body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("method", ["get_object", "head_object", "put_object", "delete_object"])
@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_made_for_the_proxy_work(steady, method, version):
    """Signature versions 2 and 4: made with dummy credentials, re-signed by the proxy."""
    lab, proxy, inventory = steady
    bucket = lab.bucket("presigned")
    lab.s3_main.put_object(Bucket=bucket, Key="a b+c/ü", Body=b"content")
    client = lab.client(proxy, signature_version=version)
    url = client.generate_presigned_url(method, Params={"Bucket": bucket, "Key": "a b+c/ü"})
    target = url.removeprefix(proxy.endpoint)
    http_method, body, status = {
        "get_object": ("GET", b"", 200),
        "head_object": ("HEAD", b"", 200),
        "put_object": ("PUT", b"replaced", 200),
        "delete_object": ("DELETE", b"", 204),
    }[method]
    headers = [("Host", f"{proxy.host}:{proxy.port}")]
    if http_method == "PUT":
        headers.append(("Content-Length", str(len(body))))
    answer = raw.exchange(proxy.address, http_method, target, headers, body)
    assert answer.status == status, answer
    stored = lab.s3_main.list_objects_v2(Bucket=bucket).get("Contents", [])
    expected = {"get_object": 7, "head_object": 7, "put_object": 8}
    assert [entry["Size"] for entry in stored] == ([expected[method]] if method in expected else [])
    if method == "get_object":
        assert answer.body == b"content"
    if method == "put_object":
        lab.assert_converged(proxy, bucket, inventory=inventory)


def test_presigned_overrides_of_response_headers_pass(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("override")
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"x")
    client = lab.client(proxy, signature_version="s3v4")
    url = client.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": "k", "ResponseContentType": "text/x-asked; a=b+c"},
    )
    answer = raw.exchange(proxy.address, "GET", url.removeprefix(proxy.endpoint), [("Host", "h")])
    assert (answer.status, answer.header("content-type")) == (200, "text/x-asked; a=b+c")


def test_the_bucket_list_is_main_s_own(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("listed")
    names = [each["Name"] for each in lab.client(proxy).list_buckets()["Buckets"]]
    assert bucket in names
    assert names == [each["Name"] for each in lab.s3_main.list_buckets()["Buckets"]]


def test_the_s3_port_serves_nothing_but_s3(steady):
    """`metrics`, `readyz` and the like are legal bucket names."""
    lab, proxy, _ = steady
    for name in ("metrics", "livez", "readyz", "api"):
        answer = raw.exchange(proxy.address, "GET", f"/{name}", [("Host", "h")])
        assert answer.error_code in ("NoSuchBucket", "InvalidBucketName"), answer


def test_own_errors_are_s3_errors_with_a_request_id(lab):
    """Main is away: the client is told to come back, in the words of S3."""
    from support.process import free_port

    proxy = lab.proxy(MAIN_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}", start=False)
    proxy.process.spawn()
    proxy.process.wait_ready(lambda: _listens(proxy), "a listener")
    answer = raw.exchange(proxy.address, "GET", "/bucket/key", [("Host", "h")])
    assert answer.status == 503, answer
    assert answer.error_code in ("ServiceUnavailable", "SlowDown"), answer
    assert answer.header("content-type") == "application/xml"
    request_id = answer.header("x-amz-request-id")
    assert request_id and f"<RequestId>{request_id}</RequestId>".encode() in answer.body
    head = raw.exchange(proxy.address, "HEAD", "/bucket/key", [("Host", "h")])
    assert (head.status, head.body) == (503, b"")


def _listens(proxy):
    try:
        socket.create_connection(proxy.address, timeout=1).close()
        return True
    except OSError:
        return False


def test_a_download_that_main_breaks_off_is_never_a_clean_end(lab):
    from support.tcp import FaultProxy

    relay = lab.closing(FaultProxy(lab.main.address))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    bucket = lab.bucket("broken")
    body = bytes(16 * 1024 * 1024)
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=body)
    with Connection(proxy.address) as connection:
        # A small window, so that the end cannot already be in some buffer.
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.send(request_bytes("GET", f"/{bucket}/k", [("Host", "h")]))
        status, _, headers = connection.read_head()
        assert status == 200 and ("content-length", str(len(body))) in headers
        relay.cut()
        with pytest.raises(ConnectionEnded):
            connection._exactly(len(body))


def test_many_clients_at_once_all_get_their_own_answers(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("crowd")
    failures = []

    def one(number):
        client = s3.client(proxy.endpoint)
        try:
            for turn in range(10):
                body = f"{number}/{turn}".encode() * 100
                client.put_object(Bucket=bucket, Key=f"{number}", Body=body)
                seen = client.get_object(Bucket=bucket, Key=f"{number}")["Body"].read()
                if seen != body:
                    failures.append((number, turn, seen[:20]))
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append((number, error))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    lab.assert_converged(proxy, bucket, inventory=inventory)

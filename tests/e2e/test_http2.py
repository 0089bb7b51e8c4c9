"""HTTP/2 on the S3 port: the same requests mean the same, and a stream costs nobody else anything."""

import asyncio
import contextlib
import http.client
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time

import h2.errors
import httpx
import pytest

from support import raw, s3
from support.authority import Authority
from support.http2 import Http2, length
from support.http_fault import HttpFaultProxy, s3_error
from support.stores import Credentials
from support.poll import until

MIB = 1024 * 1024
#: What src/proxy/http2.rs allows.
STREAMS_MAX, STREAM_WINDOW = 100, 256 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("http2") / "authority")


@pytest.fixture(scope="module")
def certificate(authority, tmp_path_factory):
    """The settings that switch TLS on."""
    directory = tmp_path_factory.mktemp("certificate")
    authority.issue("proxy", directory / "tls.crt", directory / "tls.key")
    return {"TLS_CERT_FILE": directory / "tls.crt", "TLS_KEY_FILE": directory / "tls.key"}


@pytest.fixture(scope="module")
def place(module_lab, certificate):
    """(lab, proxy with TLS, its inventory, a bucket)"""
    inventory = module_lab.postgres()
    proxy = module_lab.proxy(
        inventory.settings(), PROXY_DOMAIN="localhost", **certificate
    )
    return module_lab, proxy, inventory, module_lab.bucket("http2")


@contextlib.contextmanager
def serving(handler):
    """The endpoint of a server that handles connections like this."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def stored(lab, bucket, key):
    return lab.s3_main.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_every_kind_of_request_works_through_httpx(place, authority):
    lab, proxy, inventory, bucket = place
    context = ssl.create_default_context(cafile=authority.file)
    base = f"https://localhost:{proxy.port}/{bucket}"
    body = b"0123456789abcdef" * (3 * MIB // 16)
    with httpx.Client(http2=True, verify=context, timeout=60) as client:
        put = client.put(f"{base}/big", content=body, headers={"x-amz-meta-a": "1"})
        assert (put.http_version, put.status_code) == ("HTTP/2", 200)
        assert client.get(f"{base}/big").content == body
        part = client.get(f"{base}/big", headers={"range": "bytes=16-31"})
        assert (part.status_code, part.content) == (206, body[16:32])
        head = client.head(f"{base}/big")
        assert head.headers["content-length"] == str(len(body))
        assert head.headers["x-amz-meta-a"] == "1" and head.content == b""
        assert client.put(f"{base}/empty", content=b"").status_code == 200
        copied = client.put(f"{base}/copy", headers={"x-amz-copy-source": f"/{bucket}/big"})
        assert copied.status_code == 200 and "CopyObjectResult" in copied.text
        assert "<Key>copy</Key>" in client.get(base).text
        missing = client.get(f"{base}/missing")
        assert missing.status_code == 404 and "NoSuchKey" in missing.text
        assert client.delete(f"{base}/copy").status_code == 204
        form = client.post(base, data={"key": "form"}, files={"file": b"of a form"})
        assert (form.status_code, form.headers["location"]) == (204, f"{base}/form")
        assert client.get(f"{base}/big", headers={"if-none-match": put.headers["etag"]}).status_code == 304
    assert stored(lab, bucket, "big") == body
    assert stored(lab, bucket, "form") == b"of a form"
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_curl_uploads_and_downloads_with_the_same_answers_as_over_http_1_1(place, authority):
    lab, proxy, _, bucket = place
    body = b"curled " * 100_000

    def curl(version, *arguments):
        done = subprocess.run(
            ["curl", "-sS", version, "--cacert", str(authority.file), "--max-time", "60", *arguments],
            input=body, capture_output=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    url = f"https://localhost:{proxy.port}/{bucket}/curled"
    code = ("-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    upload = ("-X", "PUT", "--data-binary", "@-", url, *code)
    assert curl("--http2", *upload, "-H", "Expect: 100-continue") == b"2 200"
    assert curl("--http2", url) == body
    # Of unknown length: main wants none of it, over HTTP/2 as over HTTP/1.1.
    assert curl("--http1.1", "-T", "-", f"{url}-piped", *code) == b"1.1 411"
    assert curl("--http2", "-T", "-", f"{url}-piped", *code) == b"2 411"
    # No body at all, and none announced.
    assert curl("--http1.1", "-X", "PUT", url, *code) == b"1.1 411"
    assert curl("--http2", "-X", "PUT", url, *code) == b"2 411"
    lab.assert_converged(proxy, bucket)


def test_a_client_that_speaks_only_http_1_1_is_served_as_before(place, authority):
    lab, proxy, _, bucket = place
    context = ssl.create_default_context(cafile=authority.file)
    for protocols in ([], ["http/1.1"]):
        if protocols:
            context.set_alpn_protocols(protocols)
        connection = http.client.HTTPSConnection("localhost", proxy.port, context=context, timeout=30)
        connection.request("GET", f"/{bucket}?list-type=2")
        answer = connection.getresponse()
        assert (answer.status, answer.version) == (200, 11)
        answer.read()
        connection.close()


@pytest.mark.parametrize(
    "path,key",
    [
        ("//k", "/k"),
        ("/a//b", "a//b"),
        ("/./c/../d", "./c/../d"),
        ("/%2Fx", "/x"),
        ("/a+b%20c", "a+b c"),
        ("/dir/", "dir/"),
        ("/%C3%BC%F0%9F%8E%89", "ü🎉"),
        ("/a%3Fb%23c", "a?b#c"),
    ],
)
def test_a_key_is_taken_byte_for_byte(place, authority, path, key):
    lab, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        answer = connection.exchange("PUT", f"/{bucket}{path}", [length(3)], b"raw")
        assert answer.status == 200, answer
        assert connection.exchange("GET", f"/{bucket}{path}").body == b"raw"
    assert stored(lab, bucket, key) == b"raw"


def test_the_bucket_may_be_in_the_authority(place, authority):
    lab, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        name = f"{bucket}.localhost:{proxy.port}"
        answer = connection.exchange("PUT", "/hosted", [length(1)], b"x", authority=name)
        assert answer.status == 200, answer
    assert stored(lab, bucket, "hosted") == b"x"


def test_150_metadata_headers_pass_and_a_head_beyond_the_limit_is_refused(place, authority):
    _, proxy, _, bucket = place
    metadata = {f"x-amz-meta-n{number}": f"v{number}" for number in range(150)}
    with Http2(proxy, authority) as connection:
        connection.exchange("PUT", f"/{bucket}/many", [length(1), *metadata.items()], b"x")
        returned = connection.exchange("HEAD", f"/{bucket}/many").headers
        assert {n: v for n, v in returned.items() if n.startswith("x-amz-meta-")} == metadata
        # A head is bounded whatever it says; the connection goes on.
        headers = [(f"x-amz-meta-{number}", "v" * 1000) for number in range(80)]
        answer = connection.exchange("GET", f"/{bucket}/many", headers)
        assert answer.status == 431 or answer.reset is not None, answer
        assert connection.exchange("GET", f"/{bucket}/many").status == 200


def test_a_client_is_told_to_go_on_before_its_body_is_read(place, authority):
    lab, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        expects = [length(5), ("expect", "100-continue")]
        stream = connection.request("PUT", f"/{bucket}/expect", expects, end=False)
        answer = connection.answers[stream]
        connection.until(lambda: answer.interim == [100], "100 Continue")
        assert answer.status is None
        connection.send(stream, b"hello")
        assert connection.answer(stream).status == 200
    assert stored(lab, bucket, "expect") == b"hello"


def test_a_client_that_waits_to_go_on_is_refused_without_its_body(place, authority):
    _, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        wrong = [length(8 * MIB), ("expect", "100-continue"), ("x-amz-content-sha256", "no hash")]
        stream = connection.request("PUT", f"/{bucket}/refused", wrong, end=False)
        answer = connection.answer(stream)
        assert answer.status == 400 and answer.interim == [], answer
        assert "connection" not in answer.headers
        # Only this stream is over.
        assert connection.exchange("GET", f"/{bucket}").status == 200


def test_a_client_that_is_still_sending_gets_to_see_its_refusal(place, authority):
    lab, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        wrong = [length(8 * MIB), ("x-amz-content-sha256", "no hash")]
        for _ in range(2):
            stream = connection.request("PUT", f"/{bucket}/refused", wrong, end=False)
            connection.send(stream, bytes(8 * MIB))
            assert connection.answer(stream).error_code is not None
            assert connection.answers[stream].status == 400
    assert "refused" not in s3.every_key(lab.s3_main, bucket)


def test_an_early_answer_of_main_reaches_a_client_that_is_still_sending(lab, authority, certificate):
    """Main refuses after the head and closes while megabytes are on their way to it."""

    class Main(socketserver.BaseRequestHandler):
        def handle(self):
            head = b""
            while b"\r\n\r\n" not in head:
                head += self.request.recv(65536)
            self.request.sendall(s3_error(503, "Slow Down", "SlowDown"))
            self.request.shutdown(socket.SHUT_WR)
            self.request.settimeout(10)
            while self.request.recv(65536):
                pass

    with serving(Main) as endpoint:
        proxy = lab.proxy(main_endpoint=endpoint, **certificate)
        with Http2(proxy, authority) as connection:
            stream = connection.request("PUT", "/b/k", [length(12 * MIB)], end=False)
            # It says so while most of the body is still to come.
            connection.send(stream, bytes(MIB), end=False)
            connection.until(lambda: connection.answers[stream].status, "the early answer")
            connection.send(stream, bytes(11 * MIB))
            answer = connection.answer(stream)
            assert (answer.status, answer.error_code) == (503, "SlowDown")


def begin_upload(connection, bucket, key, sent, announced=True):
    """Sends so much of an object that is a byte larger, once the proxy is reading it."""
    headers = [("expect", "100-continue"), *([length(sent + 1)] if announced else [])]
    stream = connection.request("PUT", f"/{bucket}/{key}", headers, end=False)
    connection.until(lambda: connection.answers[stream].interim, "the proxy to read")
    connection.send(stream, bytes(sent), end=False)
    return stream


@pytest.mark.parametrize("code", ["CANCEL", "NO_ERROR"])
@pytest.mark.parametrize("sent", [1000, 3 * MIB])
def test_an_upload_that_is_given_up_has_no_effect(place, authority, code, sent):
    lab, proxy, _, bucket = place
    key = f"given-up-{code}-{sent}"
    with Http2(proxy, authority) as connection:
        stream = begin_upload(connection, bucket, key, sent)
        connection.reset(stream, h2.errors.ErrorCodes[code])
        # The connection is not the worse for it.
        assert connection.exchange("GET", f"/{bucket}").status == 200
        # The same when all of the connection goes.
        begin_upload(connection, bucket, key, sent)
    until(lambda: proxy.process.stdout().count(key) >= 2, "both attempts to have ended", 30)
    proxy.wait_drained()
    assert key not in s3.every_key(lab.s3_main, bucket)


@pytest.mark.parametrize("code", ["CANCEL", "NO_ERROR"])
def test_an_upload_of_unknown_length_that_is_given_up_is_not_ended(lab, authority, certificate, code):
    """Whatever reason the client gives: what has come is not the object."""
    received = []

    class Main(socketserver.BaseRequestHandler):
        """Takes bodies of unknown length, unlike S3 itself."""

        def handle(self):
            data = b""
            while not data.endswith(b"0\r\n\r\n" if data[:3] == b"PUT" else b"\r\n\r\n"):
                piece = self.request.recv(65536)
                if not piece:
                    break
                data += piece
            received.append(data)
            status = "200 OK" if data[:3] == b"PUT" else "404 Not Found"
            head = f'HTTP/1.1 {status}\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
            self.request.sendall(head.encode())

    with serving(Main) as endpoint:
        proxy = lab.proxy(
            inventory={"DISABLE_DATABASE": "true"}, main_endpoint=endpoint, **certificate
        )
        with Http2(proxy, authority) as connection:
            whole = connection.exchange("PUT", "/bucket/whole", [], b"w" * 100_000)
            assert whole.status == 200, whole
            stream = begin_upload(connection, "bucket", "part", 100_000, announced=False)
            connection.reset(stream, h2.errors.ErrorCodes[code])
            until(lambda: '"key":"part"' in proxy.process.stdout(), "the attempt to have ended", 30)
        bodies = {data.split(b" ")[1]: data for data in received if data.startswith(b"PUT")}
        assert bodies[b"/bucket/whole"].endswith(b"0\r\n\r\n")
        assert not bodies.get(b"/bucket/part", b"").endswith(b"0\r\n\r\n")


def test_a_body_of_another_length_than_announced_has_no_effect(place, authority):
    lab, proxy, _, bucket = place
    for announced in (99, 101):
        with Http2(proxy, authority) as connection:
            headers = [length(announced)]
            stream = connection.request("PUT", f"/{bucket}/other-length", headers, end=False)
            connection.send(stream, bytes(100))
            answer = connection.answer(stream)
            assert answer.reset is not None or answer.status == 400, answer
    proxy.wait_drained()
    assert "other-length" not in s3.every_key(lab.s3_main, bucket)


def test_a_document_without_an_announced_length_is_read(place, authority):
    lab, proxy, inventory, bucket = place
    for key in ("doomed-1", "doomed-2"):
        lab.s3_main.put_object(Bucket=bucket, Key=key, Body=b"x")
    document = (
        "<Delete><Object><Key>doomed-1</Key></Object><Object><Key>doomed-2</Key></Object></Delete>"
    ).encode()
    with Http2(proxy, authority) as connection:
        answer = connection.exchange("POST", f"/{bucket}?delete", [], document)
        assert answer.status == 200 and answer.body.count(b"<Deleted>") == 2, answer
    assert not {"doomed-1", "doomed-2"} & set(s3.every_key(lab.s3_main, bucket))
    proxy.wait_drained()


def test_a_signed_chunk_trailer_is_checked(place, authority):
    """The trailer of aws-chunked is part of the body, whatever carries it."""
    lab, proxy, _, bucket = place
    for checksum, status in (("NSRBwg==", 200), ("AAAAAA==", 400)):
        body = f"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
        headers = [
            length(len(body)),
            ("content-encoding", "aws-chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "3"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ]
        with Http2(proxy, authority) as connection:
            answer = connection.exchange("PUT", f"/{bucket}/trailer-{status}", headers, body)
            assert answer.status == status, answer
    assert stored(lab, bucket, "trailer-200") == b"abc"
    assert "trailer-400" not in s3.every_key(lab.s3_main, bucket)


def test_trailers_of_the_stream_are_read_over(place, authority):
    lab, proxy, _, bucket = place
    with Http2(proxy, authority) as connection:
        stream = connection.request("PUT", f"/{bucket}/trailed", [length(3)], end=False)
        connection.send(stream, b"abc", end=False)
        connection.h2.send_headers(stream, [("x-more", "1")], end_stream=True)
        connection.flush()
        assert connection.answer(stream).status == 200
    assert stored(lab, bucket, "trailed") == b"abc"


def test_a_download_that_breaks_off_does_not_look_complete(lab, authority, certificate):
    class Main(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "e"\r\n\r\n'
            self.request.sendall(head + bytes(400))

    with serving(Main) as endpoint:
        proxy = lab.proxy(main_endpoint=endpoint, **certificate)
        with Http2(proxy, authority) as connection:
            answer = connection.exchange("GET", "/bucket/k")
            assert len(answer.body) <= 400
            assert answer.reset is not None and not answer.ended, answer


def test_uploads_that_wait_for_main_leave_room_for_the_others(lab, authority, certificate):
    """P5, P6: as many as may be under way fill their windows; one that main takes gets through."""
    bucket = lab.bucket("windows")
    stalled = threading.Event()

    def rule(request):
        if "/stalled" in request.target:
            stalled.wait(60)
        return None

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **certificate)
    with Http2(proxy, authority) as connection:
        try:
            connection.until(
                lambda: connection.h2.outbound_flow_control_window >= STREAMS_MAX * STREAM_WINDOW,
                "room for all streams",
            )
            assert connection.h2.remote_settings.initial_window_size == STREAM_WINDOW
            assert connection.h2.remote_settings.max_concurrent_streams == STREAMS_MAX
            waiting = [
                connection.request("PUT", f"/{bucket}/stalled-{n}", [length(64 * MIB)], end=False)
                for n in range(STREAMS_MAX - 1)
            ]
            before = proxy.process.resident_peak_bytes()
            for stream in waiting:
                assert connection.fill(stream) >= STREAM_WINDOW
            grown = proxy.process.resident_peak_bytes() - before
            # What has come, and as much again for how it lies in memory.
            assert grown < 2 * STREAMS_MAX * STREAM_WINDOW + 16 * MIB, f"{grown / MIB:.0f} MiB"
            answer = connection.exchange("PUT", f"/{bucket}/flows", [length(MIB)], bytes(MIB))
            assert answer.status == 200, answer
            for stream in waiting:
                connection.reset(stream)
        finally:
            stalled.set()
    proxy.wait_drained()
    assert set(s3.every_key(lab.s3_main, bucket)) == {"flows"}


def test_changes_of_streams_that_were_reset_count_until_their_outcome(lab, authority, certificate):
    """Opening and resetting streams does not pile up requests (P6)."""
    bucket = lab.bucket("rapid")
    held = threading.Event()
    under_way = []

    def rule(request):
        if request.method == "DELETE":
            under_way.append(request.target)
            held.wait(60)
        return None

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **certificate)
    with Http2(proxy, authority) as connection:
        try:
            for number in range(STREAMS_MAX + 10):
                seen = min(number + 1, STREAMS_MAX)
                stream = connection.request("DELETE", f"/{bucket}/{number}")
                until(lambda seen=seen: len(under_way) >= seen, "the deletes that may be sent", 30)
                connection.reset(stream)
            # The last ones were given up before they had a place.
            assert len(under_way) == STREAMS_MAX
        finally:
            held.set()
        # Places come back with the outcomes.
        assert connection.exchange("DELETE", f"/{bucket}/last").status == 204
    proxy.wait_drained()


def test_a_hundred_requests_at_a_time_share_one_connection(place, authority):
    lab, proxy, _, bucket = place
    context = ssl.create_default_context(cafile=authority.file)
    base = f"https://localhost:{proxy.port}/{bucket}"
    bodies = {f"many-{n}": bytes([n]) * (n * 700) for n in range(100)}

    async def all_at_once():
        one = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(http2=True, verify=context, timeout=60, limits=one) as client:
            puts = [client.put(f"{base}/{key}", content=body) for key, body in bodies.items()]
            assert {answer.status_code for answer in await asyncio.gather(*puts)} == {200}
            gets = await asyncio.gather(*(client.get(f"{base}/{key}") for key in bodies))
            return [answer.content for answer in gets]

    assert asyncio.run(all_at_once()) == list(bodies.values())
    lab.assert_converged(proxy, bucket)


@pytest.fixture
def hasty(lab, certificate):
    """A proxy that waits two seconds for its clients."""
    return lab, lab.proxy(CLIENT_TIMEOUT_SECONDS=2, **certificate), lab.bucket("hasty")


def test_a_body_that_stops_coming_is_refused_and_the_others_go_on(hasty, authority):
    lab, proxy, bucket = hasty
    with Http2(proxy, authority) as connection:
        stream = connection.request("PUT", f"/{bucket}/k", [length(100)], end=False)
        connection.send(stream, bytes(99), end=False)
        answer = connection.answer(stream)
        assert (answer.status, answer.error_code) == (400, "RequestTimeout")
        # Idle since, the connection may be told to end before the next request is there.
        stream = connection.request("GET", f"/{bucket}")
        other = connection.answers[stream]
        connection.until(lambda: other.ended or connection.goaway is not None, "another answer")
        assert other.status == 200 or connection.goaway == h2.errors.ErrorCodes.NO_ERROR
    proxy.wait_drained()
    assert not s3.every_key(lab.s3_main, bucket)


def test_a_response_that_is_not_taken_is_given_up(hasty, authority):
    lab, proxy, bucket = hasty
    lab.s3_main.put_object(Bucket=bucket, Key="big", Body=bytes(4 * MIB))
    with Http2(proxy, authority, takes=False) as connection:
        stream = connection.request("GET", f"/{bucket}/big")
        answer = connection.answer(stream)
        assert answer.reset is not None and 0 < len(answer.body) < 100_000


def test_a_response_that_is_taken_byte_by_byte_is_given_up(hasty, authority):
    lab, proxy, bucket = hasty
    lab.s3_main.put_object(Bucket=bucket, Key="big", Body=bytes(4 * MIB))
    with Http2(proxy, authority, takes=False, timeout=0.2) as connection:
        stream = connection.request("GET", f"/{bucket}/big")
        answer = connection.answers[stream]
        deadline = time.monotonic() + 20
        while answer.reset is None:
            assert time.monotonic() < deadline, "it goes on for ever"
            try:
                connection.read()
            except TimeoutError:
                connection.h2.increment_flow_control_window(1)
                connection.h2.increment_flow_control_window(1, stream)
                connection.flush()
        assert len(answer.body) < 100_000


def test_an_idle_connection_is_closed_with_a_word(hasty, authority):
    _, proxy, bucket = hasty
    with Http2(proxy, authority) as connection:
        assert connection.exchange("GET", f"/{bucket}").status == 200
        connection.until(lambda: connection.goaway is not None, "GOAWAY")
        assert connection.goaway == h2.errors.ErrorCodes.NO_ERROR
        while not connection.closed:
            connection.read()


def test_a_client_that_begins_nothing_is_let_go(hasty, authority):
    _, proxy, _ = hasty
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(["h2"])
    with raw.Connection(proxy.address) as plain:
        secure = context.wrap_socket(plain.socket, server_hostname="localhost")
        secure.sendall(b"PRI * HT")
        rest = b"x"
        while rest:
            rest = secure.recv(1000)


def test_requests_under_way_end_before_the_process_does(lab, authority, certificate):
    bucket = lab.bucket("drain")
    proxy = lab.proxy(**certificate)
    with Http2(proxy, authority) as connection:
        stream = connection.request("PUT", f"/{bucket}/k", [length(2 * MIB)], end=False)
        connection.send(stream, bytes(MIB), end=False)
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        connection.until(lambda: connection.goaway is not None, "GOAWAY")
        connection.send(stream, bytes(MIB))
        assert connection.answer(stream).status == 200
        stopping.join(60)
        assert not stopping.is_alive()
    assert len(stored(lab, bucket, "k")) == 2 * MIB


def test_a_signature_is_of_the_place_that_the_request_goes_to(lab, authority, certificate, tmp_path):
    """A host beside the authority cannot lend the signature of one bucket to another."""
    mine, other = lab.bucket("mine"), lab.bucket("other")
    keys = ("HTTP2", "http2-secret-0123456789")
    rule = [{"bucket": name, "access": "read-write"} for name in (mine, other)]
    client = {"access_key_id": keys[0], "secret_access_key": keys[1], "buckets": rule}
    file = tmp_path / "clients.json"
    file.write_text(json.dumps([client]))
    proxy = lab.proxy(
        CLIENT_CREDENTIALS_FILE=file, PROXY_DOMAIN="localhost", **certificate
    )
    for bucket in (mine, other):
        lab.s3_main.put_object(Bucket=bucket, Key="k", Body=bucket.encode())
    endpoint = f"https://localhost:{proxy.port}"
    signer = s3.client(
        endpoint, Credentials(*keys), addressing="virtual", signature_version="s3v4"
    )
    url = signer.generate_presigned_url("get_object", Params={"Bucket": mine, "Key": "k"})
    path = url.split(f":{proxy.port}", 1)[1]
    signed_for = f"{mine}.localhost:{proxy.port}"
    with Http2(proxy, authority) as connection:
        assert connection.exchange("GET", path, authority=signed_for).body == mine.encode()
        elsewhere = f"{other}.localhost:{proxy.port}"
        answer = connection.exchange("GET", path, [("host", signed_for)], authority=elsewhere)
        assert answer.status == 403 or answer.reset is not None, answer
    # The same over HTTP/1.1, where the target of a request may name its host too.
    context = ssl.create_default_context(cafile=authority.file)
    with raw.Connection(proxy.address) as plain:
        plain.socket = context.wrap_socket(plain.socket, server_hostname="localhost")
        target = f"https://{elsewhere}{path}"
        plain.send(raw.request_bytes("GET", target, [("Host", signed_for)]))
        assert plain.read_response().status == 403


"""What a connection of HTTP/1.1 promises, request by request: how it begins, goes on and ends."""

import os
import threading
from contextlib import ExitStack

import pytest

from support import raw
from support.poll import until
from support.raw import Connection, ConnectionEnded, request_bytes
from support.scripted import ScriptedServer

HOST = ("Host", "h")


@pytest.fixture
def main_that(lab):
    """Makes a proxy of which main is one function."""
    return lambda handle: lab.proxy(main_endpoint=lab.closing(ScriptedServer(handle)).endpoint)


@pytest.mark.parametrize(
    "data, status, code",
    [
        (b"GET / HTTP/3\r\n\r\n", 400, "BadRequest"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80), 400, "BadRequest"),
        (b"GET /b/k HTTP/1.1\r\nno colon\r\n\r\n", 400, "BadRequest"),
        (b"GET /b/<k> HTTP/1.1\r\nHost: h\r\n\r\n", 400, "InvalidURI"),
        (b"GET /" + b"k" * 66000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "InvalidURI"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 140000, 431, "RequestHeaderSectionTooLarge"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1001 + b"\r\n", 431, "RequestHeaderSectionTooLarge"),
    ],
    ids=["version", "tls", "header", "target", "long-target", "long-head", "many-headers"],
)
def test_what_is_no_request_is_answered_as_s3_would_and_ends_the_connection(
    steady, data, status, code
):
    _, proxy, _ = steady
    with Connection(proxy.address) as connection:
        connection.send(data)
        answer = connection.read_response()
        assert (answer.status, answer.error_code) == (status, code), answer
        assert answer.header("connection") == "close"
        assert answer.header("x-amz-request-id")
        with pytest.raises(ConnectionEnded):
            connection.read_response()


def test_a_request_is_understood_however_it_is_cut(steady):
    """A packet ends before every byte of it, in the head as in the body."""
    lab, proxy, _ = steady
    bucket = lab.bucket("cut")
    request = request_bytes("PUT", f"/{bucket}/k", [HOST, ("Content-Length", "5")], b"bytes")
    with Connection(proxy.address) as connection:
        for byte in range(len(request)):
            connection.send(request[byte : byte + 1])
        assert connection.read_response().status == 200
        for cut in range(1, len(request), 7):
            connection.send(request[:cut])
            connection.send(request[cut:])
            assert connection.read_response().status == 200
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"bytes"


FRAMINGS = {
    "length": (("Content-Length", "5"), b"bytes", 200),
    # The store demands a length, which says that the body was read to its end all the same.
    "chunked": (("Transfer-Encoding", "chunked"), b"5\r\nbytes\r\n0\r\nx-t: y\r\n\r\n", 411),
}


@pytest.mark.parametrize("framing, body, status", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_a_request_right_behind_a_body_is_the_next_one(steady, framing, body, status):
    lab, proxy, _ = steady
    bucket = lab.bucket("behind")
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"bytes")
    put = request_bytes("PUT", f"/{bucket}/k", [HOST, framing], body)
    get = request_bytes("GET", f"/{bucket}/k", [HOST])
    with Connection(proxy.address) as connection:
        connection.send(put + get + put + get)
        answers = [connection.read_response() for _ in range(4)]
    assert [answer.status for answer in answers] == [status, 200] * 2
    assert [answers[1].body, answers[3].body] == [b"bytes", b"bytes"]


def test_an_old_client_is_answered_in_its_own_version(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("old")
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"bytes")
    get = f"GET /{bucket}/k HTTP/1.0\r\n".encode()
    with Connection(proxy.address) as connection:
        for _ in range(2):
            connection.send(get + b"Connection: keep-alive\r\n\r\n")
            answer = connection.read_response()
            assert (answer.body, answer.header("connection")) == (b"bytes", "keep-alive")
        connection.send(get + b"\r\n")
        answer = connection.read_response()
        assert (answer.body, answer.header("connection")) == (b"bytes", "close")
        with pytest.raises(ConnectionEnded):
            connection.read_response()


def test_a_body_of_unknown_length_that_breaks_off_has_no_end_in_any_version(main_that):
    """HTTP/1.0 has no word for an end but that of the connection, so the proxy resets it."""

    def breaks_off(main):
        main.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n")
        main.close()

    proxy = main_that(breaks_off)
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("GET", "/bucket/k", [HOST]))
        with pytest.raises(ConnectionEnded):
            connection.read_response()
    with Connection(proxy.address) as connection:
        connection.send(b"GET /bucket/k HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while connection.socket.recv(65536):
                pass


def test_a_read_is_given_up_when_its_client_leaves(main_that):
    given_up = threading.Event()
    asked = threading.Event()

    def never_answers(main):
        asked.set()
        if main.recv(1) == b"":
            given_up.set()

    proxy = main_that(never_answers)
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("GET", "/bucket/k", [HOST]))
        assert asked.wait(20)
    assert given_up.wait(20)


def test_a_change_goes_on_when_its_client_leaves(main_that):
    """Main may have made it, so what becomes of it is to be known."""
    asked, left, kept_waiting = threading.Event(), threading.Event(), threading.Event()

    def answers_late(main):
        if asked.is_set():
            # Whether the key is there, for the mirror.
            main.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        asked.set()
        assert left.wait(20)
        main.settimeout(1)
        try:
            main.recv(1)
        except TimeoutError:
            kept_waiting.set()
        main.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def outcomes():
        lines = proxy.log_lines()
        return [line["status"] for line in lines if line.get("method") == "DELETE"]

    proxy = main_that(answers_late)
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("DELETE", "/bucket/k", [HOST]))
        assert asked.wait(20)
    left.set()
    until(lambda: outcomes() == [204], lambda: f"main's answer to be taken: {outcomes()}")
    assert kept_waiting.is_set()


def test_a_stop_ends_idle_connections_and_lets_others_finish(main_that):
    asked = threading.Event()
    goes_on = threading.Event()

    def answers_late(main):
        asked.set()
        goes_on.wait(20)
        main.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")

    proxy = main_that(answers_late)
    with ExitStack() as open_ones:
        # They are dealt out in turn, so that every core has one, and stops on its own.
        idle = [open_ones.enter_context(Connection(proxy.address)) for _ in range(os.cpu_count())]
        busy = open_ones.enter_context(Connection(proxy.address))
        for each in idle:
            # Refused without main, so that the connection is known to be served.
            each.send(request_bytes("GET", "/bucket/%00", [HOST]))
            assert each.read_response().status == 400
        busy.send(request_bytes("GET", "/bucket/k", [HOST]))
        assert asked.wait(20)
        proxy.process.terminate()
        for each in idle:
            assert each.socket.recv(1) == b""
        goes_on.set()
        answer = busy.read_response()
        assert (answer.body, answer.header("connection")) == (b"bytes", "close")
        with pytest.raises(ConnectionEnded):
            busy.read_response()
    assert proxy.process.wait() == 0


def test_main_s_own_words_are_passed_on(main_that):
    """The reason of a status is for people, and main's says more than the usual one."""

    def throttles(main):
        main.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nX-Own: a\r\nx-own: b\r\n\r\n")

    proxy = main_that(throttles)
    answer = raw.exchange(proxy.address, "GET", "/bucket/k", [HOST])
    assert (answer.status, answer.reason, answer.header("x-own")) == (503, "Slow Down", "a, b")


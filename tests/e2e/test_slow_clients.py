"""Clients that are slow, leave early or do not stop sending, and what they are told."""

import json
import random
import socket
import threading
import time

import pytest

from support import raw, s3
from support.http_fault import s3_error
from support.raw import Connection, ConnectionEnded, request_bytes
from support.scripted import ScriptedServer

MIB = 1024 * 1024


def put(target, length, *more):
    headers = [("Host", "h"), ("Content-Length", str(length)), *more]
    return request_bytes("PUT", target, headers)


@pytest.fixture
def hasty(lab):
    """A proxy that waits one second for its clients."""
    bucket = lab.bucket("slow")
    return lab, lab.proxy(CLIENT_TIMEOUT_SECONDS=1), bucket


@pytest.fixture
def guarded(lab, tmp_path):
    """A proxy that refuses unsigned requests."""
    bucket = lab.bucket("guarded")
    file = tmp_path / "clients.json"
    rule = {"bucket": bucket, "access": "read-write"}
    client = {"access_key_id": "A", "secret_access_key": "secret-0123456789", "buckets": [rule]}
    file.write_text(json.dumps([client]))
    return lab, lab.proxy(CLIENT_CREDENTIALS_FILE=str(file)), bucket


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_body_that_stops_coming_is_refused_and_has_no_effect(hasty, size):
    lab, proxy, bucket = hasty
    with Connection(proxy.address) as connection:
        connection.send(put(f"/{bucket}/k", size) + bytes(size - 1))
        started = time.monotonic()
        answer = connection.read_response()
        waited = time.monotonic() - started
    assert (answer.status, answer.error_code) == (400, "RequestTimeout")
    assert waited < 5, waited
    proxy.wait_drained()
    assert not s3.every_key(lab.s3_main, bucket)


def test_dripping_does_not_hold_a_place(hasty):
    _, proxy, bucket = hasty
    with Connection(proxy.address) as connection:
        connection.send(put(f"/{bucket}/k", 1000))
        connection.socket.settimeout(0.2)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            connection.send(b"x")
            try:
                connection._receive()
                break
            except TimeoutError:
                continue
        connection.socket.settimeout(10)
        assert connection.read_response().error_code == "RequestTimeout"


def test_a_head_that_does_not_come_ends_the_connection(hasty):
    _, proxy, bucket = hasty
    with Connection(proxy.address) as connection:
        connection.send(f"GET /{bucket} HTTP/1.1\r\nHost:".encode())
        with pytest.raises(ConnectionEnded):
            connection.read_response()


def test_the_time_main_takes_is_not_counted_against_the_client(lab):
    """Main stops reading for longer than clients are waited for; the upload goes on."""
    bucket = lab.bucket("slow")
    proxy = lab.proxy(CLIENT_TIMEOUT_SECONDS=1)
    body = bytes(30 * MIB)
    with Connection(proxy.address, timeout=30) as connection:
        lab.main.process.pause()
        try:
            sender = threading.Thread(
                target=connection.send, args=(put(f"/{bucket}/k", len(body)) + body,)
            )
            sender.start()
            time.sleep(2.5)  # the fault itself: main is away for this long
        finally:
            lab.main.process.resume()
        sender.join(30)
        assert connection.read_response().status == 200
    lab.assert_converged(proxy, bucket)


def test_a_client_that_does_not_take_its_answer_holds_no_connection_to_main(lab):
    """Neither taking nothing nor taking a byte now and then keeps the place."""
    given_up = threading.Semaphore(0)

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(256 * 1024))
        except OSError:
            given_up.release()

    server = ScriptedServer(endless)
    try:
        proxy = lab.proxy(main_endpoint=server.endpoint, CLIENT_TIMEOUT_SECONDS=1)
        get = request_bytes("GET", "/bucket/k", [("Host", "h")])
        with Connection(proxy.address) as idle, Connection(proxy.address) as dripping:
            idle.send(get)
            dripping.send(get)
            deadline = time.monotonic() + 60
            ended = 0
            while ended < 2 and time.monotonic() < deadline:
                try:
                    dripping.socket.recv(1)
                except ConnectionResetError:
                    pass
                ended += given_up.acquire(timeout=0.1)
            assert ended == 2
            # A reset, which nobody takes for the end of an object.
            with pytest.raises(ConnectionResetError):
                while idle.socket.recv(1 << 20):
                    pass
    finally:
        server.close()


def test_a_client_that_reads_slowly_gets_its_object(hasty):
    """Several times the limit passes; what counts is that something is taken all the time."""
    lab, proxy, bucket = hasty
    body = random.Random(1).randbytes(16 * MIB)
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=body)
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("GET", f"/{bucket}/k", [("Host", "h")]))
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.socket.recv(4096)
        taken = bytearray(received.partition(b"\r\n\r\n")[2])
        while len(taken) < 2 * MIB:
            time.sleep(0.1)  # the slowness itself: at most 640 KiB/s
            taken += connection.socket.recv(65536)
        while len(taken) < len(body):
            piece = connection.socket.recv(1 << 20)
            assert piece, f"ended after {len(taken)} bytes"
            taken += piece
    assert bytes(taken) == body


def test_a_body_that_ends_early_is_told_so(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("short")
    for size in (100, 3 * MIB):
        with Connection(proxy.address) as connection:
            connection.send(put(f"/{bucket}/k", size) + bytes(size - 1))
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.read_response()
        assert (answer.status, answer.error_code) == (400, "IncompleteBody")
    proxy.wait_drained()
    assert not s3.every_key(lab.s3_main, bucket)


def test_a_client_that_is_still_sending_gets_to_see_its_refusal(guarded):
    _, proxy, bucket = guarded
    body = bytes(8 * MIB)
    with Connection(proxy.address) as connection:
        for _ in range(2):  # the connection goes on
            connection.send(put(f"/{bucket}/k", len(body)) + body)
            answer = connection.read_response()
            assert (answer.status, answer.error_code) == (403, "AccessDenied")


def test_a_client_that_waits_for_100_continue_is_refused_without_its_body(guarded):
    _, proxy, bucket = guarded
    with Connection(proxy.address) as connection:
        connection.send(put(f"/{bucket}/k", 8 * MIB, ("Expect", "100-continue")))
        answer = connection.read_response()
        assert (answer.status, answer.error_code) == (403, "AccessDenied")
        assert answer.interim == [] and answer.header("connection") == "close"


def test_an_early_answer_of_main_reaches_a_client_that_is_still_sending(lab):
    """Main refuses after the head and closes while megabytes are on their way to it."""

    def refuse(connection):
        connection.sendall(s3_error(503, "Slow Down", "SlowDown"))
        connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and connection.recv(65536):
            pass

    server = ScriptedServer(refuse)
    try:
        proxy = lab.proxy(main_endpoint=server.endpoint)
        body = bytes(12 * MIB)
        answer = raw.exchange(
            proxy.address, "PUT", "/b/k", [("Host", "h"), ("Content-Length", str(len(body)))], body
        )
        assert (answer.status, answer.error_code) == (503, "SlowDown")
    finally:
        server.close()


@pytest.mark.parametrize(
    "headers", [[(f"x-n{n}", "v") for n in range(1100)], [("x-long", "v" * 2 * MIB)]]
)
def test_oversize_heads_are_refused(steady, headers):
    _, proxy, _ = steady
    answer = raw.exchange(proxy.address, "GET", "/bucket/k", [("Host", "h"), *headers])
    assert answer.status == 431

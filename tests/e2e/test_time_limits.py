"""P3, P5: a main or a mirror that falls silent in the middle holds nothing for ever.

The limits are minutes, and no setting shortens them, so the program's own clock is set forward.
What is waited for in vain is given up, and what became of a change is found out; what comes late
but in time is taken.
"""

import sys
import threading

import pytest

from support.http_fault import HttpFaultProxy
from support.leap import LeapingClock
from support.poll import until
from support.proxy import gauges
from support.raw import Connection, ConnectionEnded, request_bytes
from support.scripted import ScriptedServer
from support.tcp import FaultProxy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the clock is set forward by what only Linux has"
)

MIB = 1024 * 1024


@pytest.fixture
def clock(lab, preloaded, tmp_path):
    return lab.closing(LeapingClock(preloaded("leap"), tmp_path))


class Silence:
    """Holds the first request that is meant, and passes all others.

    A rule or an afterthought of `HttpFaultProxy`: the store has not heard of the request, or has
    done what it asks for.
    """

    def __init__(self, lab, method, path):
        self._meant = (method, path)
        self.begun = threading.Event()
        self._over = threading.Event()
        self._passes = False
        lab.closing(self)

    def __call__(self, request):
        target, _, _ = request.target.partition("?")
        if (request.method, target) != self._meant or self.begun.is_set():
            return None
        self.begun.set()
        self._over.wait()
        if not self._passes:
            raise ConnectionAbortedError
        return None

    def end(self):
        """The request goes on, as if nothing had been."""
        self._passes = True
        self._over.set()

    def close(self):
        self._over.set()


def once(method, path, answer):
    """A rule: the first request that is meant gets these bytes, and nothing more."""
    told = threading.Event()

    def rule(request):
        if (request.method, request.target) != (method, path) or told.is_set():
            return None
        told.set()
        return answer

    return rule


class Asking:
    """A request on a thread of its own."""

    def __init__(self, proxy, request):
        self.connection = Connection(proxy.address, timeout=30)
        self.sent = 0
        self._request = memoryview(request)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        try:
            while self.sent < len(self._request):
                self.sent += self.connection.socket.send(self._request[self.sent :][:65536])
        except OSError:
            pass  # answered before its end

    def answer(self):
        with self.connection:
            response = self.connection.read_response()
        self._thread.join(30)
        return response


def put(path, body, *more):
    headers = [("Host", "h"), ("Content-Length", str(len(body))), *more]
    return request_bytes("PUT", path, headers) + body


def counted(relay, method, path):
    return sum((each.method, each.target) == (method, path) for each in relay.requests)


def closed_by_proxy(connection):
    """Has the other side of a server's connection gone?"""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# --- main


def test_main_may_think_for_fourteen_minutes(lab, clock):
    bucket = lab.bucket("limits")
    silence = Silence(lab, "PUT", f"/{bucket}/k")
    relay = lab.closing(HttpFaultProxy(lab.main.address, rule=lambda _: None, after=silence))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **clock.settings())
    asking = Asking(proxy, put(f"/{bucket}/k", b"new"))
    assert silence.begun.wait(20)
    clock.settle()
    clock.leap(minutes=14)
    silence.end()
    assert asking.answer().status == 200
    assert counted(relay, "PUT", f"/{bucket}/k") == 1
    lab.assert_converged(proxy, bucket)


@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
def test_a_write_that_main_never_answers_is_given_up_and_main_is_asked_what_became_of_it(
    lab, clock, done
):
    bucket = lab.bucket("limits")
    path = f"/{bucket}/k"
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"old")
    silence = Silence(lab, "PUT", path)
    kind = {"rule": lambda _: None, "after": silence} if done else {"rule": silence}
    relay = lab.closing(HttpFaultProxy(lab.main.address, **kind))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **clock.settings())
    asking = Asking(proxy, put(path, b"new"))
    assert silence.begun.wait(20)
    clock.settle()
    clock.leap(minutes=14)
    assert proxy.status()["unsettled_intents"] == 1
    assert counted(relay, "HEAD", path) == 0
    clock.leap(minutes=1)
    answer = asking.answer()
    assert (answer.status, answer.error_code) == (500, "InternalError")
    lab.assert_converged(proxy, bucket)
    expected = b"new" if done else b"old"
    assert lab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == expected
    assert counted(relay, "PUT", path) == 1
    assert counted(relay, "HEAD", path) >= 1
    assert proxy.metrics()["s3_proxy_unsettled_intents"] == {"": 0}


def test_a_read_that_main_never_answers_is_given_up_and_not_asked_again(lab, clock):
    bucket = lab.bucket("limits")
    silence = Silence(lab, "GET", f"/{bucket}/k")
    relay = lab.closing(HttpFaultProxy(lab.main.address, rule=silence))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **clock.settings())
    asking = Asking(proxy, request_bytes("GET", f"/{bucket}/k", [("Host", "h")]))
    assert silence.begun.wait(20)
    clock.settle()
    clock.leap(minutes=15)
    answer = asking.answer()
    assert (answer.status, answer.error_code) == (500, "InternalError")
    assert counted(relay, "GET", f"/{bucket}/k") == 1


@pytest.mark.parametrize("minutes", [4, 5])
def test_a_download_waits_less_than_five_minutes_for_the_rest_of_an_object(lab, clock, minutes):
    go_on, gone = threading.Event(), threading.Event()

    def main(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        go_on.wait()
        if minutes < 5:
            connection.sendall(b"rest")
        if closed_by_proxy(connection):
            gone.set()

    server = lab.closing(ScriptedServer(main))
    proxy = lab.proxy(main_endpoint=server.endpoint, **clock.settings())
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("GET", "/bucket/k", [("Host", "h")]))
        assert connection.read_head()[0] == 200
        assert connection.take(4) == b"half"
        clock.settle()
        clock.leap(minutes=minutes)
        go_on.set()
        if minutes < 5:
            assert connection.take(4) == b"rest"
        else:
            with pytest.raises((ConnectionEnded, ConnectionResetError)):
                connection.take(4)
            assert gone.wait(20)


def test_a_copy_whose_result_never_ends_is_found_out_and_mirrored(lab, clock):
    """Main has answered 200 and keeps the document to itself; by then the copy is there."""
    bucket = lab.bucket("limits")
    path = f"/{bucket}/copy"
    lab.s3_main.put_object(Bucket=bucket, Key="source", Body=b"to be copied")

    def main(request):
        if (request.method, request.target) != ("PUT", path):
            return None
        lab.s3_main.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source")
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n"

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule=main))
    proxy = lab.proxy(main_endpoint=relay.endpoint, **clock.settings())
    with Connection(proxy.address) as connection:
        connection.send(put(path, b"", ("x-amz-copy-source", f"/{bucket}/source")))
        assert connection.read_head()[0] == 200
        assert connection.take(4)
        clock.settle()
        clock.leap(minutes=14)
        assert proxy.status()["unsettled_intents"] == 1
        clock.leap(minutes=1)
        with pytest.raises((ConnectionEnded, ConnectionResetError)):
            while connection.take(65536):
                pass
    proxy.wait_drained()
    found = lab.s3_mirror.get_object(Bucket=bucket, Key="copy")
    assert found["Body"].read() == b"to be copied"
    assert counted(relay, "PUT", path) == 1


@pytest.mark.parametrize("minutes", [14, 15])
def test_an_upload_that_main_takes_no_more_of_waits_less_than_fifteen_minutes(lab, clock, minutes):
    bucket = lab.bucket("limits")
    relay = lab.closing(FaultProxy(lab.main.address))
    # An hour, so that no leap is taken for the client's delay.
    proxy = lab.proxy(
        main_endpoint=relay.endpoint, CLIENT_TIMEOUT_SECONDS=3600, **clock.settings()
    )
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"old")
    proxy.wait_drained()
    relay.hang()
    asking = Asking(proxy, put(f"/{bucket}/k", bytes(24 * MIB)))
    seen = []

    def stuck():
        seen.append(asking.sent)
        return len(seen) > 10 and seen[-1] == seen[-10] > 0

    until(stuck, "an upload that does not get on", interval=0.05)
    assert asking.sent < 24 * MIB
    clock.settle()
    clock.leap(minutes=minutes)
    if minutes < 15:
        assert proxy.status()["unsettled_intents"] == 1
        relay.forward()
        assert asking.answer().status == 200
    else:
        answer = asking.answer()
        assert (answer.status, answer.error_code) == (500, "InternalError")
        relay.forward()
    lab.assert_converged(proxy, bucket)
    size = lab.s3_main.head_object(Bucket=bucket, Key="k")["ContentLength"]
    assert size == (24 * MIB if minutes < 15 else 3)


# --- the mirror


@pytest.mark.parametrize("size", [10, 16 * MIB], ids=["answers", "reads"])
def test_a_mirror_that_neither_reads_nor_answers_one_copy_gets_it_again(lab, clock, size):
    bucket = lab.bucket("limits")
    path = f"/{bucket}/k"
    silence = Silence(lab, "PUT", path)
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule=silence))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, **clock.settings())
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    client.put_object(Bucket=bucket, Key="k", Body=bytes(size))
    assert silence.begun.wait(20)
    client.put_object(Bucket=bucket, Key="other", Body=b"x")
    until(lambda: "other" in lab.keys_on_mirror(bucket), "a key that is not held up")
    until(
        lambda: proxy.status()["mirror"]["pending_operations"] == 1,
        lambda: f"one pending operation: {proxy.status()}",
    )
    assert gauges(proxy.status())["mirror.pending_bytes"] == size
    assert proxy.metrics()["s3_proxy_mirror_errors_total"] == {"": 0}
    clock.settle()
    # A minute, and what the bytes may take.
    clock.leap(minutes=4)
    lab.assert_converged(proxy, bucket)
    assert counted(relay, "PUT", path) == 2
    assert proxy.metrics()["s3_proxy_mirror_errors_total"] == {"": 1}
    (line,) = [each for each in proxy.log_lines() if each.get("mirror_status") == "retry"]
    assert line["key"] == "k" and "no answer" in line["error"], line


def test_a_mirror_that_stops_in_the_middle_of_an_answer_gets_the_copy_again(lab, clock):
    bucket = lab.bucket("limits")
    path = f"/{bucket}/k"
    half = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\n<Error><Code>"
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule=once("PUT", path, half)))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, **clock.settings())
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    until(lambda: counted(relay, "PUT", path) == 1, "the first try")
    clock.settle()
    assert proxy.status()["mirror"]["pending_operations"] == 1
    clock.leap(minutes=2)
    lab.assert_converged(proxy, bucket)
    assert counted(relay, "PUT", path) == 2
    assert proxy.metrics()["s3_proxy_mirror_errors_total"] == {"": 1}


def test_a_copy_whose_object_main_stops_sending_is_made_again(lab, clock):
    """What the tee has not kept is read from main, and that read has an end too."""
    bucket = lab.bucket("limits")
    path = f"/{bucket}/k"
    body = bytes(range(256)) * 400
    half = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:50_000]
    relay = lab.closing(HttpFaultProxy(lab.main.address, rule=once("GET", path, half)))
    proxy = lab.proxy(
        main_endpoint=relay.endpoint, TEE_MEMORY_BYTES=0, TEE_SPOOL_BYTES=0, **clock.settings()
    )
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    client.put_object(Bucket=bucket, Key="k", Body=body)
    until(lambda: counted(relay, "GET", path) == 1, "the read of main")
    clock.settle()
    assert proxy.status()["mirror"]["pending_operations"] == 1
    clock.leap(minutes=6)
    lab.assert_converged(proxy, bucket)
    assert counted(relay, "GET", path) == 2
    (line,) = [each for each in proxy.log_lines() if each.get("mirror_status") == "retry"]
    assert line["key"] == "k" and "300 seconds" in line["error"], line


def test_a_mirror_that_answers_nothing_any_more_is_called_unreachable_until_it_does(lab, clock):
    bucket = lab.bucket("limits")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, **clock.settings())
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    relay.hang()
    client.put_object(Bucket=bucket, Key="k", Body=b"x")

    def missed():
        clock.leap(minutes=2)
        return proxy.status()["mirror"]["unreachable"]

    until(missed, lambda: f"the mirror to be missed: {proxy.status()}", 60)
    status, metrics = proxy.status()["mirror"], proxy.metrics()
    assert (status["pending_operations"], status["parked"]) == (1, 0)
    assert metrics["s3_proxy_mirror_unreachable"] == {"": 1}
    assert metrics["s3_proxy_mirror_errors_total"][""] >= 8
    relay.forward()

    def found():
        clock.leap(minutes=2)
        return proxy.status()["mirror"]["pending_operations"] == 0

    until(found, lambda: f"the copy: {proxy.status()}", 60)
    lab.assert_converged(proxy, bucket)
    assert proxy.metrics()["s3_proxy_mirror_unreachable"] == {"": 0}

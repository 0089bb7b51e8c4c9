"""Large bodies that nobody looks at are moved from socket to socket inside the kernel (`splice`): whole,
counted, and with the same ends as those that are read.

That they are moved is seen from outside: the process then has a pipe open for each.
"""

import contextlib
import os
import queue
import random
import resource
import sys

import pytest

from support import operator, s3
from support.disk import Disk, start
from support.poll import until
from support.raw import Connection, ConnectionEnded, request_bytes
from support.scripted import ScriptedServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such call")

SIZE = 24 * 1024 * 1024 + 77


def pipes(proxy):
    """How many ends of pipes the process has open."""
    directory = f"/proc/{proxy.process.pid}/fd"
    ends = 0
    for name in os.listdir(directory):
        try:
            ends += os.readlink(f"{directory}/{name}").startswith("pipe:")
        except FileNotFoundError:
            pass
    return ends


def request(method, target, *headers):
    return request_bytes(method, target, [("Host", "h"), *headers])


def logged(proxy, operation):
    """The last log line of this operation, once there is one."""
    of = [line for line in proxy.log_lines() if line.get("operation") == operation]
    return of[-1] if of else None


def send_half(connection, proxy, bucket, body):
    """Sends a PUT and half of its body, which is then being moved."""
    before = pipes(proxy)
    length = ("Content-Length", str(SIZE))
    connection.send(request("PUT", f"/{bucket}/k", length) + body[: SIZE // 2])
    until(lambda: pipes(proxy) == before + 2, "a pipe for the upload")


@pytest.fixture
def large(lab):
    """A proxy that keeps no bodies, because mirroring is paused."""
    proxy = lab.proxy(**operator.settings())
    assert operator.command(proxy, "pause")[0] == 0
    return lab, proxy, lab.bucket("large"), random.Random(5).randbytes(SIZE)


def test_uploads_are_moved_whole_and_so_are_their_copies(large):
    lab, proxy, bucket, body = large
    before = pipes(proxy)
    with Connection(proxy.address) as connection:
        send_half(connection, proxy, bucket, body)
        connection.send(body[SIZE // 2 :])
        assert connection.read_response().status == 200
        assert pipes(proxy) == before
        # The connection is good for more.
        connection.send(request("HEAD", f"/{bucket}/k"))
        assert connection.read_response(head_only=True).header("content-length") == str(SIZE)
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert until(lambda: logged(proxy, "PutObject"), "its line")["size"] == SIZE
    assert operator.command(proxy, "resume")[0] == 0
    proxy.wait_drained()
    assert lab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert pipes(proxy) == before


def test_downloads_are_moved_whole(large):
    lab, proxy, bucket, body = large
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=body)
    before = pipes(proxy)
    with Connection(proxy.address) as connection:
        connection.send(request("GET", f"/{bucket}/k"))
        # Nothing is read as yet, so that it stands half-way.
        until(lambda: pipes(proxy) == before + 2, "a pipe for the download")
        assert connection.read_response().body == body
        until(lambda: pipes(proxy) == before, "its end")
        part = ("Range", f"bytes=1000-{SIZE - 1000}")
        connection.send(request("GET", f"/{bucket}/k", part))
        answer = connection.read_response()
        assert (answer.status, answer.body == body[1000 : SIZE - 999]) == (206, True)
    assert until(lambda: logged(proxy, "GetObject"), "its line")["size"] == SIZE - 1999


def test_an_upload_that_is_cut_while_it_is_moved_has_no_effect(large):
    lab, proxy, bucket, body = large
    before = pipes(proxy)
    with Connection(proxy.address) as connection:
        send_half(connection, proxy, bucket, body)
    until(lambda: pipes(proxy) == before, "its end")
    assert not s3.every_key(lab.s3_main, bucket)


def test_an_upload_that_is_moved_is_not_whole_on_main_before_its_intent_is_on_disk(lab):
    """P2: main is a server that counts, because what it would make of a whole body may come late."""
    received = queue.Queue()

    def count(connection):
        bytes_received = 0
        while piece := connection.recv(65536):
            bytes_received += len(piece)
        if bytes_received:
            received.put(bytes_received)

    server = lab.closing(ScriptedServer(count))
    settings = {"JOURNAL_REQUIRED": "true", **operator.settings()}
    proxy = start(lab, main_endpoint=server.endpoint, **settings)
    assert operator.command(proxy, "pause")[0] == 0
    body = bytes(SIZE)
    disk = Disk(proxy)
    disk.full()
    try:
        with Connection(proxy.address) as connection:
            send_half(connection, proxy, "bucket", body)
            connection.send(body[SIZE // 2 :])
            answer = connection.read_response()
        assert (answer.status, answer.error_code) == (503, "SlowDown")
        assert SIZE // 2 < received.get(timeout=20) < SIZE
    finally:
        disk.free()


def test_a_download_that_main_breaks_off_while_it_is_moved_has_no_end(lab):
    sent = 3 * 1024 * 1024

    def half(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: %d\r\n\r\n" % SIZE)
        connection.sendall(bytes(sent))

    server = lab.closing(ScriptedServer(half))
    proxy = lab.proxy(main_endpoint=server.endpoint)
    with Connection(proxy.address) as connection:
        connection.send(request("GET", "/bucket/k"))
        connection.read_head()
        got = 0
        with pytest.raises(ConnectionEnded):
            while True:
                got += len(connection.take(SIZE))
    assert got == sent
    line = until(lambda: logged(proxy, "GetObject"), "its line")
    assert line["size"] == sent and "broke off" in line["error"]


def test_pipes_leave_descriptors_to_connections(large):
    """One body for every eight descriptors is moved; the others are read, and as whole."""
    lab, proxy, bucket, body = large
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=body)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (240, 240))
    before = pipes(proxy)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Connection(proxy.address)) for _ in range(40)]
        for connection in stalled:
            connection.send(request("GET", f"/{bucket}/k"))
        for connection in stalled:
            connection.read_head()
        until(lambda: pipes(proxy) == before + 2 * 30, "thirty pipes")
        for connection in stalled[::13]:
            assert connection._exactly(SIZE) == body
    until(lambda: pipes(proxy) == before, "their end")

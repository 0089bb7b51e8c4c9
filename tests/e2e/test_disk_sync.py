"""P2: what the disk does not promise is not promised to a client.

The disk takes every write, and its syncs fail, or return no more. That is what a broken disk looks
like from here, and what a full one does not show: the bytes are there, and may be gone tomorrow.
"""

import os
import sys
import threading
import time

import pytest

from support import operator, raw
from support.lab import seeded_random
from support.poll import until
from support.tcp import FaultProxy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="which file is synced is told by what only Linux has"
)

#: Connections are dealt out to a thread per core: each thread has several of these.
READERS = max(32, 4 * (os.cpu_count() or 1))


def failing(proxy):
    return list(proxy.metrics()["s3_proxy_journal_failing"].values()) == [1.0]


def request(method, bucket, key, body=b""):
    headers = [("Host", "h"), ("Content-Length", str(len(body)))]
    return raw.request_bytes(method, f"/{bucket}/{key}", headers, body)


def put(proxy, bucket, key, body=b"x"):
    with raw.Connection(proxy.address) as connection:
        connection.send(request("PUT", bucket, key, body))
        return connection.read_response()


def get(connection, bucket, key):
    connection.send(request("GET", bucket, key))
    answer = connection.read_response()
    return answer.status, answer.body


def keys_on_main(lab, bucket):
    return [entry["Key"] for entry in lab.s3_main.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_sync_that_fails_is_no_promise(lab, syncs):
    proxy = lab.proxy(JOURNAL_REQUIRED="true", **syncs.settings())
    bucket = lab.bucket("nosync")
    assert put(proxy, bucket, "before").status == 200
    proxy.wait_drained()
    syncs.fail()
    for key, body in (("small", b"x"), ("large", bytes(3_000_000)), ("empty", b"")):
        answer = put(proxy, bucket, key, body)
        assert (answer.status, answer.error_code) == (503, "SlowDown"), answer
    assert all(count > 0 for count in syncs.failed()), "nobody asked the disk"
    until(lambda: failing(proxy), "the alarm")
    with raw.Connection(proxy.address) as connection:
        assert get(connection, bucket, "before") == (200, b"x")
    assert keys_on_main(lab, bucket) == ["before"], "a refused write took effect"
    syncs.go_on()
    until(lambda: put(proxy, bucket, "after").status == 200, "writes to be taken again")
    until(lambda: not failing(proxy), "the end of the alarm")
    lab.assert_converged(proxy, bucket)


def test_a_log_that_cannot_be_synced_makes_rows_and_none_is_lost_when_the_power_goes(lab, syncs):
    rng = seeded_random("rows")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    settings = {"JOURNAL_REQUIRED": "true", "mirror_endpoint": relay.endpoint, **syncs.settings()}
    proxy = lab.proxy(**settings)
    bucket = lab.bucket("rows")
    assert put(proxy, bucket, "before").status == 200
    proxy.wait_drained()
    # From here on nothing but the database's disk knows of them.
    relay.refuse()
    syncs.fail(others=False)
    keys = [f"during-{number}" for number in range(20)]
    for key in keys:
        assert put(proxy, bucket, key).status == 200
    assert syncs.failed()[0] > 0, "nobody asked the log's disk"
    assert not failing(proxy), "the database takes them"
    syncs.power_goes(proxy, rng)
    syncs.go_on()
    proxy.start()
    assert proxy.status()["mirror"]["pending_operations"] >= len(keys)
    relay.forward()
    assert put(proxy, bucket, "after").status == 200
    lab.assert_converged(proxy, bucket)
    assert lab.keys_on_mirror(bucket) == {"before", *keys, "after"}


def hanging(lab, syncs, label, **settings):
    """A proxy with one object, whose next intent hangs at the disk."""
    proxy = lab.proxy(**syncs.settings(), **settings)
    bucket = lab.bucket(label)
    assert put(proxy, bucket, "before").status == 200
    proxy.wait_drained()
    syncs.hang()
    return proxy, bucket


def test_while_the_disk_hangs_writes_wait_and_reads_go_on(lab, syncs):
    proxy, bucket = hanging(lab, syncs, "hangs")
    bodies = {"small": b"x", "large": bytes(3_000_000), "empty": b""}
    answers = {}

    def write(key):
        answers[key] = put(proxy, bucket, key, bodies[key]).status

    writers = [threading.Thread(target=write, args=(key,), daemon=True) for key in bodies]
    for writer in writers:
        writer.start()
    syncs.wait_hanging()
    connections = [raw.Connection(proxy.address) for _ in range(READERS)]
    for connection in connections:
        with connection:
            assert get(connection, bucket, "before") == (200, b"x")
    assert proxy.is_ready(), "reads are served"
    # A writer that did not wait would have been answered long ago.
    time.sleep(0.5)
    assert not answers
    assert keys_on_main(lab, bucket) == ["before"], "a write took effect before its intent was safe"
    syncs.go_on()
    for writer in writers:
        writer.join(timeout=20)
    assert answers == dict.fromkeys(bodies, 200)
    lab.assert_converged(proxy, bucket)


def test_a_crash_while_the_disk_hangs_leaves_nothing_that_was_not_asked_for(lab, syncs):
    proxy, bucket = hanging(lab, syncs, "hangcrash")
    with raw.Connection(proxy.address) as connection:
        connection.send(request("PUT", bucket, "never"))
        syncs.wait_hanging()
        proxy.kill()
        with pytest.raises((raw.ConnectionEnded, OSError)):
            connection.read_response()
    syncs.go_on()
    proxy.start()
    lab.assert_converged(proxy, bucket)
    assert keys_on_main(lab, bucket) == ["before"]
    assert lab.keys_on_mirror(bucket) == {"before"}


def test_a_disk_that_hangs_for_good_is_told_and_keeps_no_process_from_ending(lab, syncs):
    settings = {"JOURNAL_REQUIRED": "true", "DRAIN_TIMEOUT_SECONDS": 1}
    proxy, bucket = hanging(lab, syncs, "hangsforgood", **settings)
    with raw.Connection(proxy.address) as connection:
        connection.send(request("PUT", bucket, "never"))
        syncs.wait_hanging()
        until(
            lambda: "\ns3_proxy_journal_failing 1\n" in proxy.admin("/metrics", timeout=10)[2],
            lambda: f"it is told: {proxy.admin('/metrics', timeout=10)}",
            60,
        )
        assert not proxy.is_ready(), "what is not to be written without a journal goes elsewhere"
        with raw.Connection(proxy.address) as reader:
            assert get(reader, bucket, "before") == (200, b"x")
        code, out, err = operator.command(proxy, "status")
        assert code == 5 and "FAILING" in out, (code, out, err)
        proxy.process.terminate()
        proxy.process.wait(40)
    syncs.go_on()
    proxy.start()
    lab.assert_converged(proxy, bucket)
    assert keys_on_main(lab, bucket) == ["before"]

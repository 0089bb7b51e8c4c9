"""A journal that cannot be written: the stated policy, both ways, and the way back.

The kernel refuses every write to a file of the running process (a file size limit of 0), as a full
disk would; main and mirror are other processes and go on.
"""

import pytest

from support import raw
from support.disk import Disk, start
from support.poll import until


def put(proxy, bucket, key, body):
    headers = [("Host", "h"), ("Content-Length", str(len(body)))]
    return raw.exchange(proxy.address, "PUT", f"/{bucket}/{key}", headers, body)


@pytest.fixture
def inventory(lab):
    return lab.postgres()


def test_by_default_writes_are_served_and_an_alarm_is_raised(lab, inventory):
    proxy = start(lab, inventory.settings())
    bucket = lab.bucket("fulldisk")
    assert put(proxy, bucket, "before", b"x").status == 200
    proxy.wait_drained()
    disk = Disk(proxy)
    disk.full()
    try:
        for number in range(10):
            assert put(proxy, bucket, f"during {number}".replace(" ", "-"), b"x").status == 200
        until(
            lambda: list(proxy.metrics()["s3_proxy_journal_failing"].values()) == [1.0],
            "the alarm",
        )
        until(lambda: len(lab.keys_on_mirror(bucket)) == 11, "the keys kept in memory to arrive")
    finally:
        disk.free()
    assert put(proxy, bucket, "after", b"x").status == 200
    until(
        lambda: list(proxy.metrics()["s3_proxy_journal_failing"].values()) == [0.0],
        "the end of the alarm",
    )
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_with_journal_required_writes_are_refused_and_reads_go_on(lab, inventory):
    proxy = start(lab, inventory.settings(), JOURNAL_REQUIRED="true")
    bucket = lab.bucket("required")
    assert put(proxy, bucket, "before", b"x").status == 200
    proxy.wait_drained()
    disk = Disk(proxy)
    disk.full()
    try:
        # A small body, a large one, and a request without any.
        for key, body in (("small", b"x"), ("large", bytes(3_000_000)), ("empty", b"")):
            answer = put(proxy, bucket, key, body)
            assert (answer.status, answer.error_code) == (503, "SlowDown"), answer
        answer = raw.exchange(proxy.address, "DELETE", f"/{bucket}/before", [("Host", "h")])
        assert (answer.status, answer.error_code) == (503, "SlowDown"), answer
        answer = raw.exchange(proxy.address, "GET", f"/{bucket}/before", [("Host", "h")])
        assert (answer.status, answer.body) == (200, b"x")
    finally:
        disk.free()
    keys = [entry["Key"] for entry in lab.s3_main.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["before"], "a refused write took effect"
    until(lambda: put(proxy, bucket, "after", b"x").status == 200, "writes to be taken again")
    lab.assert_converged(proxy, bucket, inventory=inventory)

"""Budgets of the mirror: bytes and requests per second, and large objects in a lane of their own."""

import threading
import time

from support.http_fault import HttpFaultProxy
from support.poll import until

MIB = 1024 * 1024


def test_copies_keep_to_the_bandwidth_and_clients_do_not_feel_it(lab):
    proxy = lab.proxy(MIRROR_BANDWIDTH_BYTES_PER_SECOND=2 * MIB)
    bucket = lab.bucket("bandwidth")
    client = lab.client(proxy)
    begun = time.monotonic()
    # One paid for piece by piece, the others as a whole.
    client.put_object(Bucket=bucket, Key="large", Body=bytes(4 * MIB))
    for number in range(16):
        client.put_object(Bucket=bucket, Key=str(number), Body=bytes(128 * 1024))
    accepted = time.monotonic() - begun
    lab.assert_converged(proxy, bucket)
    took = time.monotonic() - begun
    # 6 MiB at 2 MiB a second, less what is granted at once after a quiet time.
    assert accepted < took and 2.4 < took < 15, took


def test_requests_keep_to_their_rate(lab):
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, lambda request: None))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, MIRROR_REQUESTS_PER_SECOND=10)
    bucket = lab.bucket("rate")
    client = lab.client(proxy)
    begun = time.monotonic()
    for number in range(25):
        client.put_object(Bucket=bucket, Key=str(number), Body=b"x")
    lab.assert_converged(proxy, bucket)
    took = time.monotonic() - begun
    assert took > (len(relay.requests) - 5) / 10, (took, len(relay.requests))


def test_large_objects_that_crawl_do_not_hold_up_small_ones(lab):
    """Four workers, six large objects under way: known as such, and found out on the way."""
    go_on = threading.Event()
    stuck = set()

    def rule(request):
        key = request.target.split("?")[0].rsplit("/", 1)[1]
        if key.startswith("large") and request.method in ("PUT", "POST"):
            stuck.add(key)
            assert go_on.wait(60)
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(
        mirror_endpoint=relay.endpoint, MIRROR_CONCURRENCY=4, TEE_MEMORY_BYTES=MIB, TEE_SPOOL_BYTES=0
    )
    bucket = lab.bucket("large")
    client = lab.client(proxy)
    try:
        client.put_object(Bucket=bucket, Key="large0", Body=bytes(17 * MIB))
        for number in range(1, 6):
            source = {"Bucket": bucket, "Key": "large0"}
            client.copy_object(Bucket=bucket, Key=f"large{number}", CopySource=source)
        until(lambda: stuck, "a large object on its way")
        small = {f"small{number}" for number in range(30)}
        for key in sorted(small):
            client.put_object(Bucket=bucket, Key=key, Body=b"x")
        until(lambda: small <= lab.keys_on_mirror(bucket), "the small ones on the mirror")
        until(lambda: proxy.status()["mirror"]["pending_operations"] == 6, "only large ones wait")
        assert len(stuck) == 1, "one of four workers copies large objects"
    finally:
        go_on.set()
    lab.assert_converged(proxy, bucket, timeout=60)
    assert len(stuck) == 6

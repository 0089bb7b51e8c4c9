"""P5: a slow, failing or absent mirror or database costs clients nothing; afterwards all converges.

Also: one process per DATA_DIR, and what SIGTERM does to requests and to the backlog.
"""

import threading
import time

import pytest

from support import latency, raw, s3
from support.http_fault import HttpFaultProxy
from support.poll import until
from support.process import accepts
from support.proxy import gauges
from support.tcp import FaultProxy


class Relayed:
    """A proxy whose mirror and database are behind relays that can fail."""

    def __init__(self, lab, **options):
        self.lab = lab
        self.mirror = lab.closing(FaultProxy(lab.mirror.address))
        self.database = lab.closing(FaultProxy(lab.cluster.address))
        self.inventory = lab.postgres()
        self.proxy = lab.proxy(
            self.inventory.settings(self.database.address),
            mirror_endpoint=self.mirror.endpoint,
            **options,
        )
        self.bucket = lab.bucket("outage")
        self.client = lab.client(self.proxy)

    def measure(self, prefix):
        return latency.measure(self.client, self.bucket, prefix)

    def assert_converged(self, timeout=60):
        self.lab.assert_converged(
            self.proxy, self.bucket, inventory=self.inventory, timeout=timeout
        )


@pytest.fixture
def relayed(lab):
    return Relayed(lab)


FAULTS = {
    "mirror-refuses": lambda r: r.mirror.refuse(),
    "mirror-hangs": lambda r: r.mirror.hang(),
    "database-refuses": lambda r: r.database.refuse(),
    "database-hangs": lambda r: r.database.hang(),
    "both-refuse": lambda r: (r.mirror.refuse(), r.database.refuse()),
    "both-slow": lambda r: (r.mirror.slow(0.3), r.database.slow(0.3)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_clients_do_not_feel_an_outage_and_everything_converges_after_it(relayed, fault):
    relayed.measure("warm")
    baseline = relayed.measure("before")
    relayed.proxy.wait_drained()
    fault(relayed)
    latency.assert_undisturbed("during the outage", baseline, relayed.measure("during"))
    # Overwrites and deletes of what is already mirrored, and of what still waits.
    for number in range(20):
        relayed.client.put_object(Bucket=relayed.bucket, Key=f"before/{number}", Body=b"newer")
        relayed.client.delete_object(Bucket=relayed.bucket, Key=f"during/{number}")
    figures = gauges(relayed.proxy.status())
    assert figures["mirror.pending_operations"] or figures["inventory.pending_rows"], figures
    assert figures["mirror.parked"] == 0, figures
    relayed.mirror.forward()
    relayed.database.forward()
    relayed.assert_converged()


def test_writes_that_overtake_each_other_while_the_database_is_away_leave_the_last_one(lab):
    """The first of two reaches main last, and its row meets that of the second, which waits."""
    arrived, go_on = threading.Event(), threading.Event()

    def rule(request):
        if request.method == "PUT" and dict(request.headers).get("x-amz-meta-order") == "first":
            arrived.set()
            assert go_on.wait(20)

    main = lab.closing(HttpFaultProxy(lab.main.address, rule))
    database = lab.closing(FaultProxy(lab.cluster.address))
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(database.address), main_endpoint=main.endpoint)
    bucket, client = lab.bucket("overtaken"), lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"before")
    lab.assert_converged(proxy, bucket, inventory=inventory)
    database.refuse()
    first = threading.Thread(
        target=client.put_object,
        kwargs={"Bucket": bucket, "Key": "k", "Body": b"first", "Metadata": {"order": "first"}},
    )
    first.start()

    def on_mirror():
        return lab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read()

    try:
        assert arrived.wait(20)
        client.put_object(Bucket=bucket, Key="k", Body=b"the second")
        until(lambda: on_mirror() == b"the second", "the copy of the second write")
    finally:
        go_on.set()
        first.join(20)
    until(lambda: on_mirror() == b"first", "the copy of the first write")
    database.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_connections_cut_again_and_again_lose_nothing(relayed):
    for number in range(200):
        relayed.client.put_object(
            Bucket=relayed.bucket, Key=f"{number % 60}", Body=b"x" * (number * 100)
        )
        if number % 10 == 0:
            relayed.mirror.cut()
            relayed.database.cut()
    relayed.assert_converged()


def test_the_database_server_itself_restarts_and_freezes(lab):
    """Not a relay this time: PostgreSQL is stopped, started, and stopped in its tracks."""
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings())
    bucket = lab.bucket("pgdown")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    lab.cluster.stop()
    try:
        client.put_object(Bucket=bucket, Key="while it is down", Body=b"x")
        client.delete_object(Bucket=bucket, Key="before")
        until(
            lambda: lab.keys_on_mirror(bucket) == {"while it is down"},
            "the mirror, which needs no database",
        )
        until(lambda: proxy.status()["inventory"]["pending_rows"] == 2, "two rows to wait")
    finally:
        lab.cluster.start()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    lab.cluster.process.pause()
    try:
        client.put_object(Bucket=bucket, Key="while it is frozen", Body=b"x")
        until(
            lambda: "while it is frozen" in lab.keys_on_mirror(bucket),
            "the mirror, which needs no database",
        )
    finally:
        lab.cluster.process.resume()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_frozen_mirror_server_delays_copies_and_nothing_else(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("frozen")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"x")
    proxy.wait_drained()
    lab.mirror.process.pause()
    try:
        for number in range(30):
            client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
        until(
            lambda: proxy.status()["mirror"]["pending_operations"] == 30,
            lambda: f"30 operations to be pending: {proxy.status()}",
        )
        inventory = lab.sqlite(proxy)
        until(lambda: len(inventory.rows(bucket)) == 31, "the rows, which need no mirror")
    finally:
        lab.mirror.process.resume()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_the_oldest_pending_age_grows_while_the_mirror_is_away(relayed):
    relayed.mirror.refuse()
    relayed.client.put_object(Bucket=relayed.bucket, Key="k", Body=b"x" * 1234)
    first = until(
        lambda: relayed.proxy.status()["mirror"]["oldest_pending_seconds"], "an age above zero"
    )
    until(
        lambda: relayed.proxy.status()["mirror"]["oldest_pending_seconds"] > first,
        "the age to grow",
    )
    figures = gauges(relayed.proxy.status())
    assert figures["mirror.pending_operations"] == 1
    assert figures["mirror.pending_bytes"] == 1234
    relayed.mirror.forward()
    relayed.assert_converged()


def test_what_need_not_ask_an_absent_mirror_does_not_make_it_look_present(lab):
    """Held deletes end without it; the others wait for one knock at a time all the same."""
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, MIRROR_DELETES="delay:1h")
    bucket = lab.bucket("absent")
    client = lab.client(proxy)
    for number in range(20):
        client.put_object(Bucket=bucket, Key=f"gone{number}", Body=b"x")
    proxy.wait_drained()
    relay.refuse()
    for number in range(20):
        client.put_object(Bucket=bucket, Key=f"new{number}", Body=b"x")
    until(lambda: proxy.status()["mirror"]["unreachable"], "the mirror to be missed")
    for number in range(20):
        client.delete_object(Bucket=bucket, Key=f"gone{number}")
    until(
        lambda: proxy.status()["mirror"]["held_deletes"] == 20,
        lambda: f"20 held deletes: {proxy.status()['mirror']}",
        60,
    )
    assert proxy.status()["mirror"]["unreachable"]
    assert "can be reached again" not in proxy.process.stdout()
    relay.forward()
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 0, "the copies", 60)
    assert not proxy.status()["mirror"]["unreachable"]
    assert {f"new{number}" for number in range(20)} <= lab.keys_on_mirror(bucket)


def test_a_large_object_does_not_keep_the_others_from_a_mirror_that_is_back(lab):
    """Whoever knocks first after an outage may have a copy to make that takes long."""
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("large")
    client = lab.client(proxy)
    relay.refuse()
    large = {f"large{number}" for number in range(10)}
    for key in large:
        client.put_object(Bucket=bucket, Key=key, Body=bytes(17 * 1024 * 1024))
    until(lambda: proxy.status()["mirror"]["unreachable"], "the mirror to be missed")
    relay.slow(0.05)
    until(lambda: not proxy.status()["mirror"]["unreachable"], "the mirror to be found", 30)
    assert not lab.keys_on_mirror(bucket), "it is found before a large copy has been made"
    client.put_object(Bucket=bucket, Key="small", Body=b"x")
    until(lambda: "small" in lab.keys_on_mirror(bucket), "a small object beside them")
    assert not large & lab.keys_on_mirror(bucket)
    relay.forward()
    until(lambda: lab.keys_on_mirror(bucket) == large | {"small"}, "all of them", 60)


def test_a_second_proxy_on_the_same_data_directory_is_refused(lab):
    first = lab.proxy()
    second = lab.proxy(name="second", data_dir_of=first, start=False)
    second.process.spawn()
    code = second.process.wait(20)
    assert code not in (0, None) and code > 0, code
    said = second.process.stdout() + second.process.stderr()
    assert str(first.data_dir) in said, said
    bucket = lab.bucket("onlyone")
    lab.client(first).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(first, bucket)
    # Once the first has gone, by whatever way, its directory is free again.
    first.kill()
    second.start()
    lab.client(second).put_object(Bucket=bucket, Key="k2", Body=b"x")
    lab.assert_converged(second, bucket)


def test_sigterm_lets_requests_under_way_finish(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("drain")
    body = bytes(range(256)) * 4096
    headers = [("Host", "h"), ("Content-Length", str(len(body)))]
    half = len(body) // 2
    with raw.Connection(proxy.address) as connection:
        connection.send(raw.request_bytes("PUT", f"/{bucket}/k", headers, body[:half]))
        # The proxy is inside this request when the signal comes: an answer to another one
        # sent after it proves that the accept loop has moved on.
        raw.exchange(proxy.address, "GET", f"/{bucket}/none", [("Host", "h")])
        proxy.process.terminate()
        until(lambda: not accepts(proxy.port), "new connections to be refused")
        connection.send(body[half:])
        answer = connection.read_response()
        assert answer.status == 200, answer
    assert proxy.process.wait() == 0
    assert lab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_sigterm_drains_the_backlog_before_it_exits_0(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("drain")
    relay.slow(0.02)
    client = lab.client(proxy)
    for number in range(100):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
    assert proxy.stop() == 0
    assert lab.keys_on_mirror(bucket) == {f"{number}" for number in range(100)}


def test_sigterm_with_the_mirror_away_ends_in_time_and_keeps_the_backlog(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, DRAIN_TIMEOUT_SECONDS=2)
    bucket = lab.bucket("drain")
    relay.hang()
    client = lab.client(proxy)
    for number in range(10):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
    started = time.monotonic()
    assert proxy.stop() == 0
    took = time.monotonic() - started
    assert took < 10, f"{took:.1f} s for a drain limited to 2 s"
    last_words = proxy.log_lines()[-3:]
    assert any("10" in str(line) for line in last_words), f"what is left is not said: {last_words}"
    relay.forward()
    proxy.start()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_many_idle_and_half_open_connections_do_not_stop_others(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("idle")
    idle = [raw.Connection(proxy.address) for _ in range(200)]
    half = [raw.Connection(proxy.address) for _ in range(50)]
    try:
        for connection in half:
            connection.send(b"PUT /" + bucket.encode() + b"/never HTTP/1.1\r\nHost: h\r\n")
        done = []

        def work(number):
            s3.client(proxy.endpoint).put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
            done.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(done) == 8
    finally:
        for connection in idle + half:
            connection.socket.close()
    lab.assert_converged(proxy, bucket)

"""What becomes on the mirror of keys that main has deleted: MIRROR_DELETES and the brake."""

import json
import time
import urllib.request

import pytest

from support import compare
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.tcp import FaultProxy

TOKEN = "a-token-for-the-admin-port"
BRAKE = {"MIRROR_DELETE_BRAKE_KEYS": 5, "ADMIN_TOKEN": TOKEN}


def put(client, bucket, keys, body=b"x"):
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/plain")


def delete(client, bucket, keys):
    client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
    )


def held(proxy, number):
    until(
        lambda: proxy.status()["mirror"]["held_deletes"] == number,
        lambda: f"{number} held deletes: {proxy.status()['mirror']}",
    )


def braked(proxy):
    return [each["bucket"] for each in proxy.status()["mirror"]["brakes"]]


def release(proxy, bucket):
    request = urllib.request.Request(
        f"http://{proxy.host}:{proxy.admin_port}/api/v1/release",
        data=json.dumps({"bucket": bucket}).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200


@pytest.fixture
def filled(lab):
    """A proxy with a low brake, and a bucket of ten keys that the mirror has."""
    proxy = lab.proxy(**BRAKE)
    bucket = lab.bucket("brake")
    client = lab.client(proxy)
    keys = [f"key{number}" for number in range(10)]
    put(client, bucket, keys)
    proxy.wait_drained()
    return proxy, client, bucket, keys


def test_ignored_deletes_leave_the_mirror_alone_and_the_inventory_follows_main(lab):
    proxy = lab.proxy(MIRROR_DELETES="ignore")
    bucket = lab.bucket("ignore")
    client = lab.client(proxy)
    put(client, bucket, ["kept", "again"])
    proxy.wait_drained()
    delete(client, bucket, ["kept", "again"])
    put(client, bucket, ["again"], b"new")
    proxy.wait_drained()
    assert lab.keys_on_mirror(bucket) == {"kept", "again"}
    assert lab.s3_mirror.get_object(Bucket=bucket, Key="again")["Body"].read() == b"new"
    rows = {row["path"]: row for row in lab.sqlite(proxy).rows(bucket)}
    assert rows["kept"]["deleted"] and not rows["kept"]["is_backed_up"]
    assert rows["again"]["is_backed_up"] and not rows["again"]["deleted"]
    assert proxy.status()["mirror"]["deletes"] == "ignore"


def test_a_delayed_delete_comes_in_its_time_and_survives_a_restart(lab):
    proxy = lab.proxy(MIRROR_DELETES="delay:4s")
    bucket = lab.bucket("delay")
    client = lab.client(proxy)
    put(client, bucket, ["gone", "back"])
    proxy.wait_drained()
    delete(client, bucket, ["gone", "back"])
    held(proxy, 2)
    assert proxy.status()["mirror"]["deletes"] == "delay:4s"
    # Nothing else waits, and what is set aside is no failure.
    proxy.wait_drained()
    assert lab.keys_on_mirror(bucket) == {"gone", "back"}
    put(client, bucket, ["back"], b"put back")
    held(proxy, 1)
    proxy.kill()
    proxy.start()
    until(lambda: lab.keys_on_mirror(bucket) == {"back"}, "the delete after its delay")
    held(proxy, 0)
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_a_mass_delete_is_held_and_other_buckets_and_writes_go_on(lab, filled):
    proxy, client, bucket, keys = filled
    other = lab.bucket("calm")
    put(client, other, ["here", "gone"])
    delete(client, bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    proxy.wait_drained()
    mirror = proxy.status()["mirror"]
    left = lab.keys_on_mirror(bucket)
    assert len(left) >= 5 and mirror["held_deletes"] == len(left)
    assert mirror["parked"] == 0
    gauges = proxy.metrics()
    assert sum(gauges["s3_proxy_mirror_held_deletes"].values()) == len(left)
    assert sum(gauges["s3_proxy_mirror_delete_brakes"].values()) == 1
    assert sum(gauges["s3_proxy_mirror_errors_total"].values()) == 0
    assert "MIRROR_DELETE_BRAKE_KEYS" in proxy.process.stdout()
    # The inventory tells main's state all the same.
    assert all(row["deleted"] for row in lab.sqlite(proxy).rows(bucket))
    delete(client, other, ["gone"])
    put(client, bucket, ["new"])
    lab.assert_converged(proxy, other)
    assert lab.keys_on_mirror(bucket) == left | {"new"}


def test_a_key_put_back_while_its_delete_is_held_ends_as_main_has_it(lab, filled):
    proxy, client, bucket, keys = filled
    delete(client, bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    put(client, bucket, keys, b"put back")
    held(proxy, 0)
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_a_brake_survives_a_restart(lab, filled):
    proxy, client, bucket, keys = filled
    delete(client, bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    proxy.wait_drained()
    left = lab.keys_on_mirror(bucket)
    proxy.kill()
    proxy.start()
    assert braked(proxy) == [bucket]
    held(proxy, len(left))
    proxy.wait_drained()
    assert lab.keys_on_mirror(bucket) == left


def test_released_deletes_reach_the_mirror_and_counting_begins_anew(lab, filled):
    proxy, client, bucket, keys = filled
    delete(client, bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    release(proxy, bucket)
    until(lambda: lab.keys_on_mirror(bucket) == set(), "the deletes on the mirror")
    held(proxy, 0)
    put(client, bucket, keys)
    delete(client, bucket, keys[:5])
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))
    assert braked(proxy) == []
    delete(client, bucket, keys[5:])
    until(lambda: braked(proxy) == [bucket], "the brake again")
    # It stays on although nothing is held any more, over a restart too, however soon.
    put(client, bucket, keys)
    held(proxy, 0)
    proxy.stop()
    proxy.start()
    assert braked(proxy) == [bucket]
    lab.assert_converged(proxy, bucket)
    release(proxy, bucket)
    proxy.stop()
    proxy.start()
    assert braked(proxy) == []


def test_a_mirror_that_is_slow_does_not_blind_the_brake(lab):
    """What counts is when main deleted, not when the mirror's only worker comes to it."""
    proxy = lab.proxy(
        **BRAKE,
        MIRROR_DELETE_BRAKE_WINDOW="2s",
        MIRROR_CONCURRENCY=1,
        MIRROR_REQUESTS_PER_SECOND=1,
    )
    bucket = lab.bucket("slow")
    # Past the proxy, so that nothing is to be copied.
    lab.s3_mirror.create_bucket(Bucket=bucket)
    keys = [f"key{number}" for number in range(10)]
    for store in (lab.s3_main, lab.s3_mirror):
        put(store, bucket, keys)
    delete(lab.client(proxy), bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    proxy.wait_drained()
    assert len(lab.keys_on_mirror(bucket)) >= 5


@pytest.mark.parametrize("by", ["number", "share"])
def test_the_brake_goes_on_while_the_mirror_is_away(lab, by):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    limits = {"MIRROR_DELETE_BRAKE_PERCENT": 40, "MIRROR_DELETE_BRAKE_KEYS": 0}
    limits = {**BRAKE, **(limits if by == "share" else {})}
    proxy = lab.proxy(**limits, MIRROR_CONCURRENCY=1, mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("away")
    client = lab.client(proxy)
    keys = [f"key{number}" for number in range(20)]
    put(client, bucket, keys)
    proxy.wait_drained()
    # The only worker is held by a request that nobody answers.
    relay.hang()
    put(client, bucket, ["held up"])
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 1, "the first to wait")
    delete(client, bucket, keys)
    until(lambda: braked(proxy) == [bucket], "the brake")
    relay.forward()
    proxy.wait_drained(90)
    assert lab.keys_on_mirror(bucket) == {*keys, "held up"}


def test_deletes_that_came_in_small_numbers_while_the_mirror_was_away_are_no_mass_delete(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(**BRAKE, MIRROR_DELETE_BRAKE_WINDOW="1s", mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("trickle")
    client = lab.client(proxy)
    keys = [f"key{number}" for number in range(8)]
    put(client, bucket, keys)
    proxy.wait_drained()
    relay.refuse()
    delete(client, bucket, keys[:4])
    # A window later; the length of the window is what this is about.
    time.sleep(1.5)
    delete(client, bucket, keys[4:])
    relay.forward()
    lab.assert_converged(proxy, bucket, timeout=60)
    assert braked(proxy) == [] and lab.keys_on_mirror(bucket) == set()


def test_the_same_few_keys_deleted_over_and_over_are_no_mass_delete(lab):
    proxy = lab.proxy(**BRAKE)
    bucket = lab.bucket("hot")
    client = lab.client(proxy)
    for turn in range(8):
        put(client, bucket, ["a", "b"], b"%d" % turn)
        delete(client, bucket, ["a", "b"])
    lab.assert_converged(proxy, bucket)
    assert braked(proxy) == []


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_share_of_the_bucket_s_keys_trips_the_brake(lab, database):
    inventory = lab.postgres().settings() if database == "postgres" else None
    proxy = lab.proxy(inventory, MIRROR_DELETE_BRAKE_KEYS=0, MIRROR_DELETE_BRAKE_PERCENT=40)
    small, large = lab.bucket("small"), lab.bucket("large")
    client = lab.client(proxy)
    keys = [f"key{number}" for number in range(20)]
    put(client, small, keys)
    put(client, large, keys + [f"more{number}" for number in range(40)])
    proxy.wait_drained()
    for bucket in (small, large):
        delete(client, bucket, keys)
    until(lambda: braked(proxy) == [small], lambda: f"one brake: {braked(proxy)}")
    lab.assert_converged(proxy, large)
    assert lab.keys_on_mirror(small)


def test_while_nobody_can_count_a_bucket_s_keys_the_mirror_keeps_them(lab):
    inventory = lab.postgres()
    database = lab.closing(FaultProxy(lab.cluster.address))
    limits = {"MIRROR_DELETE_BRAKE_KEYS": 0, "MIRROR_DELETE_BRAKE_PERCENT": 40}
    proxy = lab.proxy(inventory.settings(database.address), **limits)
    bucket = lab.bucket("uncounted")
    client = lab.client(proxy)
    keys = [f"key{number}" for number in range(20)]
    put(client, bucket, keys)
    proxy.wait_drained()
    database.refuse()
    database.cut()
    delete(client, bucket, keys)
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 0, "each to be judged", 60)
    # Fewer than the share go before there is anything to ask.
    assert len(lab.keys_on_mirror(bucket)) >= 10
    database.forward()
    until(lambda: braked(proxy) == [bucket], "the brake", 60)
    assert len(lab.keys_on_mirror(bucket)) >= 10


def test_a_held_delete_that_fails_is_retried_and_stays_ripe_over_a_restart(lab):
    failing = [True]

    def rule(request):
        if request.method == "DELETE" and failing[0]:
            return s3_error(503, "Slow Down", "SlowDown")
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, MIRROR_DELETES="delay:1s")
    bucket = lab.bucket("ripe")
    client = lab.client(proxy)
    put(client, bucket, ["k"])
    proxy.wait_drained()
    delete(client, bucket, ["k"])
    until(
        lambda: sum(proxy.metrics()["s3_proxy_mirror_errors_total"].values()) >= 2,
        "refused deletes",
    )
    proxy.kill()
    proxy.process.environment["MIRROR_DELETES"] = "delay:1h"
    proxy.start()
    failing[0] = False
    until(lambda: lab.keys_on_mirror(bucket) == set(), "the delete whose delay was over")
    held(proxy, 0)
    compare.fail_on(
        compare.mirror_differences(lab.s3_main, lab.s3_mirror, bucket, bucket), "they differ"
    )

"""Buckets that come and go through the proxy come and go on the mirror."""

import threading

import pytest
from botocore.exceptions import ClientError

from support import operator
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.proxy import gauges


def names(client):
    return {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}


def test_a_bucket_made_and_removed_through_the_proxy_is_so_on_the_mirror(steady):
    lab, proxy, _ = steady
    client = lab.client(proxy)
    client.create_bucket(Bucket="comes-and-goes")
    proxy.wait_drained()
    assert "comes-and-goes" in names(lab.s3_mirror)
    client.put_object(Bucket="comes-and-goes", Key="k", Body=b"1")
    client.delete_object(Bucket="comes-and-goes", Key="k")
    client.delete_bucket(Bucket="comes-and-goes")
    proxy.wait_drained()
    assert "comes-and-goes" not in names(lab.s3_mirror)


def test_a_removed_bucket_follows_its_delayed_keys(lab):
    proxy = lab.proxy(MIRROR_DELETES="delay:2s", MIRROR_BUCKET_PREFIX="late-")
    client = lab.client(proxy)
    client.create_bucket(Bucket="delayed-bucket")
    client.put_object(Bucket="delayed-bucket", Key="k", Body=b"1")
    proxy.wait_drained()
    client.delete_object(Bucket="delayed-bucket", Key="k")
    client.delete_bucket(Bucket="delayed-bucket")
    until(lambda: proxy.status()["mirror"]["held_deletes"] == 2, "the key and the bucket to wait")
    assert lab.keys_on_mirror("late-delayed-bucket") == {"k"}
    until(lambda: "late-delayed-bucket" not in names(lab.s3_mirror), "the bucket to go", 60)
    proxy.wait_drained()


def test_a_removed_bucket_stays_where_deletes_are_ignored(lab):
    proxy = lab.proxy(MIRROR_DELETES="ignore")
    client = lab.client(proxy)
    client.create_bucket(Bucket="ignored-bucket")
    proxy.wait_drained()
    client.delete_bucket(Bucket="ignored-bucket")
    proxy.wait_drained()
    assert "ignored-bucket" in names(lab.s3_mirror)


def test_a_removed_bucket_waits_with_the_deletes_that_its_brake_holds(lab):
    proxy = lab.proxy(MIRROR_DELETE_BRAKE_KEYS=5, ADMIN_TOKEN=operator.TOKEN)
    client = lab.client(proxy)
    client.create_bucket(Bucket="braked-bucket")
    keys = [f"k{number}" for number in range(8)]
    for key in keys:
        client.put_object(Bucket="braked-bucket", Key=key, Body=b"1")
    proxy.wait_drained()
    for key in keys:
        client.delete_object(Bucket="braked-bucket", Key=key)
    until(lambda: proxy.status()["mirror"]["brakes"], "the brake")
    client.delete_bucket(Bucket="braked-bucket")
    proxy.wait_drained()
    assert lab.keys_on_mirror("braked-bucket"), "the keys and the bucket wait for a person"
    assert operator.command(proxy, "release", "braked-bucket")[0] == 0
    until(lambda: "braked-bucket" not in names(lab.s3_mirror), "the bucket to go", 60)


def test_a_refused_request_leaves_the_mirror_s_bucket_alone(steady):
    lab, proxy, _ = steady
    client = lab.client(proxy)
    client.create_bucket(Bucket="not-empty")
    client.put_object(Bucket="not-empty", Key="k", Body=b"1")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        client.delete_bucket(Bucket="not-empty")
    lab.assert_converged(proxy, "not-empty")


def test_a_mirror_bucket_that_holds_more_is_kept_and_parked_with_the_reason(lab):
    # As the only writer it need not reckon with the deletes of another proxy.
    proxy = lab.proxy(inventory={"DISABLE_DATABASE": "true"}, FENCE="overlap")
    client = lab.client(proxy)
    client.create_bucket(Bucket="holds-more")
    proxy.wait_drained()
    lab.s3_mirror.put_object(Bucket="holds-more", Key="of-somebody-else", Body=b"1")
    client.delete_bucket(Bucket="holds-more")
    until(
        lambda: gauges(proxy.status())["mirror.parked"] == 1,
        "the bucket is parked",
        90,
    )
    assert "BucketNotEmpty" in proxy.process.stdout()
    assert "holds-more" in names(lab.s3_mirror)


def test_a_bucket_waits_for_the_deletes_of_its_keys_however_long_they_take(lab):
    """A backlog of deletes is no reason to give the bucket up and leave it to a person."""
    refusing = threading.Event()
    refusing.set()

    def rule(request):
        at_key = request.method == "DELETE" and request.target.startswith("/slow-deletes/k")
        return s3_error(503, "Slow Down", "SlowDown") if at_key and refusing.is_set() else None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(
        inventory={"DISABLE_DATABASE": "true"}, FENCE="overlap", mirror_endpoint=relay.endpoint
    )
    client = lab.client(proxy)
    client.create_bucket(Bucket="slow-deletes")
    client.put_object(Bucket="slow-deletes", Key="k", Body=b"1")
    proxy.wait_drained()
    client.delete_object(Bucket="slow-deletes", Key="k")
    client.delete_bucket(Bucket="slow-deletes")

    def tries():
        deletes = [r.target.partition("?")[0] for r in relay.requests if r.method == "DELETE"]
        return [path for path in deletes if path.rstrip("/") == "/slow-deletes"]

    # More than the bucket would be given if nothing of it were on its way.
    until(lambda: len(tries()) > 4, lambda: f"the bucket to be tried again: {len(tries())}", 60)
    assert gauges(proxy.status())["mirror.parked"] == 0
    refusing.clear()
    proxy.wait_drained(60)
    assert "slow-deletes" not in names(lab.s3_mirror)

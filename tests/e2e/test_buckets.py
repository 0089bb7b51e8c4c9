"""Buckets that come and go through the proxy come and go on the mirror."""

import pytest
from botocore.exceptions import ClientError

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


def test_a_refused_request_leaves_the_mirror_s_bucket_alone(steady):
    lab, proxy, _ = steady
    client = lab.client(proxy)
    client.create_bucket(Bucket="not-empty")
    client.put_object(Bucket="not-empty", Key="k", Body=b"1")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        client.delete_bucket(Bucket="not-empty")
    lab.assert_converged(proxy, "not-empty")


def test_a_mirror_bucket_that_holds_more_is_kept_and_parked_with_the_reason(lab):
    proxy = lab.proxy(inventory={"DISABLE_DATABASE": "true"})
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

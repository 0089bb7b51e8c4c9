"""Buckets of main that are served elsewhere: learnt, and signed again where nothing was sent yet.

Main is a relay that sends requests away as a region of S3 does; the store behind it is reached
directly where it sends them.
"""

import re

import pytest
from botocore.exceptions import ClientError

from support import raw
from support.http_fault import HttpFaultProxy


def answer(status, reason, headers=(), document=b""):
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(document)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + document


def region_of(request):
    authorization = dict(request.headers).get("authorization", "")
    return re.search(r"Credential=[^/]+/\d+/([^/]*)/s3/", authorization).group(1)


@pytest.fixture
def moved(lab):
    """(lab, proxy, bucket, relay): main's relay sends `bucket`, and no other, to the store."""
    bucket = lab.bucket("moved")

    def rule(request):
        if not request.target.startswith(f"/{bucket}"):
            return None
        place = f"{lab.main.endpoint}{request.target}"
        return answer(307, "Temporary Redirect", [("Location", place)])

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    relay.requests.clear()
    return lab, proxy, bucket, relay


def test_requests_without_body_follow_a_redirect_unseen_by_the_client(moved):
    lab, proxy, bucket, relay = moved
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"content")
    client = lab.client(proxy)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"content"
    assert len(relay.requests) == 1
    client.head_object(Bucket=bucket, Key="k")
    client.put_object(Bucket=bucket, Key="new", Body=b"1")
    client.delete_object(Bucket=bucket, Key="k")
    assert len(relay.requests) == 1, "the place was not remembered"
    lab.assert_converged(proxy, bucket)


@pytest.mark.parametrize("size", [1, 3 * 1024 * 1024])
def test_a_write_that_met_a_redirect_may_be_retried_and_then_goes_right(moved, size):
    lab, proxy, bucket, relay = moved
    client = lab.client(proxy)
    with pytest.raises(ClientError) as failure:
        client.put_object(Bucket=bucket, Key="k", Body=bytes(size))
    error = failure.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error["Error"]["Code"] == "ServiceUnavailable"
    assert lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    client.put_object(Bucket=bucket, Key="k", Body=bytes(size))
    # SDKs retry by themselves.
    patient = lab.client(proxy, retries={"total_max_attempts": 3})
    patient.put_object(Bucket=bucket, Key="k2", Body=bytes(size))
    lab.assert_converged(proxy, bucket)


def test_no_redirect_ever_reaches_the_client(lab):
    """Not even one that is not followed because it leads to somebody else."""
    bucket = lab.bucket("away")
    place = [("Location", f"http://evil.example/{bucket}/k")]
    relay = lab.closing(
        HttpFaultProxy(lab.main.address, lambda _: answer(307, "Temporary Redirect", place))
    )
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    for method in ("GET", "PUT"):
        headers = [("Host", "h"), ("Content-Length", "0")]
        reply = raw.exchange(proxy.address, method, f"/{bucket}/k", headers)
        assert (reply.status, reply.error_code) == (500, "InternalError")
        assert reply.header("location") is None and b"evil" not in reply.body
    assert proxy.process.running


@pytest.mark.parametrize("told", ["in a header", "in the document"])
def test_a_region_is_learnt_from_a_refused_signature(lab, told):
    bucket = lab.bucket("region")
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"content")
    far = "eu-far-1"
    seen = []

    def rule(request):
        if not request.target.startswith(f"/{bucket}"):
            return None
        seen.append(region_of(request))
        if seen[-1] == far:
            return None
        if told == "in a header":
            return answer(301, "Moved Permanently", [("x-amz-bucket-region", far)])
        code = "AuthorizationHeaderMalformed"
        document = f"<Error><Code>{code}</Code><Region>{far}</Region></Error>".encode()
        return answer(400, "Bad Request", [("Content-Type", "application/xml")], document)

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    target = f"/{bucket}/k"
    first = raw.exchange(proxy.address, "GET", target, [("Host", "h")])
    if told == "in a header":
        assert (first.status, first.body) == (200, b"content")
    else:
        assert (first.status, first.error_code) == (503, "ServiceUnavailable")
    second = raw.exchange(proxy.address, "GET", target, [("Host", "h")])
    assert (second.status, second.body) == (200, b"content")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="new", Body=b"x" * 100_000)
    client.delete_object(Bucket=bucket, Key="k")
    assert seen.count("us-east-1") == 1 and set(seen) == {"us-east-1", far}
    lab.assert_converged(proxy, bucket)

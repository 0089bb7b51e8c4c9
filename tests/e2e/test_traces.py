"""Spans: what a collector gets, how traces go on, and that nobody waits for it."""

import sqlite3
import time

from support.collector import Collector
from support.http_fault import HttpFaultProxy
from support.poll import until
from support.raw import Connection
from support.tcp import FaultProxy

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


def put(proxy, bucket, key, *headers):
    host = f"{proxy.host}:{proxy.port}"
    head = [("Host", host), ("Content-Length", "5"), *headers]
    lines = "".join(f"{name}: {value}\r\n" for name, value in head)
    with Connection(proxy.address) as connection:
        connection.send(f"PUT /{bucket}/{key} HTTP/1.1\r\n{lines}\r\nhello".encode())
        return connection.read_response().status


def with_ears(lab, store):
    """A relay in front of a store that remembers the requests."""
    return lab.closing(HttpFaultProxy(store.address, lambda _: None))


def main_with_ears(lab):
    return with_ears(lab, lab.main)


def sent(relay, method, key):
    """The traceparent of each such request."""
    return [
        dict(request.headers).get("traceparent")
        for request in relay.requests
        if request.method == method and request.target.endswith(f"/{key}")
    ]


def test_a_write_and_its_copy_are_one_trace_below_the_caller_and_above_main(lab):
    collector = lab.closing(Collector())
    relay = main_with_ears(lab)
    proxy = lab.proxy(
        main_endpoint=relay.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="x-scope=tests,authorization=Bearer%20hidden-from-all",
        OTEL_SERVICE_NAME="mirror-of-tests",
        **collector.settings(),
    )
    bucket = lab.bucket("traces")
    assert put(proxy, bucket, "k", ("traceparent", f"00-{TRACE}-{CALLER}-01")) == 200
    until(lambda: collector.of("mirror"), "the span of the copy")
    (request,) = collector.of("PutObject")
    (copy,) = collector.of("mirror")

    assert (request.kind, request.trace, request.parent) == ("server", TRACE, CALLER)
    assert not request.failed and request.seconds > 0
    assert request.attributes["http.request.method"] == "PUT"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["aws.s3.bucket"] == bucket
    assert request.attributes["aws.s3.key"] == "k"
    assert request.attributes["s3_mirror.size"] == 5
    assert request.resource["service.name"] == "mirror-of-tests"
    # What goes to main is below our own span.
    assert sent(relay, "PUT", "k") == [f"00-{TRACE}-{request.span}-01"]

    assert (copy.kind, copy.trace, copy.parent) == ("internal", TRACE, request.span)
    assert copy.attributes["s3_mirror.mirror_status"] == "success"
    identity = request.attributes["s3_mirror.request_id"]
    assert copy.attributes["s3_mirror.request_id"] == identity
    lines = [line for line in proxy.log_lines() if line.get("request_id") == identity]
    assert {line["message"] for line in lines} >= {"request", "mirrored"}
    assert [line["trace_id"] for line in lines if "trace_id" in line] == [TRACE]

    assert all(headers["x-scope"] == "tests" for headers in collector.headers)
    shown = proxy.admin("/api/v1/config")[2] + proxy.process.stdout() + proxy.process.stderr()
    assert "hidden-from-all" not in shown


def test_what_a_copy_asks_and_sends_names_the_span_of_the_copy(lab):
    collector = lab.closing(Collector())
    main, mirror = with_ears(lab, lab.main), with_ears(lab, lab.mirror)
    proxy = lab.proxy(
        main_endpoint=main.endpoint,
        mirror_endpoint=mirror.endpoint,
        TEE_MEMORY_BYTES=0,
        TEE_SPOOL_BYTES=0,
        **collector.settings(),
    )
    bucket = lab.bucket("traces")
    assert put(proxy, bucket, "k", ("traceparent", f"00-{TRACE}-{CALLER}-01")) == 200
    proxy.wait_drained()
    until(lambda: collector.of("mirror"), "the span of the copy")
    (request,) = collector.of("PutObject")
    copies = {span.span for span in collector.of("mirror")}
    named = {f"00-{TRACE}-{span}-01" for span in copies}
    # The bytes were read from main and written to the mirror in the name of the copy, and what
    # the client's request sent to main was not.
    assert set(sent(mirror, "PUT", "k")) <= named and sent(mirror, "PUT", "k")
    assert set(sent(main, "GET", "k")) <= named and sent(main, "GET", "k")
    assert sent(main, "PUT", "k") == [f"00-{TRACE}-{request.span}-01"]
    # A copy that nobody traces names no span.
    assert put(proxy, bucket, "unsampled", ("traceparent", f"00-{TRACE}-{CALLER}-00")) == 200
    proxy.wait_drained()
    assert set(sent(mirror, "PUT", "unsampled")) == {None}


def test_the_caller_decides_and_without_one_a_trace_begins_here(lab):
    collector = lab.closing(Collector())
    relay = main_with_ears(lab)
    proxy = lab.proxy(main_endpoint=relay.endpoint, **collector.settings())
    bucket = lab.bucket("traces")
    unsampled = f"00-{TRACE}-{CALLER}-00"
    assert put(proxy, bucket, "unsampled", ("traceparent", unsampled)) == 200
    assert put(proxy, bucket, "alone") == 200
    until(lambda: len(collector.of("mirror")) == 1, "the copy of what is sampled")
    (request,) = collector.of("PutObject")
    assert request.attributes["aws.s3.key"] == "alone"
    assert request.parent == "" and request.trace != TRACE
    assert sent(relay, "PUT", "unsampled") == [unsampled]
    assert sent(relay, "PUT", "alone") == [f"00-{request.trace}-{request.span}-01"]


def test_what_fails_is_told_as_failed_and_a_retry_is_a_span_of_its_own(lab):
    collector = lab.closing(Collector())
    way = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=way.endpoint, **collector.settings())
    bucket = lab.bucket("traces")
    way.refuse()
    assert put(proxy, bucket, "k") == 200
    until(lambda: any(span.failed for span in collector.of("mirror")), "a failed copy")
    way.forward()
    proxy.wait_drained(60)
    until(lambda: not collector.of("mirror")[-1].failed, "the copy that went well")
    (request,) = collector.of("PutObject")
    copies = collector.of("mirror")
    assert {span.parent for span in copies} == {request.span}
    assert copies[0].attributes["s3_mirror.mirror_status"] == "retry"
    assert copies[-1].attributes["s3_mirror.attempts"] > 1


def test_nobody_waits_for_a_collector_that_is_away_or_hangs(lab):
    collector = lab.closing(Collector())
    way = lab.closing(FaultProxy(collector.address))
    way.refuse()
    settings = {**collector.settings(), "OTEL_EXPORTER_OTLP_ENDPOINT": way.endpoint}
    proxy = lab.proxy(DRAIN_TIMEOUT_SECONDS=1, **settings)
    bucket = lab.bucket("traces")
    s3 = lab.client(proxy)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    errors = lambda: proxy.metrics()["s3_proxy_span_export_errors_total"][""]  # noqa: E731
    until(lambda: errors() > 0, "an export that failed")
    way.hang()
    # More than the queue holds.
    for _ in range(2500):
        s3.head_object(Bucket=bucket, Key="k")
    warned = [line for line in proxy.log_lines() if line["message"] == "spans cannot be exported"]
    assert len(warned) == 1
    begun = time.monotonic()
    proxy.stop()
    # Two seconds for the last spans, and the machine may be slow.
    assert time.monotonic() - begun < 20


def test_without_a_collector_traceparent_goes_on_as_it_came_and_nothing_is_kept(lab):
    relay = main_with_ears(lab)
    way = lab.closing(FaultProxy(lab.mirror.address))
    way.refuse()
    proxy = lab.proxy(
        main_endpoint=relay.endpoint, mirror_endpoint=way.endpoint, DRAIN_TIMEOUT_SECONDS=0
    )
    bucket = lab.bucket("traces")
    mine = f"00-{TRACE}-{CALLER}-01"
    assert put(proxy, bucket, "k", ("traceparent", mine)) == 200
    assert sent(relay, "PUT", "k") == [mine]
    assert proxy.status()["mirror"]["pending_operations"] == 1
    with sqlite3.connect(proxy.data_dir / "journal.sqlite") as journal:
        facts = [row[0] for row in journal.execute("SELECT facts FROM entry")]
    assert len(facts) == 1 and "etag" in facts[0] and "trace" not in facts[0]

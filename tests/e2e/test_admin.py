"""Admin port and log: probes, metrics, status, one JSON line per request, nothing secret."""

import json

from support import raw, s3
from support.http_fault import HttpFaultProxy
from support.poll import until
from support.process import accepts
from support.proxy import gauges
from support.tcp import FaultProxy

METRICS = {
    "s3_proxy_requests_total": "counter",
    "s3_proxy_request_duration_seconds": "histogram",
    "s3_proxy_mirror_errors_total": "counter",
    "s3_proxy_db_errors_total": "counter",
    "s3_proxy_mirror_pending_operations": "gauge",
    "s3_proxy_mirror_pending_bytes": "gauge",
    "s3_proxy_mirror_oldest_pending_seconds": "gauge",
    "s3_proxy_mirror_parked": "gauge",
    "s3_proxy_inventory_pending_rows": "gauge",
    "s3_proxy_unsettled_intents": "gauge",
    "s3_proxy_mirror_latency_seconds": "histogram",
}


def test_the_probes_answer(steady):
    _, proxy, _ = steady
    assert proxy.admin("/livez")[0] == 200
    assert proxy.admin("/readyz")[0] == 200
    assert proxy.admin("/no-such-page")[0] == 404


def test_an_outage_of_mirror_or_database_leaves_the_proxy_live_and_ready(lab):
    """Restarting it, or taking it out of service, would help nobody."""
    mirror = lab.closing(FaultProxy(lab.mirror.address))
    database = lab.closing(FaultProxy(lab.cluster.address))
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(database.address), mirror_endpoint=mirror.endpoint)
    mirror.refuse()
    database.refuse()
    bucket = lab.bucket("ready")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    until(
        lambda: (
            _sum(proxy.metrics(), "s3_proxy_mirror_errors_total") >= 1
            and _sum(proxy.metrics(), "s3_proxy_db_errors_total") >= 1
        ),
        "both outages to be noticed",
    )
    assert (proxy.admin("/livez")[0], proxy.admin("/readyz")[0]) == (200, 200)
    mirror.forward()
    database.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_proxy_told_to_end_is_live_and_no_longer_ready(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, DRAIN_TIMEOUT_SECONDS=20)
    bucket = lab.bucket("ending")
    relay.refuse()
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    proxy.process.terminate()
    until(lambda: proxy.admin("/readyz")[0] == 503, "/readyz to answer 503")
    assert proxy.admin("/livez")[0] == 200
    until(lambda: not accepts(proxy.port), "the S3 port to be closed")
    relay.forward()
    assert proxy.process.wait() == 0


def _sum(metrics, name):
    return sum(metrics.get(name, {}).values())


def test_every_documented_metric_is_there_from_the_start(lab):
    proxy = lab.proxy()
    code, content_type, text = proxy.admin("/metrics")
    assert code == 200
    assert content_type.startswith(("text/plain", "application/openmetrics-text")), content_type
    kinds = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
    for name, kind in METRICS.items():
        # OpenMetrics names a counter without its _total.
        found = kinds.get(name) or kinds.get(name.removesuffix("_total"))
        assert found == kind, f"{name}: {found}"
    samples = proxy.metrics()
    for name, kind in METRICS.items():
        if kind == "gauge":
            assert list(samples[name].values()) == [0.0], name
        if kind == "histogram":
            assert f"{name}_bucket" in samples, name


def test_requests_are_counted_and_timed(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("counted")
    client = lab.client(proxy)
    before = proxy.metrics()
    for number in range(7):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
        client.get_object(Bucket=bucket, Key=f"{number}")["Body"].read()
    proxy.wait_drained()

    def grown(name):
        return _sum(proxy.metrics(), name) - _sum(before, name)

    until(lambda: grown("s3_proxy_requests_total") == 14, "14 requests to be counted")
    assert grown("s3_proxy_request_duration_seconds_count") == 14
    assert grown("s3_proxy_mirror_latency_seconds_count") == 7
    assert grown("s3_proxy_mirror_errors_total") == 0
    labels = "".join(proxy.metrics()["s3_proxy_requests_total"])
    assert bucket not in labels, "one series per bucket grows without bound"


def test_status_and_metrics_tell_the_same_figures(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    relay.refuse()
    bucket = lab.bucket("figures")
    for number in range(3):
        lab.client(proxy).put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * 100)
    until(
        lambda: (
            (
                proxy.status()["inventory"]["pending_rows"],
                proxy.status()["unsettled_intents"],
            )
            == (0, 0)
        ),
        "all but the mirror to be done",
    )
    figures = gauges(proxy.status())
    assert figures["mirror.pending_operations"] == 3
    assert figures["mirror.pending_bytes"] == 300
    metrics = proxy.metrics()
    for status_name, value in figures.items():
        if status_name == "mirror.oldest_pending_seconds":
            continue
        name = "s3_proxy_" + status_name.replace(".", "_")
        assert list(metrics[name].values()) == [value], name
    relay.forward()
    lab.assert_converged(proxy, bucket)


def request_lines(proxy, bucket):
    return [line for line in proxy.log_lines() if line.get("bucket") == bucket and "method" in line]


def test_one_log_line_per_request_with_the_documented_fields(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("logged")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="dir/file ü.txt", Body=b"12345")
    client.get_object(Bucket=bucket, Key="dir/file ü.txt")["Body"].read()
    client.list_objects_v2(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="dir/file ü.txt")
    raw.exchange(proxy.address, "GET", f"/{bucket}/none", [("Host", "h")])
    proxy.wait_drained()
    lines = until(
        lambda: (found := request_lines(proxy, bucket)) and len(found) >= 5 and found,
        lambda: f"five request lines, seen {request_lines(proxy, bucket)}",
    )
    assert [line["method"] for line in lines] == ["PUT", "GET", "GET", "DELETE", "GET"]
    put, get, listing, delete, missing = lines
    for line in lines:
        assert line["level"] == "info" and "T" in line["time"] and line["time"].endswith("Z"), line
        assert {"bucket", "key", "method", "size", "mirror_status"} <= line.keys(), line
    assert (put["key"], put["size"]) == ("dir/file ü.txt", 5)
    assert (get["key"], get["size"]) == ("dir/file ü.txt", 5)
    assert listing["key"] in ("", None)
    assert delete["key"] == "dir/file ü.txt"
    assert missing["key"] == "none"


def test_the_trace_of_a_client_is_logged_and_its_header_passed_on(lab):
    seen = []
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda request: seen.append(request)))
    proxy = lab.proxy(main_endpoint=relay.endpoint)
    bucket = lab.bucket("traced")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    header = f"00-{trace}-00f067aa0ba902b7-01"
    headers = [("Host", "h"), ("Content-Length", "1")]
    for more in ([("traceparent", header), ("tracestate", "a=b")], [("traceparent", "password")], []):
        answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers + more, b"x")
        assert answer.status == 200
    lines = until(
        lambda: (found := request_lines(proxy, bucket)) and len(found) == 3 and found,
        "three request lines",
    )
    assert [line.get("trace_id") for line in lines] == [trace, None, None]
    puts = [dict(request.headers) for request in seen if request.method == "PUT"]
    assert (puts[0]["traceparent"], puts[0]["tracestate"]) == (header, "a=b")
    assert "traceparent" not in puts[2]


def test_log_level_off_says_nothing_and_debug_says_more(lab):
    silent = lab.proxy(LOG_LEVEL="off", name="silent")
    verbose = lab.proxy(LOG_LEVEL="debug", name="verbose")
    bucket = lab.bucket("levels")
    for proxy in (silent, verbose):
        lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
        proxy.wait_drained()
    assert silent.process.stdout() == ""
    assert any(line["level"] == "debug" for line in verbose.log_lines())


def test_nothing_secret_is_said_at_the_most_talkative_level(lab):
    """P9: signatures, presigned queries, keys of encryption, passwords; on any path, errors too."""
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(), LOG_LEVEL="debug")
    bucket = lab.bucket("discreet")
    client = lab.client(proxy)
    customer_key = "c2VjcmV0LWN1c3RvbWVyLWtleS1vZi0zMi1ieXRlczE="
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.client(proxy.endpoint, signature_version="s3v4").generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}
    )
    target = url.removeprefix(proxy.endpoint)
    signature = target.partition("X-Amz-Signature=")[2].partition("&")[0]
    assert len(signature) == 64
    assert raw.exchange(proxy.address, "GET", target, [("Host", "h")]).body == b"x"
    token = "session-token-that-must-not-show"
    password = "basic-password-that-must-not-show"
    for target in (f"/{bucket}/k", f"/{bucket}/none", "/Bad_Bucket/%zz"):
        answer = raw.exchange(
            proxy.address,
            "PUT",
            target,
            [
                ("Host", "h"),
                ("Content-Length", "1"),
                ("Authorization", f"Basic {password}"),
                ("X-Amz-Security-Token", token),
                ("X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256"),
                ("X-Amz-Server-Side-Encryption-Customer-Key", customer_key),
            ],
            b"x",
        )
        for text in (token, password, customer_key, lab.main.credentials.secret_key):
            assert text.encode() not in answer.body
    said = proxy.process.stdout() + proxy.process.stderr()
    everything = said + json.dumps(proxy.status()) + proxy.admin("/metrics")[2]
    for text in (signature, token, password, customer_key, *lab.secrets().values()):
        assert text not in everything, text
    journal = b"".join(path.read_bytes() for path in proxy.data_dir.rglob("*") if path.is_file())
    for text in (signature, token, password, customer_key, *lab.secrets().values()):
        assert text.encode() not in journal, text

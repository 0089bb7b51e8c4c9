"""The admin port against whoever reaches it and should not: methods, names, sizes, many connections."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import raw

TOKEN = "an-admin-token-of-some-length"
WRONG = "not-the-token-of-this-service"
AUTHORIZED = ("Authorization", f"Bearer {TOKEN}")
JSON = ("Content-Type", "application/json")
READ = ("status", "health", "history", "buckets", "config", "parked", "jobs", "inventory?bucket=b", "explain?bucket=b&key=k")
CHANGES = ("pause", "resume", "release", "parked/retry", "parked/discard", "jobs", "jobs/x/cancel")
HARDENED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
PAGE = Path(__file__).resolve().parents[2] / "src" / "admin" / "page"


@pytest.fixture(scope="module")
def proxy(module_lab):
    return module_lab.proxy(ADMIN_TOKEN=TOKEN, name="guarded")


def ask(proxy, method, path, headers=(), body=b"", host=None):
    host = host or f"127.0.0.1:{proxy.admin_port}"
    length = [("Content-Length", str(len(body)))] if body else []
    head = [("Host", host), *length, *headers]
    return raw.exchange((proxy.host, proxy.admin_port), method, path, head, body)


def paused(proxy):
    return proxy.status()["mirror"]["paused"]


def test_a_head_answers_as_a_get_and_without_a_body(proxy):
    for path in ("/", "/page/main.js", "/livez", "/metrics", *(f"/api/v1/{path}" for path in READ)):
        get, head = ask(proxy, "GET", path), ask(proxy, "HEAD", path)
        assert (get.status, head.status, head.body) == (200, 200, b""), path
        assert head.header("content-type") == get.header("content-type"), path


def test_no_other_method_is_served_and_none_changes_anything(proxy):
    methods = ("OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "XYZZY")
    for path in ("/", "/page/main.js", "/livez", "/metrics", "/api/v1/status", "/api/v1/pause"):
        for method in methods:
            answer = ask(proxy, method, path)
            assert 400 <= answer.status < 500, (method, path, answer.status)
            assert not any(name.startswith("access-control-") for name, _ in answer.headers)
    # With the token a method that a path does not have is refused all the same.
    for method in methods:
        assert ask(proxy, method, "/api/v1/pause", [AUTHORIZED, JSON], b"{}").status == 405, method
    assert paused(proxy) is None


def test_every_answer_forbids_framing_guessing_and_other_origins(proxy):
    answers = [
        ask(proxy, method, path)
        for method, path in [
            *(("GET", path) for path in ("/", "/page/style.css", "/livez", "/readyz", "/metrics", "/none")),
            *(("GET", f"/api/v1/{path}") for path in (*READ, "none", "explain", "jobs/none")),
            *(("POST", f"/api/v1/{path}") for path in CHANGES),
            ("PUT", "/"),
        ]
    ]
    for answer in answers:
        for name, value in HARDENED.items():
            assert answer.header(name) == value, (answer.status, name)
        policy = answer.header("content-security-policy")
        assert policy.startswith("default-src 'none';") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert {answer.status for answer in answers} == {200, 400, 401, 404, 405}


def test_nothing_of_the_page_would_need_a_laxer_policy():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", html)
    for file in PAGE.glob("*.js"):
        assert not re.search(r"\.style\b|\beval\b|new Function|setAttribute\(.style", file.read_text()), file


def test_by_a_name_that_anybody_could_own_nothing_is_read_without_the_token(lab):
    """DNS rebinding: to a browser the page of another name, pointed here, is of one origin with us."""
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, ADMIN_HOSTS="mirror.example.com, other.example")
    port = proxy.admin_port
    for host in ("localhost", "s3-mirror", "s3-mirror.prod.svc", "[::1]", "MIRROR.example.com", "other.example"):
        for name in (host, f"{host}:{port}"):
            assert ask(proxy, "GET", "/api/v1/status", host=name).status == 200, name
    for host in (f"rebound.example:{port}", f"127.0.0.1.rebound.example:{port}"):
        own = [("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]
        for path in READ:
            answer = ask(proxy, "GET", f"/api/v1/{path}", own, host=host)
            assert answer.status == 421 and "ADMIN_HOSTS" in json.loads(answer.body)["error"], path
        assert ask(proxy, "POST", "/api/v1/pause", [*own, JSON], b"{}", host=host).status == 421
        # Probes and scrapers come by whatever name they were given, and programs with the token.
        for path in ("/livez", "/readyz", "/metrics"):
            assert ask(proxy, "GET", path, host=host).status == 200
        assert ask(proxy, "GET", "/api/v1/status", [AUTHORIZED], host=host).status == 200
    assert paused(proxy) is None


def test_wrong_tokens_are_counted_over_all_connections_at_a_time(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN)
    wrong = [("Authorization", f"Bearer {WRONG}"), JSON]

    def attempt(_):
        return ask(proxy, "POST", "/api/v1/pause", wrong, b"{}").status

    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(attempt, range(120)))
    assert sorted(statuses) == [401] * 10 + [429] * 110
    # Not even the right one is listened to, or guessing would only have to go on.
    answer = ask(proxy, "POST", "/api/v1/pause", [AUTHORIZED, JSON], b"{}")
    assert answer.status == 429 and 0 < int(answer.header("retry-after")) <= 60
    assert ask(proxy, "GET", "/api/v1/status").status == 200
    assert paused(proxy) is None


def test_what_is_too_large_is_refused_before_it_is_kept(proxy):
    body = json.dumps({"reason": "x" * 70_000}).encode()
    assert ask(proxy, "POST", "/api/v1/pause", [AUTHORIZED, JSON], body).status == 413
    assert ask(proxy, "POST", "/api/v1/jobs", [AUTHORIZED], body).status == 413
    with raw.Connection((proxy.host, proxy.admin_port)) as connection:
        connection.send(b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
        assert connection.read_response().status == 431
    assert ask(proxy, "GET", "/api/v1/status?" + "x" * 30_000).status < 500
    assert paused(proxy) is None


def test_clients_that_are_silent_do_not_keep_probes_out_for_long(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN)
    silent = [socket.create_connection((proxy.host, proxy.admin_port)) for _ in range(300)]
    try:
        for connection in silent[::2]:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        with raw.Connection((proxy.host, proxy.admin_port), timeout=60) as probe:
            probe.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert probe.read_response().status == 200
    finally:
        for connection in silent:
            connection.close()

"""The operator's commands and API against the real binary: what is stuck, why, and what to do."""

import http.client
import json
import re
from urllib.parse import quote

import pytest

from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.process import binary, run_to_end
from support.tcp import FaultProxy

TOKEN = "an-admin-token-of-some-length"
WRONG = "not-the-token-of-this-service"
ODD = "a/1 ü&?=#%+"


def command(proxy, *arguments, token=TOKEN, code=0):
    """Runs `s3-mirror <arguments>` against the proxy's admin port; returns stdout and stderr."""
    environment = {"ADMIN_ADDR": f"127.0.0.1:{proxy.admin_port}"}
    if token:
        environment["ADMIN_TOKEN"] = token
    found, out, err = run_to_end([binary(), *arguments], environment)
    assert found == code, f"{arguments} ended with {found}, not {code}\n{out}\n{err}"
    return out + err


def objects(proxy, *arguments, **options):
    """The same with --json: one parsed object per line."""
    return [json.loads(line) for line in command(proxy, *arguments, "--json", **options).splitlines()]


def request(proxy, method, path, body=None, **headers):
    """(status, headers, parsed body) of a plain request to the admin port."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, text, {**kind, **headers})
        response = connection.getresponse()
        data = response.read()
        return response.status, response.headers, json.loads(data) if data else None
    finally:
        connection.close()


class Stuck:
    """A proxy whose mirror refuses every PUT of an object for good until `mend`; three keys parked."""

    def __init__(self, lab):
        self.refusing = True
        relay = lab.closing(HttpFaultProxy(lab.mirror.address, self._rule))
        self.lab = lab
        self.proxy = lab.proxy(mirror_endpoint=relay.endpoint, ADMIN_TOKEN=TOKEN)
        self.first, self.second = lab.bucket("stuck"), lab.bucket("other")
        client = lab.client(self.proxy)
        client.put_object(Bucket=self.first, Key=ODD, Body=b"12345")
        client.put_object(Bucket=self.first, Key="b", Body=b"1")
        client.put_object(Bucket=self.second, Key="c", Body=b"1")
        self.wait_parked(3)
        rows = lambda: self.proxy.status()["inventory"]["pending_rows"]
        until(lambda: rows() == 0, "the rows to be written")

    def _rule(self, request):
        is_object = request.target.strip("/").partition("?")[0].count("/") >= 1
        if self.refusing and request.method == "PUT" and is_object:
            return s3_error(400, "Bad Request", "KeyTooLongError")
        return None

    def wait_parked(self, count):
        until(
            lambda: self.proxy.status()["mirror"]["parked"] == count,
            lambda: f"{count} parked keys, seen {self.proxy.status()['mirror']}",
        )

    def mend(self):
        self.refusing = False


@pytest.fixture
def stuck(lab):
    return Stuck(lab)


def test_failed_lists_parked_keys_with_their_reason_and_status_says_what_to_do(stuck):
    entries = objects(stuck.proxy, "failed", code=3)
    assert [(entry["bucket"], entry["key"]) for entry in entries] == sorted(
        [(stuck.first, ODD), (stuck.first, "b"), (stuck.second, "c")]
    )
    for entry in entries:
        assert "KeyTooLongError" in entry["reason"], entry
        assert (entry["mirror"], entry["change"], entry["attempts"]) == (True, "put", 1)
        assert entry["parked_ms"] >= entry["accepted_ms"]
    one = objects(stuck.proxy, "failed", "--bucket", stuck.first, "--key", ODD, code=3)
    assert [entry["key"] for entry in one] == [ODD]
    text = command(stuck.proxy, "failed", code=3)
    assert f"{stuck.first}/{ODD}" in text and "KeyTooLongError" in text
    text = command(stuck.proxy, "status", code=3)
    for word in ("PARKED", "KeyTooLongError", "s3-mirror failed", "s3-mirror retry --all"):
        assert word in text, text


def test_pages_of_parked_keys_join_up(stuck):
    seen, after = [], ""
    while True:
        _, _, page = request(stuck.proxy, "GET", f"/api/v1/parked?limit=1{after}")
        seen += [(entry["bucket"], entry["key"]) for entry in page["parked"]]
        following = page["next"]
        if following is None:
            break
        after = (
            f"&after_bucket={quote(following['bucket'], safe='')}"
            f"&after_key={quote(following['key'], safe='')}"
            f"&after_sequence={following['sequence']}"
        )
    assert sorted(seen) == sorted(
        [(stuck.first, ODD), (stuck.first, "b"), (stuck.second, "c")]
    )


def test_a_key_that_is_retried_after_the_cause_is_mended_reaches_the_mirror(stuck):
    stuck.mend()
    command(stuck.proxy, "retry", "--bucket", stuck.first, "--key", ODD)
    stuck.wait_parked(2)
    until(lambda: ODD in stuck.lab.keys_on_mirror(stuck.first), "the retried key on the mirror")
    command(stuck.proxy, "retry", "--bucket", stuck.first, "--key", "never-was-there", code=1)
    answer = objects(stuck.proxy, "retry", "--all")[0]
    assert (answer["entries"], answer["bytes"]) == (2, 2)
    stuck.lab.assert_converged(stuck.proxy, stuck.first, stuck.second)
    assert "nothing is parked" in command(stuck.proxy, "failed")
    assert "IN STEP" in command(stuck.proxy, "status")


def test_a_retry_that_fails_again_is_parked_again(stuck):
    command(stuck.proxy, "retry", "--bucket", stuck.second)

    def tries():
        _, _, page = request(stuck.proxy, "GET", f"/api/v1/parked?bucket={stuck.second}")
        return [entry["attempts"] for entry in page["parked"]]

    until(lambda: tries() == [2], lambda: f"a second try that is parked again, seen {tries()}")


def test_discard_lists_first_and_gives_up_only_when_told_twice(stuck):
    text = command(stuck.proxy, "discard", "--bucket", stuck.first, code=2)
    assert "nothing was done" in text and ODD in text
    assert stuck.proxy.status()["mirror"]["parked"] == 3
    answer = objects(stuck.proxy, "discard", "--bucket", stuck.first, "--yes")[0]
    assert (answer["entries"], answer["bytes"], answer["left"]) == (2, 6, 0)
    assert sorted(answer["keys"]) == sorted([f"{stuck.first}/{ODD}", f"{stuck.first}/b"])
    assert stuck.proxy.status()["mirror"]["parked"] == 1
    def given_up():
        return [
            (line["key"], line["level"], line["error"])
            for line in stuck.proxy.log_lines()
            if "given up by an operator" in line.get("message", "")
        ]

    until(lambda: len(given_up()) == 2, "the log to name both")
    assert [(key, level) for key, level, _ in given_up()] == [(ODD, "warn"), ("b", "warn")]
    assert all("KeyTooLongError" in error for _, _, error in given_up())
    # The row goes on telling the truth, and the key is mirrored when it is written anew.
    rows = {row["path"]: row for row in stuck.lab.sqlite(stuck.proxy).rows(stuck.first)}
    assert not rows[ODD]["is_backed_up"]
    stuck.mend()
    stuck.lab.client(stuck.proxy).put_object(Bucket=stuck.first, Key=ODD, Body=b"again")
    until(lambda: ODD in stuck.lab.keys_on_mirror(stuck.first), "the new write on the mirror")
    # What was given up is not tried again with what is retried, and a verification finds it.
    command(stuck.proxy, "retry", "--bucket", stuck.first, code=1)
    command(stuck.proxy, "retry", "--all")
    until(lambda: stuck.lab.keys_on_mirror(stuck.second) == {"c"}, "the key that was not given up")
    assert stuck.lab.keys_on_mirror(stuck.first) == {ODD}
    command(stuck.proxy, "verify", "--bucket", stuck.first, code=1)
    command(stuck.proxy, "verify", "--bucket", stuck.first, "--repair")
    assert stuck.lab.keys_on_mirror(stuck.first) == {ODD, "b"}


def test_explain_tells_the_whole_story_of_a_key(stuck):
    told = objects(stuck.proxy, "explain", f"{stuck.first}/{ODD}", code=3)[0]
    entry = told["entries"][0]
    assert (entry["mirror"], entry["outcome"], entry["bytes"]) == ("parked", "changed", 5)
    assert "KeyTooLongError" in entry["error"] and "parked" in told["summary"]
    assert told["row"]["row"]["size"] == 5 and not told["row"]["row"]["is_backed_up"]
    assert told["compared"]["main"]["state"] == "present"
    assert told["compared"]["mirror"]["state"] == "absent"
    assert told["compared"]["equal"] is False
    assert (told["mirrored_at"], told["verified_at"]) == ("not recorded", "not recorded")
    log = [line for line in stuck.proxy.log_lines() if line.get("request_id") == entry["request_id"]]
    assert len(log) >= 2, "the request's own line and that of the mirror"
    stuck.mend()
    command(stuck.proxy, "retry", "--all")
    stuck.proxy.wait_drained()
    told = objects(stuck.proxy, "explain", f"{stuck.first}/{ODD}")[0]
    assert told["entries"] == [] and told["compared"]["equal"] is True
    assert told["row"]["row"]["is_backed_up"]
    assert re.match(r"\d{4}-\d\d-\d\dT", told["mirrored_at"]), told["mirrored_at"]
    text = command(stuck.proxy, "explain", f"{stuck.first}/{ODD}")
    assert "main and mirror are equal now" in text
    stuck.lab.s3_mirror.delete_object(Bucket=stuck.first, Key=ODD)
    text = command(stuck.proxy, "explain", f"{stuck.first}/{ODD}", code=1)
    assert "only on main" in text


def test_explain_tells_when_a_verification_has_found_a_key_equal(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN)
    bucket = lab.bucket("verified")
    client = lab.client(proxy)
    for key in ("equal", "differs", "changed"):
        client.put_object(Bucket=bucket, Key=key, Body=b"1")
    lab.assert_converged(proxy, bucket)
    lab.s3_mirror.put_object(Bucket=bucket, Key="differs", Body=b"22")
    verified = lambda key, code=0: objects(  # noqa: E731
        proxy, "explain", f"{bucket}/{key}", code=code
    )[0]["verified_at"]
    assert verified("equal") == "not recorded"
    command(proxy, "verify", "--bucket", bucket, code=1)
    assert re.match(r"\d{4}-\d\d-\d\dT", verified("equal"))
    assert verified("differs", code=1) == "not recorded"
    assert re.match(r"\d{4}-\d\d-\d\dT", verified("changed"))
    client.put_object(Bucket=bucket, Key="changed", Body=b"2")
    proxy.wait_drained()
    assert verified("changed") == "not recorded", "not since its last change"
    assert "verified:  20" in command(proxy, "explain", f"{bucket}/equal")


def test_a_pause_holds_copies_back_over_a_restart_until_it_is_resumed(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, DRAIN_TIMEOUT_SECONDS=20)
    bucket = lab.bucket("paused")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="before", Body=b"1")
    lab.assert_converged(proxy, bucket)
    command(proxy, "pause", "--reason", "the mirror moves")
    client.put_object(Bucket=bucket, Key="during", Body=b"2")
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 1, "a waiting change")
    text = command(proxy, "status", code=4)
    assert "STOPPED" in text and "the mirror moves" in text and "s3-mirror resume" in text
    assert list(proxy.metrics()["s3_proxy_mirror_paused"].values()) == [1.0]

    assert proxy.stop() == 0
    assert not any("time to drain was over" in line.get("message", "") for line in proxy.log_lines())
    proxy.start()
    paused = proxy.status()["mirror"]["paused"]
    assert paused["reason"] == "the mirror moves"
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="after", Body=b"3")
    until(lambda: proxy.status()["inventory"]["pending_rows"] == 0, "rows go on while it is paused")
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 2, "both changes to wait")
    assert lab.keys_on_mirror(bucket) == {"before"}

    command(proxy, "resume")
    lab.assert_converged(proxy, bucket)
    assert proxy.status()["mirror"]["paused"] is None
    command(proxy, "resume", code=1)
    proxy.stop()
    proxy.start()
    assert proxy.status()["mirror"]["paused"] is None


def test_release_lets_held_deletes_go(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, MIRROR_DELETE_BRAKE_KEYS=3)
    bucket = lab.bucket("braked")
    client = lab.client(proxy)
    for number in range(12):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
    lab.assert_converged(proxy, bucket)
    command(proxy, "release", bucket, code=1)
    for number in range(12):
        client.delete_object(Bucket=bucket, Key=f"{number}")
    until(lambda: proxy.status()["mirror"]["brakes"], "the brake")
    text = command(proxy, "status", code=4)
    assert f"s3-mirror release {bucket}" in text, text
    kept = sorted(lab.keys_on_mirror(bucket))
    assert kept, "the mirror keeps what the brake holds"
    told = command(proxy, "explain", f"{bucket}/{kept[0]}")
    assert "deleted on main, and kept on the mirror for now" in told, told
    command(proxy, "release", bucket)
    until(lambda: not lab.keys_on_mirror(bucket), "the deletes on the mirror")
    until(lambda: "IN STEP" in _status(proxy), "being in step")


def _status(proxy):
    return run_to_end([binary(), "status"], {"ADMIN_ADDR": f"127.0.0.1:{proxy.admin_port}"})[1]


def test_status_is_a_check_and_names_the_outage_of_the_mirror_and_of_the_database(lab):
    mirror = lab.closing(FaultProxy(lab.mirror.address))
    database = lab.closing(FaultProxy(lab.cluster.address))
    inventory = lab.postgres()
    proxy = lab.proxy(
        inventory.settings(database.address), mirror_endpoint=mirror.endpoint, ADMIN_TOKEN=TOKEN
    )
    bucket = lab.bucket("checked")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(proxy, bucket, inventory=inventory)
    health = objects(proxy, "status")[0]["health"]
    assert health["state"] == "in_step" and health["database"]["reachable"]
    mirror.refuse()
    database.refuse()
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"y")

    def seen():
        text = run_to_end([binary(), "status"], {"ADMIN_ADDR": f"127.0.0.1:{proxy.admin_port}"})
        return text if text[0] == 1 and "database does not answer" in text[1] else None

    code, text, _ = until(seen, "status to say that both are away", timeout=30)
    assert "BEHIND" in text and "cannot be reached" in text and mirror.endpoint in text, text
    mirror.forward()
    database.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    proxy.stop()
    text = command(proxy, "status", code=69)
    assert "cannot be reached" in text


def test_without_a_token_everything_can_be_read_and_nothing_changed(lab):
    proxy = lab.proxy()
    for path in ("status", "health", "history", "buckets", "config", "parked"):
        assert request(proxy, "GET", f"/api/v1/{path}")[0] == 200, path
    for path in ("pause", "resume", "release", "parked/retry", "parked/discard"):
        code, _, body = request(proxy, "POST", f"/api/v1/{path}", {}, Authorization="Bearer ")
        assert code == 403 and "ADMIN_TOKEN" in body["error"], path
    assert proxy.status()["mirror"]["paused"] is None
    assert "ADMIN_TOKEN" in command(proxy, "pause", code=77)


def test_changes_need_the_token_and_wrong_ones_are_rate_limited(lab, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    proxy = lab.proxy(ADMIN_TOKEN_FILE=file)
    code, headers, _ = request(proxy, "POST", "/api/v1/pause", {})
    assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
    command(proxy, "pause", token=None, code=77)
    command(proxy, "pause", token=TOKEN)
    command(proxy, "resume", "--token-file", str(file), token=None)
    # A token that is renewed is good at once, and the old one no longer.
    file.write_text("another-token-that-is-new")
    command(proxy, "pause", token="another-token-that-is-new")
    codes = [
        request(proxy, "POST", "/api/v1/resume", {}, Authorization=f"Bearer {WRONG}")[0]
        for _ in range(12)
    ]
    assert codes == [401] * 10 + [429] * 2
    code, headers, _ = request(
        proxy, "POST", "/api/v1/resume", {}, Authorization="Bearer another-token-that-is-new"
    )
    assert code == 429 and 0 < int(headers["Retry-After"]) <= 60
    assert request(proxy, "GET", "/api/v1/status")[0] == 200, "reading goes on"
    assert proxy.status()["mirror"]["paused"] is not None
    said = proxy.process.stdout() + proxy.process.stderr()
    for secret in (TOKEN, WRONG, "another-token-that-is-new"):
        assert secret not in said


def test_requests_of_pages_of_another_origin_are_refused(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN)
    own = f"http://127.0.0.1:{proxy.admin_port}"
    token = f"Bearer {TOKEN}"
    code, _, _ = request(proxy, "POST", "/api/v1/pause", {}, Authorization=token, Origin="http://evil")
    assert code == 403
    for site in ("cross-site", "same-site"):
        code, headers, _ = request(proxy, "GET", "/api/v1/status", Sec_Fetch_Site=site)
        assert code == 403 and "Access-Control-Allow-Origin" not in headers
    code, _, _ = request(proxy, "POST", "/api/v1/pause", {}, Authorization=token, Origin=own)
    assert code == 200
    code, _, _ = request(proxy, "OPTIONS", "/api/v1/pause", Origin="http://evil")
    assert code == 403


def test_no_answer_of_the_admin_port_holds_a_secret(lab):
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(), ADMIN_TOKEN=TOKEN)
    bucket = lab.bucket("secret")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(proxy, bucket, inventory=inventory)
    paths = [
        *("status", "health", "history", "buckets", "config", "parked"),
        f"inventory?bucket={bucket}",
        f"explain?bucket={bucket}&key=k&compare=true",
    ]
    for path in paths:
        code, headers, body = request(proxy, "GET", f"/api/v1/{path}")
        assert code == 200, (path, body)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        text = json.dumps(body)
        for secret in (TOKEN, *lab.secrets().values()):
            assert secret not in text, path
    settings = {each["name"]: each for each in request(proxy, "GET", "/api/v1/config")[2]}
    assert settings["MAIN_SECRET_KEY"]["value"] == "***" and settings["MAIN_SECRET_KEY"]["set"]
    assert settings["MAIN_S3_ENDPOINT"]["value"] == lab.main.endpoint
    assert settings["FENCE"] == {**settings["FENCE"], "value": "always", "set": False}


@pytest.fixture(params=["sqlite", "postgres"])
def browsed(request, lab):
    inventory = lab.postgres() if request.param == "postgres" else None
    proxy = lab.proxy(inventory.settings() if inventory else None)
    return lab, proxy


def test_the_inventory_is_browsed_by_prefix_page_by_page(browsed):
    lab, proxy = browsed
    bucket = lab.bucket("browsed")
    client = lab.client(proxy)
    keys = [f"dir/{number:03d}" for number in range(25)] + ["dir0", "DIR/x", "dir/ü 'x'", "e%_"]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"123", ContentType="text/x")
    client.delete_object(Bucket=bucket, Key="dir/000")
    lab.assert_converged(proxy, bucket)

    def pages(prefix, **more):
        found, after = [], None
        while True:
            query = f"bucket={bucket}&prefix={quote(prefix, safe='')}&limit=10"
            query += "".join(f"&{name}={value}" for name, value in more.items())
            query += f"&after={quote(after, safe='')}" if after is not None else ""
            code, _, page = request(proxy, "GET", f"/api/v1/inventory?{query}")
            assert code == 200, page
            found += page["rows"]
            after = page["next"]
            if after is None:
                return found

    inside = [key for key in keys if key.startswith("dir/")]
    found = pages("dir/")
    assert sorted(row["key"] for row in found) == sorted(set(inside) - {"dir/000"})
    assert len(found) == len({row["key"] for row in found}), "no row is on two pages"
    assert sorted(row["key"] for row in pages("dir/", deleted="true")) == sorted(inside)
    assert [row["key"] for row in pages("e%_")] == ["e%_"]
    assert len(pages("")) == len(keys) - 1
    assert pages("", pending="true") == []
    assert pages("zzz") == []
    row = found[0]
    assert (row["size"], row["content_type"], row["is_backed_up"]) == (3, "text/x", True)
    assert row["last_modified"].endswith("Z") and row["mirrored_at"].endswith("Z")
    code, _, page = request(proxy, "GET", "/api/v1/inventory?bucket=no-such-bucket")
    assert (code, page["rows"]) == (200, [])
    buckets = {each["bucket"]: each for each in request(proxy, "GET", "/api/v1/buckets")[2]["buckets"]}
    assert (buckets[bucket]["objects"], buckets[bucket]["bytes"]) == (len(keys) - 1, 3 * (len(keys) - 1))


def test_what_is_asked_wrongly_is_told_what_is_wrong(lab):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, DISABLE_DATABASE="true")
    token = f"Bearer {TOKEN}"
    for path, body in [
        ("parked/retry", {}),
        ("parked/retry", {"key": "k"}),
        ("parked/discard", {"all": True, "bucket": "b"}),
        ("parked/discard", {"all": True, "waiting": True}),
        ("events/retry", {"all": True, "waiting": True}),
        ("pause", {"reason": "x" * 600}),
    ]:
        code, _, answer = request(proxy, "POST", f"/api/v1/{path}", body, Authorization=token)
        assert code == 400 and answer["error"], (path, body)
    for body in ({"all": "yes"}, {"unknown": 1}):
        code, _, answer = request(proxy, "POST", "/api/v1/parked/retry", body, Authorization=token)
        assert code == 422 and answer["error"]
    assert request(proxy, "GET", "/api/v1/explain?bucket=b")[0] == 400
    code, _, answer = request(proxy, "GET", "/api/v1/inventory?bucket=b")
    assert code == 404 and "DISABLE_DATABASE" in answer["error"]
    assert request(proxy, "GET", "/api/v1/explain?bucket=b&key=k")[2]["row"] == "no_inventory"


def test_completions_and_help_name_every_command():
    code, script, _ = run_to_end([binary(), "completions", "bash"])
    assert code == 0
    for name in ("status", "failed", "retry", "discard", "explain", "pause", "resume", "release"):
        assert name in script
        code, text, _ = run_to_end([binary(), name, "--help"])
        assert code == 0 and "Exit codes:" in text, name
    code, _, _ = run_to_end([binary(), "retry"])
    assert code == 2, "what to retry has to be said"

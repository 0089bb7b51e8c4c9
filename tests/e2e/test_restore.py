"""The way back: restore from the mirror, failing over to it and back, reads while main is away."""

import contextlib
import json
import sqlite3
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from support import compare, operator, s3
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.process import binary, run_to_end
from support.stores import Store
from support.tcp import FaultProxy
from test_reconcile import KEYS, fill, operated


@pytest.fixture
def fresh(tmp_path):
    """A new main, empty."""
    store = Store("fresh", tmp_path / "fresh", tmp_path / "logs").start()
    yield store
    store.stop()
    store.process.forget()


def restore(lab, main, *arguments, code=0, prefix="", data_dir=None):
    """Runs `restore` to `main`, with the journal in `data_dir`; returns its JSON lines."""
    got, out, err = run_to_end(
        [binary(), "restore", "--json", *arguments],
        environment={
            "MAIN_S3_ENDPOINT": main.endpoint,
            "MAIN_ACCESS_KEY": main.credentials.access_key,
            "MAIN_SECRET_KEY": main.credentials.secret_key,
            "MIRROR_S3_ENDPOINT": lab.mirror.endpoint,
            "MIRROR_ACCESS_KEY": lab.mirror.credentials.access_key,
            "MIRROR_SECRET_KEY": lab.mirror.credentials.secret_key,
            "MIRROR_BUCKET_PREFIX": prefix,
            "DATA_DIR": str(data_dir or lab.directory / "no-journal"),
        },
        timeout=120,
    )
    assert got == code, f"exit code {got}, expected {code}\n{out}\n{err}"
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("prefix", ["", "copy-"])
def test_a_lost_main_is_restored_from_the_mirror(lab, fresh, prefix):
    bucket = lab.bucket("restore")
    fill(lab.s3_main, bucket)
    proxy = operated(lab, MIRROR_BUCKET_PREFIX=prefix)
    operator.job(proxy, "backfill", "--bucket", bucket)
    proxy.stop()
    client = s3.of_store(fresh)

    lines = restore(lab, fresh, "--bucket", bucket, "--dry-run", prefix=prefix)
    assert {line["key"] for line in lines if "key" in line} >= set(KEYS)
    assert client.list_buckets()["Buckets"] == []

    done = restore(lab, fresh, "--bucket", bucket, prefix=prefix)[-1]
    assert (done["restored"], done["equal"], done["failed"]) == (len(KEYS) + 41, 0, 0)
    compare.fail_on(
        compare.mirror_differences(lab.s3_main, client, bucket), "the restored main differs"
    )
    again = restore(lab, fresh, "--bucket", bucket, prefix=prefix)[-1]
    assert (again["restored"], again["equal"]) == (0, len(KEYS) + 41)


def test_restore_goes_on_where_it_ended_and_spares_what_is_newer(lab, fresh):
    bucket = lab.bucket("restore")
    for key in ["a/1", "a/2", "b/1", "b/2"]:
        lab.s3_main.put_object(Bucket=bucket, Key=key, Body=key.encode())
    proxy = operated(lab)
    operator.job(proxy, "backfill", "--bucket", bucket)
    proxy.stop()
    client = s3.of_store(fresh)
    client.create_bucket(Bucket=bucket)
    mirrored = lab.s3_mirror.head_object(Bucket=bucket, Key="b/1")["LastModified"]

    def put_newer():
        client.put_object(Bucket=bucket, Key="b/1", Body=b"newer")
        return client.head_object(Bucket=bucket, Key="b/1")["LastModified"] > mirrored

    until(put_newer, "the clock to move on")
    client.put_object(Bucket=bucket, Key="own", Body=b"main's own")

    done = restore(lab, fresh, "--bucket", bucket, "--prefix", "a/")[-1]
    assert (done["scanned"], done["restored"]) == (2, 2)
    done = restore(lab, fresh, "--bucket", bucket, code=1)[-1]
    assert (done["restored"], done["equal"], done["newer_on_main"]) == (1, 2, 1)
    assert done["only_on_main"] == 1
    assert client.get_object(Bucket=bucket, Key="b/1")["Body"].read() == b"newer"
    done = restore(lab, fresh, "--bucket", bucket, "--overwrite")[-1]
    assert (done["restored"], done["equal"]) == (1, 3)
    assert client.get_object(Bucket=bucket, Key="b/1")["Body"].read() == b"b/1"
    assert client.get_object(Bucket=bucket, Key="own")["Body"].read() == b"main's own"


def test_restore_spares_what_the_mirror_had_not_got_yet(lab):
    """The mirror's copies of what was there before may be younger than what main has now."""
    bucket = lab.bucket("restore")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = operated(lab, MIRROR_S3_ENDPOINT=relay.endpoint, DRAIN_TIMEOUT_SECONDS=0)
    client = lab.client(proxy)
    for key in ("newer", "lost", "spoilt", "equal"):
        client.put_object(Bucket=bucket, Key=key, Body=b"first")
    proxy.wait_drained()
    relay.refuse()
    for key in ("newer", "lost", "spoilt"):
        client.put_object(Bucket=bucket, Key=key, Body=b"second")
    code, _, err = run_to_end(
        [binary(), "restore"], environment=dict(proxy.process.environment), timeout=60
    )
    assert code == 69 and "stop it first" in err, err
    proxy.stop()
    lab.s3_main.delete_object(Bucket=bucket, Key="lost")
    # A backup of the day before: main's newest is gone, and the mirror's is better than what is there.
    lab.s3_main.put_object(Bucket=bucket, Key="spoilt", Body=b"old")
    written = lab.s3_main.head_object(Bucket=bucket, Key="spoilt")["LastModified"]

    def copied_again():
        # As if the copies were made only now.
        for key in ("newer", "lost", "spoilt"):
            lab.s3_mirror.put_object(Bucket=bucket, Key=key, Body=b"first")
        return lab.s3_mirror.head_object(Bucket=bucket, Key="newer")["LastModified"] > written

    until(copied_again, "the clock to move on")
    arguments = ("--bucket", bucket)
    done = restore(lab, lab.main, *arguments, "--dry-run", code=1, data_dir=proxy.data_dir)[-1]
    assert (done["restored"], done["equal"], done["newer_on_main"]) == (2, 1, 1)
    done = restore(lab, lab.main, *arguments, code=1, data_dir=proxy.data_dir)[-1]
    assert (done["restored"], done["equal"], done["newer_on_main"]) == (2, 1, 1)
    read = lambda key: lab.s3_main.get_object(Bucket=bucket, Key=key)["Body"].read()  # noqa: E731
    assert [read(key) for key in ("newer", "lost", "spoilt")] == [b"second", b"first", b"first"]
    # The service goes on with the journal it had.
    relay.forward()
    proxy.start()
    lab.assert_converged(proxy, bucket)
    assert read("newer") == b"second"


def test_a_backlog_is_not_undone_by_exchanging_the_roles(lab):
    bucket = lab.bucket("exchanged")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, DRAIN_TIMEOUT_SECONDS=0)
    relay.refuse()
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"only on main")
    proxy.stop()
    before = dict(proxy.process.environment)
    exchanged = {
        f"{one}_{what}": before[f"{other}_{what}"]
        for one, other in (("MAIN", "MIRROR"), ("MIRROR", "MAIN"))
        for what in ("S3_ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
    }
    relay.forward()
    code, _, err = run_to_end([binary(), "serve"], environment=before | exchanged, timeout=30)
    assert code == 69 and "use another DATA_DIR" in err, err
    assert lab.s3_main.get_object(Bucket=bucket, Key="k")["Body"].read() == b"only on main"
    # Nothing has happened to the backlog, and without one the journal is anybody's.
    proxy.start()
    lab.assert_converged(proxy, bucket)
    proxy.stop()
    over = lab.proxy(start=False, data_dir_of=proxy)
    over.settings |= exchanged
    over.process.environment |= exchanged
    over.start()
    assert lab.client(over).get_object(Bucket=bucket, Key="k")["Body"].read() == b"only on main"


def test_the_runbooks_fail_over_to_the_mirror_and_back(lab, tmp_path):
    """docs/runbooks/failover-to-mirror.md and fail-back.md, step by step."""
    bucket = lab.bucket("failover")
    proxy = operated(lab)
    client = lab.client(proxy)
    for number in range(20):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"before %d" % number)
    proxy.wait_drained()
    assert proxy.stop() == 0

    # Failover: the same proxy with the roles exchanged and a DATA_DIR of its own.
    swapped = {
        "MAIN_S3_ENDPOINT": lab.mirror.endpoint,
        "MAIN_ACCESS_KEY": lab.mirror.credentials.access_key,
        "MAIN_SECRET_KEY": lab.mirror.credentials.secret_key,
        "MIRROR_S3_ENDPOINT": lab.main.endpoint,
        "MIRROR_ACCESS_KEY": lab.main.credentials.access_key,
        "MIRROR_SECRET_KEY": lab.main.credentials.secret_key,
    }
    relay = lab.closing(FaultProxy(lab.main.address))
    relay.refuse()
    swapped |= {"MIRROR_S3_ENDPOINT": relay.endpoint, "DISABLE_DATABASE": "true"}
    over = operated(lab, **swapped)
    client = lab.client(over)
    assert client.get_object(Bucket=bucket, Key="7")["Body"].read() == b"before 7"
    client.put_object(Bucket=bucket, Key="7", Body=b"after")
    client.put_object(Bucket=bucket, Key="new", Body=b"after")
    client.delete_object(Bucket=bucket, Key="3")

    # Fail back: the old main is there again and is brought into step, then proven to be.
    relay.forward()
    over.wait_drained()
    view = operator.job(over, "verify", "--bucket", bucket)
    assert view["differences"] == 0
    assert over.stop() == 0
    proxy.start()
    client = lab.client(proxy)
    assert client.get_object(Bucket=bucket, Key="7")["Body"].read() == b"after"
    lab.assert_converged(proxy, bucket)
    # The inventory has not seen what was written meanwhile.
    operator.job(proxy, "verify", "--bucket", bucket, "--repair", code=0)
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_reads_are_served_from_the_mirror_while_main_is_away(lab):
    relay = lab.closing(FaultProxy(lab.main.address))
    mirror_relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = operated(
        lab,
        MAIN_S3_ENDPOINT=relay.endpoint,
        MIRROR_S3_ENDPOINT=mirror_relay.endpoint,
        READ_FALLBACK="mirror",
    )
    bucket = lab.bucket("fallback")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="mirrored", Body=b"0123456789", Metadata={"a": "b"})
    client.put_object(Bucket=bucket, Key="stale", Body=b"old")
    proxy.wait_drained()
    mirror_relay.refuse()
    client.put_object(Bucket=bucket, Key="stale", Body=b"new")

    def served_by(answer):
        return answer["ResponseMetadata"]["HTTPHeaders"].get("x-s3-mirror-served-by")

    assert served_by(client.get_object(Bucket=bucket, Key="mirrored")) is None
    relay.refuse()
    mirror_relay.forward()
    answer = client.get_object(Bucket=bucket, Key="mirrored", Range="bytes=2-4")
    assert (served_by(answer), answer["Body"].read()) == ("mirror", b"234")
    head = client.head_object(Bucket=bucket, Key="mirrored")
    assert (served_by(head), head["Metadata"]) == ("mirror", {"a": "b"})
    for key in ("stale", "never-was"):
        with pytest.raises(client.exceptions.ClientError) as refused:
            client.get_object(Bucket=bucket, Key=key)
        status = refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status == 503, key
    with pytest.raises(client.exceptions.ClientError):
        client.put_object(Bucket=bucket, Key="mirrored", Body=b"x")
    assert proxy.metrics()["s3_proxy_fallback_reads_total"][""] == 2
    relay.forward()
    assert served_by(client.get_object(Bucket=bucket, Key="mirrored")) is None


def test_what_a_client_signs_and_connects_with_reaches_neither_main_nor_mirror(lab):
    away = []
    answer = s3_error(503, "Slow Down", "SlowDown")
    relay = lab.closing(HttpFaultProxy(lab.main.address, lambda _: answer if away else None))
    mirror_relay = lab.closing(HttpFaultProxy(lab.mirror.address, lambda _: None))
    proxy = operated(
        lab,
        MAIN_S3_ENDPOINT=relay.endpoint,
        MIRROR_S3_ENDPOINT=mirror_relay.endpoint,
        READ_FALLBACK="mirror",
    )
    bucket = lab.bucket("credentials")
    own = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=of-the-client",
        "Connection": "x-private",
        "Cookie": "of-the-client=1",
        "Date": "of-the-client",
        "Proxy-Authorization": "Basic of-the-client",
        "TE": "of-the-client",
        "X-Amz-Date": "of-the-client",
        "X-Amz-S3session-Token": "of-the-client",
        "X-Amz-Security-Token": "of-the-client",
        "X-Forwarded-For": "of-the-client",
        "X-Private": "of-the-client",
        "X-Amz-Meta-A": "kept",
    }

    def ask(method, body=None):
        connection = HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=30)
        connection.request(method, f"/{bucket}/key", body=body, headers=own)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    assert ask("PUT", b"0123456789").status == 200
    proxy.wait_drained()
    assert ask("GET").status == 200
    away.append(True)
    assert ask("GET").getheader("x-s3-mirror-served-by") == "mirror"
    for requests in (relay.requests, mirror_relay.requests):
        asked = [request for request in requests if request.target.startswith(f"/{bucket}/key")]
        assert {request.method for request in asked} >= {"GET", "PUT"}
        for request in asked:
            assert "of-the-client" not in str(request.headers), request
            names = [name for name, _ in request.headers]
            assert len(names) == len(set(names)), request
        put = next(request for request in asked if request.method == "PUT")
        assert ("x-amz-meta-a", "kept") in put.headers


def test_without_read_fallback_main_alone_answers(lab):
    relay = lab.closing(FaultProxy(lab.main.address))
    proxy = operated(lab, MAIN_S3_ENDPOINT=relay.endpoint)
    bucket = lab.bucket("fallback")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    proxy.wait_drained()
    relay.refuse()
    with pytest.raises(client.exceptions.ClientError):
        client.get_object(Bucket=bucket, Key="k")
    relay.forward()


def test_a_verification_runs_by_its_schedule_however_often_the_process_starts(lab):
    """The interval counts from when there is a schedule: here, an hour less three seconds ago."""
    proxy = operated(lab, VERIFY_SCHEDULE="1h")
    bucket = lab.bucket("schedule")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    assert json.loads(proxy.admin("/api/v1/jobs")[2]) == []
    assert proxy.stop() == 0
    with contextlib.closing(sqlite3.connect(proxy.data_dir / "journal.sqlite")) as journal:
        moved = journal.execute(
            "UPDATE note SET value = value - 3597000 WHERE name = 'verify.schedule-since'"
        )
        assert moved.rowcount == 1
        journal.commit()
    proxy.start()
    path = "/api/v1/jobs"

    def ended():
        jobs = json.loads(proxy.admin(path)[2])
        return [job for job in jobs if job["state"] == "done"]

    job = until(ended, "a verification by itself", 60)[0]
    assert job["kind"] == "verify" and job["report"]
    assert operator.report_of(proxy, job)["job"]["id"] == job["id"]

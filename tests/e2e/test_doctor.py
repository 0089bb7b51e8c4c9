"""`doctor`: what main, mirror and database do with requests, and nothing of it left behind."""

import json
import signal

import pytest

from support import s3
from support.poll import until
from support.process import Process, binary, free_port, run_to_end
from support.stores import Store
from support.tcp import FaultProxy

PREFIX = ".s3-mirror-doctor/"


@pytest.fixture
def pair(tmp_path):
    """Two stores of this test alone, so that everything in them can be looked at."""
    names = ("main", "mirror")
    stores = [Store(name, tmp_path / name, tmp_path / "logs").start() for name in names]
    yield stores
    for store in stores:
        store.stop()
        store.process.forget()


def settings(pair, tmp_path, **more):
    main, mirror = pair
    return {
        "MAIN_S3_ENDPOINT": main.endpoint,
        "MAIN_ACCESS_KEY": main.credentials.access_key,
        "MAIN_SECRET_KEY": main.credentials.secret_key,
        "MIRROR_S3_ENDPOINT": mirror.endpoint,
        "MIRROR_ACCESS_KEY": mirror.credentials.access_key,
        "MIRROR_SECRET_KEY": mirror.credentials.secret_key,
        "DATA_DIR": str(tmp_path / "data"),
        **more,
    }


def doctor(environment, *arguments, code):
    """Runs it; returns its findings by (side, probe), and its last line."""
    got, out, err = run_to_end(
        [binary(), "doctor", "--json", *arguments], environment=environment, timeout=120
    )
    assert got == code, f"exit code {got}, expected {code}\n{out}\n{err}"
    for name in ("MAIN_SECRET_KEY", "MIRROR_SECRET_KEY"):
        assert environment[name] not in out + err
    lines = [json.loads(line) for line in out.splitlines()]
    found = {(line["side"], line["probe"]): line for line in lines if "probe" in line}
    return found, lines[-1]


def contents(store):
    """Everything in a store: buckets, their objects with times, uploads under way."""
    client = s3.of_store(store)
    found = {}
    for bucket in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        objects = [(each["Key"], each["ETag"], each["LastModified"]) for each in listed]
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        found[bucket] = (objects, [each["UploadId"] for each in uploads])
    return found


def test_all_is_well_and_nothing_is_left(pair, tmp_path):
    found, end = doctor(settings(pair, tmp_path, MIRROR_BUCKET_PREFIX="copy-"), code=0)
    assert {line["level"] for line in found.values()} == {"ok"}
    for side in ("main", "mirror"):
        for probe in ("credentials", "clock", "put", "get", "multipart", "copy", "tagging",
                      "versioning", "checksums", "conditions", "delete", "latency", "cleanup"):
            assert (side, probe) in found, (side, probe)
    assert "copy-s3-mirror-doctor-" in found["mirror", "bucket"]["what"]
    assert ("database", "tables") in found and end["finished"]
    assert [contents(store) for store in pair] == [{}, {}]
    assert not (tmp_path / "data").exists()


def test_people_are_told_what_will_not_be_mirrored(pair, tmp_path):
    got, out, err = run_to_end(
        [binary(), "doctor"], environment=settings(pair, tmp_path), timeout=120
    )
    assert got == 0, out + err
    will, will_not = out.split("will not be mirrored")
    assert "tags of objects" in will and "settings of buckets" in will_not
    assert out.endswith("all is well\n")


def test_a_wrong_secret_is_named_and_never_shown(pair, tmp_path):
    environment = settings(pair, tmp_path, MAIN_SECRET_KEY="not-the-secret-0123456789")
    found, _ = doctor(environment, code=2)
    wrong = found["main", "credentials"]
    assert wrong["level"] == "fails" and "SignatureDoesNotMatch" in wrong["what"]
    assert ("main", "put") not in found
    assert found["mirror", "put"]["level"] == "ok"
    assert [contents(store) for store in pair] == [{}, {}]


def test_a_mirror_that_is_away_fails_and_main_is_looked_at_all_the_same(pair, tmp_path):
    environment = settings(pair, tmp_path, MIRROR_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    found, _ = doctor(environment, code=2)
    away = found["mirror", "credentials"]
    assert away["level"] == "fails" and "cannot connect" in away["what"]
    assert found["main", "put"]["level"] == "ok"
    assert contents(pair[0]) == {}


def test_a_named_bucket_is_left_exactly_as_it_was(pair, tmp_path):
    for store, bucket in zip(pair, ("photos", "copy-photos"), strict=True):
        client = s3.of_store(store)
        client.create_bucket(Bucket=bucket)
        for key in ("a", "plain", PREFIX + "somebody's"):
            client.put_object(Bucket=bucket, Key=key, Body=key.encode())
        client.create_multipart_upload(Bucket=bucket, Key="under way")
    before = [contents(store) for store in pair]
    environment = settings(pair, tmp_path, MIRROR_BUCKET_PREFIX="copy-")
    found, _ = doctor(environment, "--bucket", "photos", code=0)
    assert "`copy-photos` is there" in found["mirror", "bucket"]["what"]
    assert [contents(store) for store in pair] == before


def test_a_bucket_that_is_not_on_main_is_not_made(pair, tmp_path):
    found, _ = doctor(settings(pair, tmp_path), "--bucket", "typo", "--main-only", code=2)
    assert found["main", "bucket"]["level"] == "fails"
    assert not any(side == "mirror" for side, _ in found)
    assert [contents(store) for store in pair] == [{}, {}]


def test_what_cannot_be_removed_is_named(pair, tmp_path):
    relay = FaultProxy(pair[1].address)
    try:
        relay.slow(0.05)
        environment = settings(pair, tmp_path, MIRROR_S3_ENDPOINT=relay.endpoint)
        process = Process(
            "doctor", [binary(), "doctor", "--mirror-only", "--json"], tmp_path, environment
        ).spawn()
        until(lambda: '"put"' in process.stdout(), "the first object")
        relay.refuse()
        assert process.wait() == 2
    finally:
        relay.close()
    process.forget()
    (bucket,) = contents(pair[1])
    lines = [json.loads(line) for line in process.stdout().splitlines()]
    (cleanup,) = [line for line in lines if line.get("probe") == "cleanup"]
    assert cleanup["level"] == "fails" and bucket in cleanup["means"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_cleans_up_when_a_person_ends_it(pair, tmp_path, number):
    relay = FaultProxy(pair[0].address)
    try:
        relay.slow(0.05)
        environment = settings(pair, tmp_path, MAIN_S3_ENDPOINT=relay.endpoint)
        command = [binary(), "doctor", "--json"]
        process = Process("doctor", command, tmp_path, environment).spawn()
        until(lambda: '"put"' in process.stdout(), "the first object")
        assert contents(pair[0]) != {}
        process.signal(number)
        assert process.wait() == 130
    finally:
        relay.close()
    process.forget()
    assert '"cleanup"' in process.stdout() and '"latency"' not in process.stdout()
    assert [contents(store) for store in pair] == [{}, {}]


def test_a_table_of_postgres_is_made_and_rolled_back(pair, tmp_path, cluster):
    database = cluster.create_database()
    environment = settings(pair, tmp_path, **cluster.environment(database))
    found, _ = doctor(environment, code=0)
    assert found["database", "tables"]["what"] == "tables can be made"
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert cluster.query(database, tables) == []


def test_the_inventory_file_of_a_running_service_stays_as_it_is(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("doctor")
    lab.client(proxy).put_object(Bucket=bucket, Key="a", Body=b"a")
    proxy.wait_drained()
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    before = lab.sqlite(proxy).query(tables)
    environment = settings((lab.main, lab.mirror), proxy.data_dir, DATA_DIR=str(proxy.data_dir))
    found, _ = doctor(environment, "--bucket", bucket, code=0)
    assert found["database", "tables"]["what"] == "tables can be made"
    assert lab.sqlite(proxy).query(tables) == before
    assert lab.keys_on_mirror(bucket) == {"a"}

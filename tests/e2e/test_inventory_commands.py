"""`inventory import`, `check` and `export`: without the service, and beside it."""

import csv
import gzip
import io
import json
import shutil
from datetime import datetime, timedelta, timezone
from urllib.parse import quote_plus, unquote

import pytest

from support import compare, s3
from support.inventory import table_of
from support.process import binary, run_to_end
from support.proxy import environment

#: Keys that some format has trouble with.
KEYS = [
    "plain.txt",
    "a b/ü+%.txt",
    'quote",comma',
    "line\nend",
    "#comment",
    " space ",
    "double//slash",
    "/first",
    "last/",
    "日本/🦀",
]


@pytest.fixture(params=["postgres", "sqlite"])
def database(lab, request, tmp_path):
    """An inventory that no service keeps: (settings, rows of a bucket, execute)."""
    data = tmp_path / "command-data"
    data.mkdir()
    if request.param == "postgres":
        inventory = lab.postgres()
        return _Database(inventory.settings(), inventory, data)
    return _Database({}, None, data)


class _Database:
    def __init__(self, settings, inventory, data):
        self.settings, self.inventory, self.data = settings, inventory, data

    def rows(self, bucket):
        from support.inventory import SqliteInventory

        return (self.inventory or SqliteInventory(self.data)).rows(bucket)

    def execute(self, sql):
        import sqlite3

        if self.inventory is not None:
            with self.inventory.cluster.connect(self.inventory.database) as connection:
                connection.execute(sql)
            return
        connection = sqlite3.connect(self.data / "inventory.sqlite", timeout=10)
        with connection:
            connection.execute(sql)
        connection.close()


def run(lab, database, *arguments, code=0, **settings):
    """Runs `inventory <arguments>`; returns (stdout, stderr)."""
    got, out, err = run_to_end(
        [binary(), "inventory", *arguments],
        environment={
            **environment(lab.main, lab.mirror, inventory=database.settings),
            "DATA_DIR": str(database.data),
            **settings,
        },
        timeout=120,
    )
    assert got == code, f"exit code {got}, expected {code}\n{out}\n{err}"
    for what, secret in lab.secrets().items():
        assert secret not in out + err, f"{what} is in the output"
    return out, err


def last(out):
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines and lines[-1]["finished"]
    return lines[-1]


def fill(lab, label, keys=KEYS):
    bucket = lab.bucket(label)
    for number, key in enumerate(keys):
        lab.s3_main.put_object(Bucket=bucket, Key=key, Body=b"x" * number, ContentType="a/b")
    return bucket


def test_what_was_on_main_before_is_imported_and_checked(lab, database):
    bucket = fill(lab, "imported")
    done = last(run(lab, database, "import", "--bucket", bucket, "--json")[0])
    assert (done["scanned"], done["added"], done["failed"]) == (len(KEYS), len(KEYS), 0)
    rows = {row["path"]: row for row in database.rows(bucket)}
    listed = s3.every_key(lab.s3_main, bucket)
    assert rows.keys() == listed.keys()
    for key, entry in listed.items():
        row = rows[key]
        assert (row["size"], row["etag"]) == (entry["Size"], entry["ETag"].strip('"'))
        time = entry["LastModified"].replace(tzinfo=None)
        assert abs(row["last_modified"] - time) < timedelta(milliseconds=1)
        assert (row["content_type"], bool(row["is_backed_up"]), bool(row["deleted"])) == (
            "",
            False,
            False,
        )
    run(lab, database, "check", "--bucket", bucket)
    # Again nothing is to be done; with a question per key types are known too.
    done = last(run(lab, database, "import", "--bucket", bucket, "--json")[0])
    assert (done["added"], done["updated"]) == (0, 0)
    done = last(run(lab, database, "import", "--bucket", bucket, "--head", "--json")[0])
    assert (done["added"], done["updated"]) == (0, len(KEYS))
    compare.fail_on(
        compare.inventory_differences(lab.s3_main, bucket, database.rows(bucket), mirrored=False),
        "the imported inventory differs from main",
    )


def test_drift_has_an_exit_code_and_is_named_and_an_import_mends_it(lab, database):
    bucket = fill(lab, "drift", ["same", "changed", "new", "gone"])
    run(lab, database, "import", "--bucket", bucket)
    table = table_of(bucket)
    lab.s3_main.put_object(Bucket=bucket, Key="changed", Body=b"another")
    lab.s3_main.delete_object(Bucket=bucket, Key="gone")
    database.execute(f"DELETE FROM {table} WHERE path = 'new'")
    out, _ = run(lab, database, "check", "--bucket", bucket, "--json", code=1)
    drift = {line["key"]: line["drift"] for line in map(json.loads, out.splitlines()) if "key" in line}
    assert drift == {"changed": "different", "new": "missing", "gone": "extra"}
    done = last(out)
    assert (done["scanned"], done["missing"], done["different"], done["extra"]) == (3, 1, 1, 1)
    out, err = run(lab, database, "check", "--bucket", bucket, "--prefix", "same")
    assert "1 keys of main" in out and not err
    run(lab, database, "import", "--bucket", bucket)
    # What is gone is told by whoever deleted it, or by a verification; a list has no deletions.
    sizes = {row["path"]: row["size"] for row in database.rows(bucket)}
    assert sizes == {"same": 0, "changed": 7, "new": 2, "gone": 3}


def test_an_import_marks_what_the_mirror_has_if_it_is_asked_to(lab, database):
    bucket = fill(lab, "mirrored", ["both", "main only", "differs"])
    lab.s3_mirror.create_bucket(Bucket=bucket)
    lab.s3_mirror.put_object(Bucket=bucket, Key="both", Body=b"")
    lab.s3_mirror.put_object(Bucket=bucket, Key="differs", Body=b"yy")
    lab.s3_mirror.put_object(Bucket=bucket, Key="mirror only", Body=b"")
    run(lab, database, "import", "--bucket", bucket, "--mirror")
    flags = {row["path"]: bool(row["is_backed_up"]) for row in database.rows(bucket)}
    assert flags == {"both": True, "main only": False, "differs": False}


def report(lab, bucket, objects, *, packed, created=None, files=2):
    """The manifest and files of an S3 Inventory report: {key below the report: bytes}."""
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"
    parts = [io.StringIO() for _ in range(files)]
    for number, (key, entry) in enumerate(sorted(objects.items())):
        writer = csv.writer(parts[number % files], quoting=csv.QUOTE_ALL, lineterminator="\n")
        time = entry["LastModified"].astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        name = quote_plus(key)
        tag = entry["ETag"].strip('"')
        writer.writerow([bucket, name, "v2", "true", "false", entry["Size"], time, tag])
        writer.writerow([bucket, name, "v1", "false", "false", 99, time, "old"])
        writer.writerow([bucket, f"deleted-{number}", "v3", "true", "true", "", time, ""])
    found = {}
    for number, part in enumerate(parts):
        text = part.getvalue().encode()
        ending = ".csv.gz" if packed else ".csv"
        found[f"data/{number}{ending}"] = gzip.compress(text) if packed else text
    created = created or datetime.now(timezone.utc) + timedelta(minutes=10)
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "creationTimestamp": str(int(created.timestamp() * 1000)),
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": [{"key": f"r/{bucket}/{name}", "size": len(data)} for name, data in found.items()],
    }
    found["2026-11-21T00-00Z/manifest.json"] = json.dumps(manifest).encode()
    return found


@pytest.mark.parametrize("place", ["packed on main", "plain in a directory"])
def test_a_report_of_s3_inventory_is_imported_without_a_listing(lab, database, tmp_path, place):
    keys = [*KEYS, *(f"many/{number:05}" for number in range(40))]
    bucket = fill(lab, "reported", keys)
    objects = s3.every_key(lab.s3_main, bucket)
    files = report(lab, bucket, objects, packed=place.startswith("packed"))
    if place.startswith("packed"):
        store = lab.bucket("reports")
        for name, data in files.items():
            lab.s3_main.put_object(Bucket=store, Key=f"r/{bucket}/{name}", Body=data)
        manifest = f"s3://{store}/r/{bucket}/2026-11-21T00-00Z/manifest.json"
    else:
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        manifest = str(tmp_path / "2026-11-21T00-00Z" / "manifest.json")
    done = last(run(lab, database, "import", "--report", manifest, "--json")[0])
    assert (done["scanned"], done["added"], done["failed"]) == (len(keys), len(keys), 0)
    assert {row["path"] for row in database.rows(bucket)} == set(keys)
    assert {row["version_id"] for row in database.rows(bucket)} == {"v2"}
    run(lab, database, "check", "--bucket", bucket)
    done = last(run(lab, database, "import", "--report", manifest, "--json")[0])
    assert (done["added"], done["updated"]) == (0, 0)


def test_a_report_never_replaces_news_that_is_younger(lab, database, tmp_path):
    bucket = fill(lab, "stale", ["k", "untouched"])
    old = report(
        lab, bucket, s3.every_key(lab.s3_main, bucket), packed=True,
        created=datetime.now(timezone.utc) - timedelta(days=1),
    )  # fmt: skip
    for name, data in old.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    lab.s3_main.put_object(Bucket=bucket, Key="k", Body=b"younger")
    run(lab, database, "import", "--bucket", bucket)
    manifest = str(tmp_path / "2026-11-21T00-00Z" / "manifest.json")
    done = last(run(lab, database, "import", "--report", manifest, "--json")[0])
    assert (done["added"], done["updated"]) == (0, 0)
    run(lab, database, "check", "--bucket", bucket)


def test_a_faulty_report_is_told_with_its_place(lab, database, tmp_path):
    bucket = fill(lab, "faulty", ["k"])
    files = report(lab, bucket, s3.every_key(lab.s3_main, bucket), packed=True, files=1)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    manifest = tmp_path / "2026-11-21T00-00Z" / "manifest.json"
    packed = tmp_path / "data" / "0.csv.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    assert "0.csv.gz" in run(lab, database, "import", "--report", str(manifest), code=69)[1]
    packed.unlink()
    assert "0.csv.gz" in run(lab, database, "import", "--report", str(manifest), code=69)[1]
    manifest.write_text(manifest.read_text().replace('"CSV"', '"Parquet"'))
    assert "Parquet" in run(lab, database, "import", "--report", str(manifest), code=69)[1]


def test_an_interrupted_import_goes_on_where_it_was(lab, database):
    bucket = fill(lab, "resumed", [f"k{number}" for number in range(6)])
    scope = {
        "main": lab.main.endpoint, "bucket": bucket, "prefix": "", "report": None,
        "head": False, "mirror": False,
    }  # fmt: skip
    at = {"bucket": bucket, "after": "k3", "file": 0, "taken": 0}
    done = {"scanned": 4, "added": 4, "updated": 0, "failed": 0}
    position = database.data / "inventory-import.json"
    position.write_text(json.dumps({"scope": scope, "at": at, "done": done}))
    out, err = run(lab, database, "import", "--bucket", bucket, "--json")
    assert "going on" in err
    assert (last(out)["scanned"], last(out)["added"]) == (6, 6)
    assert {row["path"] for row in database.rows(bucket)} == {"k4", "k5"}
    assert not position.exists()
    # Another import is another matter, and --restart forgets.
    position.write_text(json.dumps({"scope": {**scope, "head": True}, "at": at, "done": done}))
    out, err = run(lab, database, "import", "--bucket", bucket, "--json")
    assert "going on" not in err and last(out)["added"] == 4


def test_exports_are_what_their_readers_expect(lab, database, tmp_path):
    bucket = fill(lab, "exported")
    run(lab, database, "import", "--bucket", bucket, "--head")
    table = table_of(bucket)
    database.execute(f"UPDATE {table} SET is_backed_up = TRUE WHERE path = 'plain.txt'")
    database.execute(f"UPDATE {table} SET deleted = TRUE WHERE path = 'last/'")
    present = set(KEYS) - {"last/"}

    target = tmp_path / "objects.csv"
    out, _ = run(lab, database, "export", "--bucket", bucket, "--output", str(target), "--json")
    assert last(out)["rows"] == len(present)
    rows = list(csv.DictReader(io.StringIO(target.read_text(), newline="")))
    assert {row["path"] for row in rows} == present
    assert all(row["bucket"] == bucket and row["content_type"] == "a/b" for row in rows)
    sizes = {key: entry["Size"] for key, entry in s3.every_key(lab.s3_main, bucket).items()}
    assert all(int(row["size"]) == sizes[row["path"]] for row in rows)

    out, _ = run(lab, database, "export", "--format", "ndjson", "--deleted", "--bucket", bucket)
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["path"]: line["deleted"] for line in lines} == {
        key: key == "last/" for key in KEYS
    }
    datetime.fromisoformat(lines[0]["last_modified"])

    out, _ = run(lab, database, "export", "--format", "s3-batch", "--pending")
    pairs = list(csv.reader(io.StringIO(out)))
    assert {unquote(key) for name, key in pairs if name == bucket} == present - {"plain.txt"}

    out, err = run(lab, database, "export", "--format", "files-from", "--bucket", bucket, code=3)
    named = set(out.splitlines())
    assert named == {"plain.txt", "a b/ü+%.txt", 'quote",comma', "日本/🦀"}
    assert err.count("left out") == len(present - named) + 1
    # A file-from without a bucket would name keys of nobody knows which.
    run(lab, database, "export", "--format", "files-from", code=2)


@pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed")
def test_rclone_copies_exactly_what_files_from_names(lab, database, tmp_path):
    bucket = fill(lab, "cloned")
    run(lab, database, "import", "--bucket", bucket)
    names = tmp_path / "names"
    run(
        lab, database, "export", "--format", "files-from-raw", "--bucket", bucket,
        "--output", str(names), code=3,
    )  # fmt: skip
    remote = (
        f":s3,provider=Other,endpoint='{lab.main.endpoint}',region=us-east-1,"
        f"access_key_id='{lab.main.credentials.access_key}',"
        f"secret_access_key='{lab.main.credentials.secret_key}',force_path_style=true:{bucket}"
    )
    copies = tmp_path / "copies"
    code, _, err = run_to_end(
        ["rclone", "copy", "--config", "/dev/null", "--files-from-raw", names, remote, copies],
        timeout=60,
    )
    assert code == 0, err
    found = {str(path.relative_to(copies)) for path in copies.rglob("*") if path.is_file()}
    assert found == set(names.read_text().splitlines())
    assert found >= {"plain.txt", "#comment", " space ", "日本/🦀"}


def test_the_commands_do_not_disturb_a_running_service(lab):
    """The service owns an SQLite inventory; import and export come and go beside it."""
    proxy = lab.proxy()
    bucket = fill(lab, "beside", [f"before/{number}" for number in range(20)])
    database = _Database({}, None, proxy.data_dir)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="live", Body=b"x", ContentType="c/d")
    run(lab, database, "import", "--bucket", bucket, "--head")
    client.delete_object(Bucket=bucket, Key="before/0")
    client.put_object(Bucket=bucket, Key="before/1", Body=b"anew", ContentType="c/d")
    proxy.wait_drained()
    run(lab, database, "check", "--bucket", bucket)
    rows = {row["path"]: row for row in database.rows(bucket)}
    assert rows["live"]["is_backed_up"] and rows["before/1"]["is_backed_up"]
    assert rows["before/0"]["deleted"] and not rows["before/2"]["is_backed_up"]
    out, _ = run(lab, database, "export", "--format", "ndjson", "--bucket", bucket)
    assert len(out.splitlines()) == 20


def test_without_an_inventory_or_a_database_it_is_said(lab, tmp_path):
    nothing = _Database({"DISABLE_DATABASE": "true"}, None, tmp_path)
    assert "DISABLE_DATABASE" in run(lab, nothing, "check", code=64)[1]
    away = _Database({"POSTGRES_URL": "postgres://u:hunter2@127.0.0.1:1/d"}, None, tmp_path)
    _, err = run(lab, away, "export", code=69)
    assert "hunter2" not in err

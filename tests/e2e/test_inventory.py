"""The inventory: a table per bucket, the documented columns and queries, true values."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import s3
from support.inventory import table_of
from support.poll import until
from support.process import accepts
from support.tcp import FaultProxy

COLUMNS = [
    ("id", "integer", "NO"),
    ("path", "text", "NO"),
    ("size", "bigint", "NO"),
    ("content_type", "text", "NO"),
    ("is_backed_up", "boolean", "YES"),
    ("last_modified", "timestamp without time zone", "NO"),
    ("deleted", "boolean", "YES"),
    ("created_at", "timestamp without time zone", "YES"),
    ("updated_at", "timestamp without time zone", "YES"),
]


def fill(proxy, client, bucket):
    """A few objects made in every way that changes an object."""
    client.put_object(Bucket=bucket, Key="a.txt", Body=b"12345", ContentType="text/plain")
    client.put_object(Bucket=bucket, Key="b.txt", Body=b"1234567890", ContentType="text/plain")
    client.put_object(Bucket=bucket, Key="c.bin", Body=b"123")
    client.put_object(Bucket=bucket, Key="gone", Body=b"x" * 1000)
    # A key that is deleted before its row was ever written has no row.
    proxy.wait_drained()
    client.delete_object(Bucket=bucket, Key="gone")
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "b.txt"})
    parts = [b"p" * (5 * 1024 * 1024), b"end"]
    s3.put_multipart(client, bucket, "parts", parts, ContentType="video/mp4")
    client.put_object(Bucket=bucket, Key="again", Body=b"1", ContentType="text/x-one")
    client.put_object(Bucket=bucket, Key="again", Body=b"22", ContentType="text/x-two")


def test_the_table_is_exactly_the_documented_one(steady):
    lab, proxy, inventory = steady
    lab.s3_main.create_bucket(Bucket="my-data")
    lab.client(proxy).put_object(Bucket="my-data", Key="k", Body=b"x")
    lab.assert_converged(proxy, "my-data", inventory=inventory)
    columns = inventory.query(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_name = 'bucket_my_data' ORDER BY ordinal_position"
    )
    found = [tuple(column.values()) for column in columns]
    # Further columns may follow.
    assert found[: len(COLUMNS)] == COLUMNS
    assert all(nullable == "YES" for _, _, nullable in found[len(COLUMNS) :])
    indexes = inventory.query(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'bucket_my_data'"
    )
    names = {index["indexname"] for index in indexes}
    assert {"idx_bucket_my_data_backup", "idx_bucket_my_data_deleted"} <= names
    unique = [index["indexdef"] for index in indexes if "UNIQUE" in index["indexdef"]]
    assert any("(path)" in definition for definition in unique)
    defaults = inventory.query(
        "INSERT INTO bucket_my_data (path, size, content_type, last_modified) "
        "VALUES ('by hand', 1, 'a/b', '2024-01-01') "
        "RETURNING is_backed_up, deleted, created_at, updated_at"
    )[0]
    assert (defaults["is_backed_up"], defaults["deleted"]) == (False, False)
    assert defaults["created_at"] is not None and defaults["updated_at"] is not None


def test_the_documented_queries_run_as_they_stand(steady):
    """The queries are quoted as users have them, with only the table's name filled in."""
    lab, proxy, inventory = steady
    bucket = lab.bucket("queries")
    table = table_of(bucket)
    fill(proxy, lab.client(proxy), bucket)
    lab.assert_converged(proxy, bucket, inventory=inventory)

    tables = inventory.query(
        """
SELECT tablename FROM pg_tables
WHERE schemaname = 'public' AND tablename LIKE 'bucket_%';
"""
    )
    assert table in [row["tablename"] for row in tables]
    # Nothing but tables of buckets answers to that name.
    assert all(row["tablename"].startswith("bucket_") for row in tables)

    waiting = inventory.query(
        f"""
SELECT * FROM {table}
WHERE is_backed_up = FALSE AND deleted = FALSE;
"""
    )
    assert waiting == []

    total = inventory.query(
        f"""
SELECT SUM(size) as total_bytes
FROM {table} WHERE deleted = FALSE;
"""
    )
    listed = s3.every_key(lab.s3_main, bucket)
    assert total[0]["total_bytes"] == sum(entry["Size"] for entry in listed.values())

    by_type = inventory.query(
        f"""
SELECT content_type, COUNT(*), SUM(size) as total_size
FROM {table} WHERE deleted = FALSE
GROUP BY content_type;
"""
    )
    figures = {row["content_type"]: (row["count"], row["total_size"]) for row in by_type}
    assert figures == {
        "text/plain": (3, 25),
        "binary/octet-stream": (1, 3),
        "video/mp4": (1, 5 * 1024 * 1024 + 3),
        "text/x-two": (1, 2),
    }


def test_every_kind_of_change_is_recorded_with_main_s_own_values(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("kinds")
    fill(proxy, lab.client(proxy), bucket)
    lab.assert_converged(proxy, bucket, inventory=inventory)
    rows = {row["path"]: row for row in inventory.rows(bucket)}
    gone = rows["gone"]
    assert gone["deleted"] is True and gone["is_backed_up"] is True
    assert rows["again"]["content_type"] == "text/x-two"


def test_a_deleted_key_that_returns_is_one_row_with_its_old_id(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("returns")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"1")
    proxy.wait_drained()
    first = inventory.rows(bucket)[0]
    client.delete_object(Bucket=bucket, Key="k")
    proxy.wait_drained()
    deleted = inventory.rows(bucket)[0]
    assert deleted["deleted"] and deleted["updated_at"] > first["updated_at"]
    client.put_object(Bucket=bucket, Key="k", Body=b"22")
    lab.assert_converged(proxy, bucket, inventory=inventory)
    (again,) = inventory.rows(bucket)
    assert (again["id"], again["created_at"]) == (first["id"], first["created_at"])
    assert again["updated_at"] > deleted["updated_at"]


def test_rows_are_marked_backed_up_only_when_the_mirror_has_them(lab):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(), mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("notyet")
    relay.refuse()
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    until(lambda: inventory.rows(bucket), "the row of a key whose mirror is away")
    (row,) = inventory.rows(bucket)
    assert (row["is_backed_up"], row["deleted"], row["size"]) == (False, False, 1)
    relay.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    # An overwrite makes it untrue again, until it too has arrived.
    relay.refuse()
    client.put_object(Bucket=bucket, Key="k", Body=b"xyz")
    until(lambda: inventory.rows(bucket)[0]["size"] == 3, "the row of the overwritten key")
    assert inventory.rows(bucket)[0]["is_backed_up"] is False
    relay.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_table_that_takes_no_rows_holds_up_no_other(lab):
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings())
    stuck, fine = lab.bucket("stuck"), lab.bucket("fine")
    client = lab.client(proxy)
    for bucket in (stuck, fine):
        client.put_object(Bucket=bucket, Key="first", Body=b"x")
    lab.assert_converged(proxy, stuck, fine, inventory=inventory)
    table = table_of(stuck)
    with inventory.cluster.connect(inventory.database) as database:
        # As a person may do, who forgets that others write the table.
        database.execute(f'ALTER TABLE "{table}" ADD COLUMN mine TEXT')
        database.execute(f"UPDATE \"{table}\" SET mine = 'x'")
        database.execute(f'ALTER TABLE "{table}" ALTER COLUMN mine SET NOT NULL')

    def fill(bucket, numbers):
        def write(first):
            own = lab.client(proxy)
            for number in numbers[first::8]:
                own.put_object(Bucket=bucket, Key=f"k{number}", Body=b"x")

        with ThreadPoolExecutor(8) as writers:
            list(writers.map(write, range(8)))

    fill(stuck, range(1300))
    fill(fine, range(50))
    until(lambda: len(inventory.rows(fine)) == 51, "the rows of the other bucket", 5)
    waits = [line for line in proxy.log_lines() if line["message"] == "rows of a bucket wait"]
    assert {line["bucket"] for line in waits} == {stuck} and "mine" in waits[0]["error"]
    assert len(waits) < 20, "told once in a while, and not for every row"

    def findings():
        health = json.loads(proxy.admin("/api/v1/health?late_seconds=3")[2])
        return [finding["what"] for finding in health["findings"]]

    until(lambda: any("takes no rows" in what for what in findings()), "the trouble to be told")
    with inventory.cluster.connect(inventory.database) as database:
        database.execute(f'ALTER TABLE "{table}" DROP COLUMN mine')
    lab.assert_converged(proxy, stuck, fine, inventory=inventory)
    assert findings() == []


def test_two_buckets_that_want_the_same_table_name_have_a_table_each(steady):
    lab, proxy, inventory = steady
    client = lab.client(proxy)
    buckets = ["same-name", "same.name"]
    for bucket in buckets:
        lab.s3_main.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=f"in {bucket}", Body=b"x")
        proxy.wait_drained()
    tables = inventory.query(
        "SELECT tablename FROM pg_tables WHERE tablename LIKE 'bucket\\_same\\_name%' ORDER BY 1"
    )
    names = [row["tablename"] for row in tables]
    assert len(names) == 2 and names[0] == "bucket_same_name", names
    content = [inventory.query(f'SELECT path FROM "{name}"') for name in names]
    assert content == [[{"path": "in same-name"}], [{"path": "in same.name"}]]


def test_a_bucket_name_of_63_characters_has_a_table(steady):
    lab, proxy, inventory = steady
    bucket = "long-" + "n" * 58
    lab.s3_main.create_bucket(Bucket=bucket)
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    proxy.wait_drained()
    tables = inventory.query("SELECT tablename FROM pg_tables WHERE tablename LIKE 'bucket_long%'")
    assert len(tables) == 1
    assert inventory.query(f'SELECT path FROM "{tables[0]["tablename"]}"') == [{"path": "k"}]


def test_a_table_of_an_earlier_deployment_is_taken_over(lab):
    inventory = lab.postgres()
    bucket = lab.bucket("inherited")
    table = table_of(bucket)
    with inventory.cluster.connect(inventory.database) as connection:
        connection.execute(
            f"""
CREATE TABLE {table} (
    id SERIAL PRIMARY KEY,
    path TEXT UNIQUE NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    is_backed_up BOOLEAN DEFAULT FALSE,
    last_modified TIMESTAMP NOT NULL,
    deleted BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW()
);
CREATE INDEX idx_{table}_path ON {table}(path);
CREATE INDEX idx_{table}_backup ON {table}(is_backed_up);
CREATE INDEX idx_{table}_deleted ON {table}(deleted);
INSERT INTO {table} (path, size, content_type, last_modified)
    VALUES ('old', 7, 'a/b', '2020-01-01'), ('k', 9, 'a/b', '2020-01-01');
"""
        )
    proxy = lab.proxy(inventory.settings())
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"new", ContentType="c/d")
    proxy.wait_drained()
    rows = {row["path"]: row for row in inventory.rows(bucket)}
    assert rows["old"]["size"] == 7 and not rows["old"]["is_backed_up"]
    assert (rows["k"]["id"], rows["k"]["size"], rows["k"]["content_type"]) == (2, 3, "c/d")
    assert rows["k"]["is_backed_up"]


def test_without_postgresql_the_same_tables_are_in_sqlite(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("embedded")
    fill(proxy, lab.client(proxy), bucket)
    inventory = lab.sqlite(proxy)
    lab.assert_converged(proxy, bucket, inventory=inventory)
    table = table_of(bucket)
    columns = inventory.query(f"SELECT name FROM pragma_table_info('{table}')")
    assert [column["name"] for column in columns][: len(COLUMNS)] == [name for name, *_ in COLUMNS]
    waiting = inventory.query(
        f"SELECT * FROM {table}\nWHERE is_backed_up = FALSE AND deleted = FALSE;"
    )
    assert waiting == []
    total = inventory.query(f"SELECT SUM(size) as total_bytes\nFROM {table} WHERE deleted = FALSE;")
    listed = s3.every_key(lab.s3_main, bucket)
    assert total[0]["total_bytes"] == sum(entry["Size"] for entry in listed.values())


def test_mirror_only_mode_mirrors_and_keeps_no_inventory(lab):
    database = lab.postgres()
    proxy = lab.proxy({**database.settings(), "DISABLE_DATABASE": "true"})
    bucket = lab.bucket("mirroronly")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(proxy, bucket)
    tables = database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert tables == []
    assert lab.sqlite(proxy).files() == []


def test_the_proxy_starts_and_serves_before_the_database_is_there(lab):
    relay = lab.closing(FaultProxy(lab.cluster.address))
    relay.refuse()
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(relay.address), start=False)
    proxy.process.spawn()
    proxy.process.wait_ready(lambda: accepts(proxy.port), "a listener")
    bucket = lab.bucket("before")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    until(lambda: "k" in lab.keys_on_mirror(bucket), "the object on the mirror")
    until(lambda: proxy.status()["inventory"]["pending_rows"] == 1, "its row to wait")
    relay.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)


@pytest.mark.parametrize("form", ["parts", "url"])
def test_the_database_may_be_named_by_url_or_by_parts(lab, form):
    inventory = lab.postgres()
    cluster = lab.cluster
    settings = inventory.settings()
    if form == "parts":
        settings = {
            "POSTGRES_HOST": cluster.host,
            "POSTGRES_PORT": str(cluster.port),
            "POSTGRES_USER": cluster.user,
            "POSTGRES_PASSWORD": cluster.password,
            "POSTGRES_DB": inventory.database,
            "POSTGRES_SSLMODE": "disable",
        }
    proxy = lab.proxy(settings)
    bucket = lab.bucket("named")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(proxy, bucket, inventory=inventory)

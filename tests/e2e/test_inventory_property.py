"""A property of the inventory: after any traffic every row tells what main has, in every column.

Random operations of every kind that changes an object, one after the other, against a model of
nothing: main itself is the model. `E2E_SEED` repeats a run.
"""

import pytest

from support import s3
from support.inventory import table_of
from support.lab import seeded_random
from test_forms import presigned, send

STEPS = 70
KEYS = [f"k{number}" for number in range(8)] + ["a b/ü+%", 'quote"\'; --', "line\nend", "日本/🦀"]
TYPES = ["text/plain", "image/png", "application/json; charset=utf-8"]


class Traffic:
    """Operations on a few keys; each names the keys that it changed."""

    def __init__(self, clients, main, bucket, rng):
        self.clients, self.main, self.bucket, self.rng = clients, main, bucket, rng
        self.changed = set()

    def step(self):
        kinds = [
            self.put, self.put_untyped, self.form, self.copy, self.metadata_only, self.multipart,
            self.delete, self.delete_several, self.restore, self.tag,
        ]  # fmt: skip
        self.client = self.rng.choice(self.clients)
        self.rng.choice(kinds)(self.rng.choice(KEYS))

    def there(self):
        return sorted(s3.every_key(self.main, self.bucket))

    def body(self):
        return self.rng.randbytes(self.rng.choice((0, 1, 1000, 70_000)))

    def put(self, key):
        kind = self.rng.choice(TYPES)
        self.client.put_object(Bucket=self.bucket, Key=key, Body=self.body(), ContentType=kind)
        self.changed.add(key)

    def put_untyped(self, key):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=self.body())
        self.changed.add(key)

    def form(self, key):
        fields = {"Content-Type": self.rng.choice(TYPES)}
        url, fields = presigned(self.client, self.bucket, key=key, fields=fields)
        answer = send(url, fields, self.body())
        assert answer.status == 204, answer.data
        self.changed.add(key)

    def copy(self, key):
        source = self.rng.choice(self.there() or [None])
        if source in (None, key):
            return
        self.client.copy_object(
            Bucket=self.bucket, Key=key, CopySource={"Bucket": self.bucket, "Key": source}
        )
        self.changed.add(key)

    def metadata_only(self, _):
        key = self.rng.choice(self.there() or [None])
        if key is None:
            return
        self.client.copy_object(
            Bucket=self.bucket,
            Key=key,
            CopySource={"Bucket": self.bucket, "Key": key},
            MetadataDirective="REPLACE",
            ContentType=self.rng.choice(TYPES),
            Metadata={"n": str(self.rng.randrange(1000))},
        )
        self.changed.add(key)

    def multipart(self, key):
        parts = [b"p" * (5 * 1024 * 1024), self.body()]
        s3.put_multipart(self.client, self.bucket, key, parts, ContentType="video/mp4")
        self.changed.add(key)

    def delete(self, key):
        self.client.delete_object(Bucket=self.bucket, Key=key)
        self.changed.add(key)

    def delete_several(self, _):
        chosen = self.rng.sample(KEYS, 3)
        self.client.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in chosen]}
        )
        self.changed.update(chosen)

    def restore(self, key):
        """Deleted and back at once, quicker than either may have a row."""
        self.client.delete_object(Bucket=self.bucket, Key=key)
        self.put(key)

    def tag(self, _):
        key = self.rng.choice(self.there() or [None])
        if key is None:
            return
        tags = [{"Key": "n", "Value": str(self.rng.randrange(1000))}]
        self.client.put_object_tagging(Bucket=self.bucket, Key=key, Tagging={"TagSet": tags})


def row_faults(main, bucket, rows):
    """Every way in which a row does not tell what main has."""
    faults = []
    listed = s3.every_key(main, bucket)
    by_path = {row["path"]: row for row in rows}
    if len(by_path) != len(rows):
        faults.append("a key has two rows")
    for key in listed.keys() - by_path.keys():
        faults.append(f"{key!r} has no row")
    for path, row in by_path.items():
        told = {"deleted": path not in listed, "is_backed_up": True, "last_error": None}
        if path in listed:
            head = main.head_object(Bucket=bucket, Key=path)
            told |= {
                "size": head["ContentLength"],
                "content_type": head["ContentType"],
                "etag": head["ETag"].strip('"'),
                "version_id": head.get("VersionId"),
                "last_modified": head["LastModified"].replace(tzinfo=None),
            }
        for column, value in told.items():
            found = row[column]
            if column == "last_modified":
                found = found.replace(microsecond=0)
            if found != value:
                faults.append(f"{path!r} {column}: main {value!r}, row {found!r}")
        if row["mirrored_at"] is None or row["updated_at"] < row["created_at"]:
            faults.append(f"{path!r}: times {row}")
    return faults


@pytest.mark.parametrize("kind", ["postgres, two proxies", "sqlite"])
def test_after_any_traffic_every_column_of_every_row_is_main_s(lab, kind):
    rng = seeded_random("inventory property")
    if kind.startswith("postgres"):
        inventory = lab.postgres()
        proxies = [lab.proxy(inventory.settings()) for _ in range(2)]
    else:
        proxies = [lab.proxy()]
        inventory = lab.sqlite(proxies[0])
    bucket = lab.bucket("property")
    clients = [lab.client(proxy) for proxy in proxies]
    traffic = Traffic(clients, lab.s3_main, bucket, rng)
    before = {}
    for round_ in range(2):
        traffic.changed.clear()
        for _ in range(STEPS // 2):
            traffic.step()
        for proxy in proxies:
            proxy.wait_drained()
        rows = inventory.rows(bucket)
        faults = row_faults(lab.s3_main, bucket, rows)
        assert not faults, "\n".join(faults)
        after = {row["path"]: row for row in rows}
        assert traffic.changed <= after.keys(), f"round {round_}"
        for key in traffic.changed & before.keys():
            assert after[key]["updated_at"] > before[key]["updated_at"], f"{key!r} did not move"
            assert after[key]["id"] == before[key]["id"]
            assert after[key]["created_at"] == before[key]["created_at"]
        before = after
    if kind.startswith("postgres"):
        # The documented sums are those of main.
        total = inventory.query(
            f"SELECT SUM(size) as total_bytes FROM {table_of(bucket)} WHERE deleted = FALSE;"
        )[0]["total_bytes"]
        listed = s3.every_key(lab.s3_main, bucket)
        assert int(total or 0) == sum(entry["Size"] for entry in listed.values())
        summary = inventory.query(
            "SELECT objects, total_bytes, pending_backup FROM s3_mirror_bucket_summary "
            "WHERE bucket = %s", [bucket],
        )[0]  # fmt: skip
        assert summary["objects"] == len(listed) and summary["pending_backup"] == 0
        assert inventory.query("SELECT * FROM s3_mirror_pending") == []

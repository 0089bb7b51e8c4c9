"""The inventory's `version_id` on a versioned main: of every row the version that is current.

A row of a deleted key keeps the columns of the last object it told, the version among them; version
`null`, which a write without versioning has, is no version and stands there as NULL.
"""

import csv
import io
import json

import pytest

from support import operator, s3
from support.lab import Lab, seeded_random
from support.poll import until
from support.tcp import FaultProxy
from test_inventory_property import KEYS, Traffic, row_faults
from test_versions import drop, listed, ours_only, put, switch, versioned
from test_versions import stores as versioning_stores

stores = versioning_stores


@pytest.fixture
def vlab(stores, cluster, tmp_path):
    laboratory = Lab(*stores, cluster, tmp_path)
    yield laboratory
    laboratory.close()


@pytest.fixture(params=["postgres", "sqlite"])
def start(request, vlab):
    """Starts a proxy; yields it with the inventory it writes."""

    def start(**options):
        if request.param == "sqlite":
            proxy = vlab.proxy(**options)
            return proxy, vlab.sqlite(proxy)
        inventory = vlab.postgres()
        return vlab.proxy(inventory.settings(), **options), inventory

    return start


def row(inventory, bucket, key="k"):
    rows = [each for each in inventory.rows(bucket) if each["path"] == key]
    assert len(rows) == 1, rows
    return rows[0]


def shown(inventory, bucket, key="k"):
    """(version, is the object gone?, does the mirror have it?)"""
    found = row(inventory, bucket, key)
    return found["version_id"], bool(found["deleted"]), bool(found["is_backed_up"])


def test_a_row_names_the_current_version_after_every_kind_of_write(vlab, start):
    proxy, inventory = start()
    bucket = versioned(vlab)
    client = vlab.client(proxy)

    def newest():
        proxy.wait_drained()
        return listed(vlab.s3_main, bucket, "k")[-1]

    def check(answered, etag):
        assert newest() == (answered, False), "the test's own idea of what is current"
        assert shown(inventory, bucket) == (answered, False, True)
        assert row(inventory, bucket)["etag"] == etag.strip('"')

    first = client.put_object(Bucket=bucket, Key="k", Body=b"one")
    check(first["VersionId"], first["ETag"])
    again = client.put_object(Bucket=bucket, Key="k", Body=b"two")
    check(again["VersionId"], again["ETag"])
    same = client.put_object(Bucket=bucket, Key="k", Body=b"two")
    assert same["VersionId"] != again["VersionId"]
    check(same["VersionId"], same["ETag"])
    parts = s3.put_multipart(client, bucket, "k", [b"a" * (5 << 20), b"tail"])
    check(parts["VersionId"], parts["ETag"])
    source = {"Bucket": bucket, "Key": "k", "VersionId": first["VersionId"]}
    copied = client.copy_object(Bucket=bucket, Key="k", CopySource=source)
    check(copied["VersionId"], copied["CopyObjectResult"]["ETag"])
    renamed = client.copy_object(
        Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"},
        MetadataDirective="REPLACE", ContentType="text/html",
    )  # fmt: skip
    check(renamed["VersionId"], renamed["CopyObjectResult"]["ETag"])
    # Tags make no version, whichever version they are put on.
    for version in (None, first["VersionId"]):
        named = {"VersionId": version} if version else {}
        tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
        client.put_object_tagging(Bucket=bucket, Key="k", Tagging=tags, **named)
        check(renamed["VersionId"], renamed["CopyObjectResult"]["ETag"])


def test_a_delete_marker_hides_the_object_and_its_removal_brings_the_version_back(vlab, start):
    proxy, inventory = start()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "k", b"one")
    current = put(client, bucket, "k", b"two")
    proxy.wait_drained()
    marker = client.delete_object(Bucket=bucket, Key="k")["VersionId"]
    proxy.wait_drained()
    assert shown(inventory, bucket) == (current, True, True)
    drop(client, bucket, "k", marker)
    proxy.wait_drained()
    assert shown(inventory, bucket) == (current, False, True)
    # Markers of DeleteObjects, told and untold, and then a new object over the last of them.
    for quiet in (False, True):
        delete = {"Objects": [{"Key": "k"}], "Quiet": quiet}
        client.delete_objects(Bucket=bucket, Delete=delete)
        proxy.wait_drained()
        assert shown(inventory, bucket) == (current, True, True)
    newer = put(client, bucket, "k", b"three")
    proxy.wait_drained()
    assert shown(inventory, bucket) == (newer, False, True)


@pytest.mark.parametrize("how", ["one by one", "DeleteObjects"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"FENCE": "overlap"}, {"MIRROR_VERSIONS": "false"}, {"MIRROR_DELETES": "ignore"}],
    ids=["always", "overlap", "versions_left_alone", "deletes_ignored"],
)
def test_when_a_version_is_deleted_by_its_id_the_row_shows_what_is_current(
    vlab, start, settings, how
):
    proxy, inventory = start(**settings)
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    ids = [put(client, bucket, "k", body) for body in (b"one", b"two", b"three")]
    proxy.wait_drained()

    def delete(version):
        if how == "one by one":
            drop(client, bucket, "k", version)
        else:
            objects = [{"Key": "k", "VersionId": version}]
            client.delete_objects(Bucket=bucket, Delete={"Objects": objects})
        proxy.wait_drained()

    # One below the top changes nothing; the top gives way to the one below.
    delete(ids[1])
    assert shown(inventory, bucket)[:2] == (ids[2], False)
    assert row(inventory, bucket)["size"] == len(b"three")
    delete(ids[2])
    assert shown(inventory, bucket)[:2] == (ids[0], False)
    assert row(inventory, bucket)["size"] == len(b"one")
    delete(ids[0])
    # Nothing is left: the row keeps the last object's columns and says that it is gone.
    assert shown(inventory, bucket)[:2] == (ids[0], True)


def test_while_versioning_is_suspended_a_row_has_no_version(vlab, start):
    proxy, inventory = start()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    before = put(client, bucket, "k", b"kept")
    switch(client, bucket, "Suspended")
    put(client, bucket, "k", b"null")
    proxy.wait_drained()
    assert shown(inventory, bucket) == (None, False, True)
    # Deleting version `null` by its ID uncovers the one from before.
    drop(client, bucket, "k", "null")
    proxy.wait_drained()
    assert shown(inventory, bucket) == (before, False, True)
    switch(client, bucket, "Enabled")
    after = put(client, bucket, "k", b"again")
    proxy.wait_drained()
    assert shown(inventory, bucket) == (after, False, True)


def test_before_the_mirror_has_it_the_row_names_the_version_already(vlab, start):
    relay = vlab.closing(FaultProxy(vlab.mirror.address))
    proxy, inventory = start(mirror_endpoint=relay.endpoint)
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    first = put(client, bucket, "k", b"one")
    proxy.wait_drained()
    relay.refuse()
    second = put(client, bucket, "k", b"two")
    until(lambda: shown(inventory, bucket) == (second, False, False), "the row of the second")
    drop(client, bucket, "k", second)
    until(lambda: shown(inventory, bucket)[0] == first, "the row of what is current again")
    relay.forward()
    proxy.wait_drained()
    assert shown(inventory, bucket) == (first, False, True)


def test_after_kills_rows_name_the_current_version(vlab, start):
    rng = seeded_random("inventory versions")
    proxy, inventory = start()
    bucket = versioned(vlab)
    keys = ["a", "b", "c"]
    for _ in range(4):
        client = vlab.client(proxy)
        for _ in range(rng.randrange(5, 25)):
            key, there = rng.choice(keys), []
            there = [version for version, _ in listed(vlab.s3_main, bucket, key)]
            kind = rng.choice(("put", "put", "delete", "drop"))
            if kind == "drop" and there:
                drop(client, bucket, key, rng.choice(there))
            elif kind == "delete":
                client.delete_object(Bucket=bucket, Key=key)
            else:
                put(client, bucket, key, rng.randbytes(rng.choice((1, 100))))
        proxy.kill()
        proxy.start()
    proxy.wait_drained()
    for key in keys:
        versions = listed(vlab.s3_main, bucket, key)
        current = versions[-1] if versions else (None, True)
        found = row(inventory, bucket, key)
        assert bool(found["deleted"]) == current[1], key
        if not current[1]:
            assert found["version_id"] == current[0], key


class Versions(Traffic):
    """The traffic of the property test, with deletes of versions among it."""

    def step(self):
        self.client = self.rng.choice(self.clients)
        kinds = [
            self.put, self.put_untyped, self.copy, self.metadata_only, self.multipart, self.delete,
            self.delete_several, self.restore, self.tag, self.drop, self.drop,
        ]  # fmt: skip
        self.rng.choice(kinds)(self.rng.choice(KEYS))

    def drop(self, key):
        there = listed(self.main, self.bucket, key)
        if there:
            drop(self.client, self.bucket, key, self.rng.choice(there)[0])


@ours_only
def test_after_any_traffic_of_two_proxies_every_column_is_main_s_versions_included(vlab):
    rng = seeded_random("inventory version property")
    inventory = vlab.postgres()
    proxies = [vlab.proxy(inventory.settings()) for _ in range(2)]
    bucket = versioned(vlab)
    traffic = Versions([vlab.client(proxy) for proxy in proxies], vlab.s3_main, bucket, rng)
    for _ in range(2):
        for _ in range(40):
            traffic.step()
        for proxy in proxies:
            proxy.wait_drained()
        rows = inventory.rows(bucket)
        # Of a key whose versions are all gone a row may be left that no write of this round made.
        faults = row_faults(vlab.s3_main, bucket, rows)
        assert not faults, "\n".join(faults)
        assert any(each["version_id"] for each in rows)


def test_the_manifest_for_s3_batch_names_current_versions(vlab, start):
    proxy, inventory = start()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "k", b"old")
    wanted = {("k", put(client, bucket, "k", b"new")), ("a b", put(client, bucket, "a b", b"x"))}
    put(client, bucket, "gone", b"x")
    client.delete_object(Bucket=bucket, Key="gone")
    switch(client, bucket, "Suspended")
    put(client, bucket, "unversioned", b"x")
    proxy.wait_drained()
    environment = {name: str(value) for name, value in proxy.settings.items()}

    def export(*arguments, code=0):
        got, out, err = operator.run_to_end(
            [operator.binary(), "inventory", "export", "--bucket", bucket, *arguments],
            environment=environment,
        )
        assert got == code, err
        return out, err

    told, err = export("--format", "s3-batch", "--versions", code=3)
    lines = list(csv.reader(io.StringIO(told)))
    assert {(key.replace("%20", " "), version) for _, key, version in lines} == wanted
    assert "unversioned" in err, "a key that cannot be named is told"
    told = [json.loads(line) for line in export("--format", "ndjson")[0].splitlines()]
    assert {each["path"]: each["version_id"] for each in told} == {
        **dict(wanted), "unversioned": None
    }  # fmt: skip


@ours_only
def test_an_import_and_a_check_beside_versions_leave_them_right(vlab, start):
    proxy, inventory = start()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    known = put(client, bucket, "known", b"x")
    proxy.wait_drained()
    # Behind the proxy's back: a new key, and a new version of the one that is known.
    added = put(vlab.s3_main, bucket, "added", b"y")
    newer = put(vlab.s3_main, bucket, "known", b"newer")
    environment = {name: str(value) for name, value in proxy.settings.items()}

    def inventory_command(*arguments, code=0):
        got, out, err = operator.run_to_end(
            [operator.binary(), "inventory", *arguments, "--bucket", bucket],
            environment=environment,
        )
        assert got == code, (out, err)

    inventory_command("import")
    # A listing tells no versions: none is better than the wrong one.
    assert row(inventory, bucket, "known")["version_id"] in (None, newer)
    assert row(inventory, bucket, "known")["version_id"] != known
    assert row(inventory, bucket, "added")["version_id"] in (None, added)
    inventory_command("import", "--head")
    assert row(inventory, bucket, "known")["version_id"] == newer
    assert row(inventory, bucket, "added")["version_id"] == added
    inventory_command("check")

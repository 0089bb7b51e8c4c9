"""Versioned buckets: every version and delete marker reaches a versioning mirror, in order.

Against a store of the suite's own that truly keeps versions, because the embedded one has none.
VERSIONED_MAIN and VERSIONED_MIRROR (`endpoint,access key,secret key`) name real ones instead;
`scripts/rgw/up.sh` starts two. Tests that need to look into the store are left out then.
"""

import json
import os
import random
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest

from support import operator, s3
from support.lab import Lab, seeded_random
from support.poll import until
from support.stores import Credentials
from support.tcp import FaultProxy
from support.versioned import VersionedStore
from support.versions import Refused

REAL = bool(os.environ.get("VERSIONED_MAIN"))
ours_only = pytest.mark.skipif(REAL, reason="looks into the stand-in")


class RealStore:
    def __init__(self, text):
        self.endpoint, access_key, secret_key = text.split(",")
        self.credentials = Credentials(access_key, secret_key)
        url = urllib.parse.urlsplit(self.endpoint)
        self.address = (url.hostname, url.port)

    def close(self):
        pass


@pytest.fixture
def stores():
    if REAL:
        names = ("VERSIONED_MAIN", "VERSIONED_MIRROR")
        pair = [RealStore(os.environ[name]) for name in names]
    else:
        pair = [VersionedStore("main"), VersionedStore("mirror")]
    yield pair
    for store in pair:
        store.close()


@pytest.fixture
def vlab(stores, tmp_path):
    laboratory = Lab(*stores, None, tmp_path)
    yield laboratory
    laboratory.close()


def versioned(lab, label="versions", mirror=True):
    """A bucket with versioning on main, and its mirror bucket, with versioning if so wished."""
    bucket = f"{label}-{os.urandom(4).hex()}"
    for client, versions in ((lab.s3_main, True), (lab.s3_mirror, mirror)):
        client.create_bucket(Bucket=bucket)
        if versions:
            switch(client, bucket, "Enabled")
    return bucket


def switch(client, bucket, status):
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def listed(client, bucket, key):
    """[(version ID, is it a delete marker?)] of a key in the order of the list, oldest first.

    boto3 puts versions and markers into two lists and so loses their order.
    """
    documents = []
    event = "before-parse.s3.ListObjectVersions"

    def keep(response_dict, **_):
        documents.append(response_dict["body"])

    client.meta.events.register(event, keep)
    try:
        for _ in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
            pass
    finally:
        client.meta.events.unregister(event, keep)
    found = []
    for document in documents:
        for item in ElementTree.fromstring(document):
            kind = item.tag.partition("}")[2] or item.tag
            name = urllib.parse.unquote(item.findtext("{*}Key") or item.findtext("Key") or "")
            if kind in ("Version", "DeleteMarker") and name == key:
                found.append((item.findtext("{*}VersionId"), kind == "DeleteMarker"))
    return found[::-1]


def stack(client, bucket, key):
    """What the versions of a key hold, oldest first; None is a delete marker."""
    versions = []
    for version, marker in listed(client, bucket, key):
        if marker:
            versions.append(None)
            continue
        one = {"Bucket": bucket, "Key": key, "VersionId": version}
        answer = client.get_object(**one)
        tags = client.get_object_tagging(**one)["TagSet"]
        versions.append(
            (
                answer["Body"].read(),
                answer["ETag"],
                answer["ContentType"],
                tuple(sorted(answer["Metadata"].items())),
                tuple(sorted((tag["Key"], tag["Value"]) for tag in tags)),
            )
        )
    return versions


def contains(whole, part):
    """Does `whole` hold all of `part` in order, whatever stands between, and end as it ends?"""
    rest = iter(whole)
    return all(any(each == wanted for each in rest) for wanted in part) and whole[-1:] == part[-1:]


def assert_same(lab, proxy, bucket, *keys, timeout=30):
    """Every version of main is on the mirror, in the same order and with nothing beside it."""
    proxy.wait_drained(timeout)
    for key in keys:
        main, mirror = (stack(client, bucket, key) for client in (lab.s3_main, lab.s3_mirror))
        assert mirror == main, f"{key}: {len(main)} versions on main, {len(mirror)} on the mirror"


def put(client, bucket, key, body, **more):
    answer = client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/plain", **more)
    return answer.get("VersionId")


def drop(client, bucket, key, version):
    client.delete_object(Bucket=bucket, Key=key, VersionId=version)


def every_kind(client, bucket, key):
    """A version of every kind, one after the other."""
    put(client, bucket, key, b"one", Metadata={"number": "1"}, Tagging="a=1&b=2")
    put(client, bucket, key, b"two")
    put(client, bucket, key, b"two")
    client.delete_object(Bucket=bucket, Key=key)
    put(client, bucket, key, b"")
    client.copy_object(
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": bucket, "Key": key},
        MetadataDirective="REPLACE",
        Metadata={"number": "6"},
        ContentType="text/html",
    )
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    s3.put_multipart(client, bucket, key, [b"a" * (5 << 20), b"tail"], ContentType="text/plain")
    quiet = {"Objects": [{"Key": key}], "Quiet": True}
    client.delete_objects(Bucket=bucket, Delete=quiet)
    put(client, bucket, key, b"x" * 100_000, Metadata={"number": "last"})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"FENCE": "overlap"},
        {"FENCE": "overlap", "TEE_MEMORY_BYTES": 0, "TEE_SPOOL_BYTES": 0},
    ],
    ids=["always", "overlap", "no_tee"],
)
def test_every_version_and_delete_marker_is_kept_in_order(vlab, settings):
    proxy = vlab.proxy(**settings)
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    keys = ["k", "k/under", "ü +&/%", "k2"]
    for key in keys:
        every_kind(client, bucket, key)
    assert len(listed(vlab.s3_main, bucket, "k")) == 10
    assert_same(vlab, proxy, bucket, *keys)
    rows = {row["path"]: row for row in vlab.sqlite(proxy).rows(bucket)}
    newest = listed(vlab.s3_main, bucket, "k")[-1][0]
    assert rows["k"]["is_backed_up"] and rows["k"]["version_id"] == newest


def test_versions_written_while_the_mirror_is_away_arrive_in_order(vlab):
    relay = vlab.closing(FaultProxy(vlab.mirror.address))
    proxy = vlab.proxy(mirror_endpoint=relay.endpoint)
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "k", b"before")
    proxy.wait_drained()
    relay.refuse()
    # Content that comes again is the hard case: what is there already cannot be told by it alone.
    for number in range(12):
        for key in ("k", "new"):
            put(client, bucket, key, b"ab"[number % 2 : number % 2 + 1])
        if number % 5 == 4:
            client.delete_object(Bucket=bucket, Key="k")
    # Entries of one key stand for each other here too: the backlog is one operation per key.
    assert proxy.status()["mirror"]["pending_operations"] == 2
    proxy.kill()
    proxy.start()
    relay.forward()
    assert_same(vlab, proxy, bucket, "k", "new")


def test_more_versions_than_a_page_arrive_in_order(vlab):
    relay = vlab.closing(FaultProxy(vlab.mirror.address))
    proxy = vlab.proxy(mirror_endpoint=relay.endpoint, DISABLE_DATABASE="true")
    bucket = versioned(vlab)
    put(vlab.client(proxy), bucket, "k", b"before")
    proxy.wait_drained()
    relay.refuse()
    client = vlab.client(proxy)
    for number in range(1100):
        client.put_object(Bucket=bucket, Key="k", Body=b"%d" % (number % 700))
    relay.forward()
    proxy.wait_drained(300 if REAL else 60)
    bodies = []
    for client in (vlab.s3_main, vlab.s3_mirror):
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix="k")
        bodies.append([each["ETag"] for page in pages for each in page["Versions"]])
    assert len(bodies[0]) == 1101 and bodies[0] == bodies[1]


def test_kills_lose_no_version_and_leave_main_s_order(vlab):
    rng = seeded_random("versions")
    relay = vlab.closing(FaultProxy(vlab.mirror.address))
    proxy = vlab.proxy(mirror_endpoint=relay.endpoint)
    bucket = versioned(vlab)
    keys = ["a", "b", "c"]
    for _ in range(6):
        stop, acknowledged = threading.Event(), []

        def write(seed, stop=stop, acknowledged=acknowledged):
            mine = random.Random(seed)
            client = vlab.client(proxy)
            while not stop.is_set():
                key = mine.choice(keys)
                try:
                    if mine.random() < 0.2:
                        client.delete_object(Bucket=bucket, Key=key)
                    else:
                        put(client, bucket, key, b"%d" % mine.randrange(3))
                except Exception:
                    if not stop.is_set():
                        # The proxy has been killed.
                        return
                acknowledged.append(key)

        writers = [threading.Thread(target=write, args=(rng.random(),)) for _ in range(3)]
        for writer in writers:
            writer.start()
        wanted = rng.choice((3, 10, 25))
        until(lambda done=acknowledged, n=wanted: len(done) >= n, "some writes", 60, 0.002)
        if rng.random() < 0.5:
            relay.cut()
        proxy.kill()
        stop.set()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        proxy.start()
    proxy.wait_drained(60)
    for key in keys:
        main, mirror = (stack(client, bucket, key) for client in (vlab.s3_main, vlab.s3_mirror))
        assert contains(mirror, main), f"{key}: {len(main)} on main, {len(mirror)} on the mirror"


@ours_only
def test_a_version_whose_answer_never_came_is_found_by_asking_main(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "k", b"one")
    vlab.main.lose = lambda request: request[0] == "PUT" and request[3].get("x-amz-meta-lost")
    for body in (b"lost", b"lost too"):
        with pytest.raises(Exception, match="InternalError"):
            put(client, bucket, "k", body, Metadata={"lost": "yes"})
    vlab.main.lose = lambda request: False
    proxy.kill()
    proxy.start()
    put(client, bucket, "k", b"last")
    assert_same(vlab, proxy, bucket, "k")
    assert len(listed(vlab.s3_mirror, bucket, "k")) == 4


def bodies(client, bucket, key):
    return [version and (version[0], *version[2:]) for version in stack(client, bucket, key)]


@pytest.mark.parametrize("opaque", ["main", "mirror"])
@pytest.mark.parametrize("fence", ["always", "overlap"])
@ours_only
def test_versions_whose_etags_tell_nothing_are_appended_once(tmp_path, opaque, fence):
    # As where a side encrypts with keys of its own (SSE-KMS).
    pair = [VersionedStore(name, opaque=name == opaque) for name in ("main", "mirror")]
    lab = Lab(*pair, None, tmp_path)
    try:
        proxy = lab.proxy(FENCE=fence)
        bucket = versioned(lab)
        client = lab.client(proxy)
        every_kind(client, bucket, "k")

        # One after the other, while they are copied: of writes that overlap a version may stand twice.
        for number in range(60):
            put(client, bucket, "hot", b"%d" % number)
        proxy.wait_drained(60)
        tags = {"TagSet": [{"Key": "late", "Value": "1"}]}
        client.put_object_tagging(Bucket=bucket, Key="hot", Tagging=tags)
        proxy.wait_drained(60)
        for key in ("k", "hot"):
            main, mirror = (bodies(side, bucket, key) for side in (lab.s3_main, lab.s3_mirror))
            assert mirror == main, f"{key}: {len(main)} on main, {len(mirror)} on the mirror"
        ids = [version for version, _ in listed(lab.s3_main, bucket, "hot")]
        drop(client, bucket, "hot", ids[7])
        proxy.wait_drained(60)
        assert bodies(lab.s3_mirror, bucket, "hot") == bodies(lab.s3_main, bucket, "hot")
    finally:
        lab.close()
        for store in pair:
            store.close()


@ours_only
def test_a_copy_whose_answer_was_lost_is_not_made_twice(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab)
    lost = []

    def lose(request):
        if request[0] == "PUT" and request[1].startswith(bucket) and len(lost) < 3:
            lost.append(request)
            return True
        return False

    vlab.mirror.lose = lose
    client = vlab.client(proxy)
    for body in (b"one", b"two", b"three"):
        put(client, bucket, "k", body)
    assert_same(vlab, proxy, bucket, "k")
    assert len(lost) == 3


def test_a_deleted_version_is_deleted_on_the_mirror_and_no_other(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    ids = [put(client, bucket, "k", body) for body in (b"one", b"two", b"three", b"two")]
    client.delete_object(Bucket=bucket, Key="k")
    proxy.wait_drained()
    drop(client, bucket, "k", ids[1])
    assert_same(vlab, proxy, bucket, "k")
    # The marker, which brings the object back; then the newest; then several at once.
    drop(client, bucket, "k", listed(vlab.s3_main, bucket, "k")[-1][0])
    assert_same(vlab, proxy, bucket, "k")
    assert vlab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    drop(client, bucket, "k", ids[3])
    assert_same(vlab, proxy, bucket, "k")
    rest = [{"Key": "k", "VersionId": version} for version, _ in listed(vlab.s3_main, bucket, "k")]
    client.delete_objects(Bucket=bucket, Delete={"Objects": rest, "Quiet": True})
    assert_same(vlab, proxy, bucket, "k")
    assert listed(vlab.s3_mirror, bucket, "k") == []


def test_ignored_deletes_of_versions_leave_the_mirror_s_and_its_current_state_follows_main(vlab):
    proxy = vlab.proxy(MIRROR_DELETES="ignore")
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    ids = [put(client, bucket, "k", body) for body in (b"one", b"two", b"three")]
    proxy.wait_drained()
    drop(client, bucket, "k", ids[2])
    proxy.wait_drained()
    assert vlab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    bodies = [version[0] for version in stack(vlab.s3_mirror, bucket, "k")]
    assert bodies[:3] == [b"one", b"two", b"three"]
    client.delete_object(Bucket=bucket, Key="k")
    proxy.wait_drained()
    assert listed(vlab.s3_mirror, bucket, "k")[-1][1], "a delete marker takes nothing away"


def test_a_delayed_delete_of_a_version_comes_in_its_time_over_a_restart(vlab):
    proxy = vlab.proxy(MIRROR_DELETES="delay:4s")
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    ids = [put(client, bucket, "k", body) for body in (b"one", b"two", b"three")]
    proxy.wait_drained()
    drop(client, bucket, "k", ids[0])
    until(lambda: proxy.status()["mirror"]["held_deletes"] == 1, "the delete to be set aside")
    # What is current is on the mirror, and a newer version does not make the delete forgotten.
    proxy.wait_drained()
    inventory = vlab.sqlite(proxy)
    until(lambda: inventory.rows(bucket)[0]["is_backed_up"], "the row to say so")
    put(client, bucket, "k", b"four")
    proxy.wait_drained()
    proxy.kill()
    proxy.start()
    until(
        lambda: len(listed(vlab.s3_mirror, bucket, "k")) == 3,
        lambda: f"three versions: {listed(vlab.s3_mirror, bucket, 'k')}",
    )
    until(lambda: proxy.status()["mirror"]["held_deletes"] == 0, "nothing set aside")
    assert_same(vlab, proxy, bucket, "k")


def test_the_brake_holds_deletes_of_versions_until_it_is_released(vlab):
    proxy = vlab.proxy(MIRROR_DELETE_BRAKE_KEYS=3, **operator.settings())
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    keys = [f"k{number}" for number in range(8)]
    ids = {key: put(client, bucket, key, b"old") for key in keys}
    for key in keys:
        put(client, bucket, key, b"new")
    proxy.wait_drained()
    objects = [{"Key": key, "VersionId": version} for key, version in ids.items()]
    client.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    until(lambda: proxy.status()["mirror"]["brakes"], "the brake")
    proxy.wait_drained()
    held = proxy.status()["mirror"]["held_deletes"]
    left = sum(len(listed(vlab.s3_mirror, bucket, key)) for key in keys)
    assert held >= 5 and left == len(keys) + held
    assert operator.command(proxy, "release", bucket)[0] == 0
    until(lambda: proxy.status()["mirror"]["held_deletes"] == 0, "nothing held")
    assert_same(vlab, proxy, bucket, *keys)


@ours_only
def test_a_version_the_mirror_protects_holds_up_nothing(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    ids = [put(client, bucket, "k", body) for body in (b"one", b"two")]
    proxy.wait_drained()
    oldest = vlab.mirror.versions.bucket(bucket).keys["k"][0]
    oldest.headers["x-amz-object-lock-legal-hold"] = "ON"
    drop(client, bucket, "k", ids[0])
    put(client, bucket, "k", b"three")
    proxy.wait_drained()
    bodies = [version[0] for version in stack(vlab.s3_mirror, bucket, "k")]
    assert bodies == [b"one", b"two", b"three"]
    assert proxy.status()["mirror"]["held_deletes"] == 1


def test_while_versioning_is_suspended_every_null_version_that_main_still_has_is_copied(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "k", b"kept")
    switch(client, bucket, "Suspended")
    put(client, bucket, "k", b"null one")
    proxy.wait_drained()
    put(client, bucket, "k", b"null two", Metadata={"a": "b"})
    proxy.wait_drained()
    bodies = [version[0] for version in stack(vlab.s3_mirror, bucket, "k")]
    # The null version that main has overwritten is kept: nobody deleted it by its ID.
    assert bodies == [b"kept", b"null one", b"null two"]
    client.delete_object(Bucket=bucket, Key="k")
    switch(client, bucket, "Enabled")
    put(client, bucket, "k", b"again")
    proxy.wait_drained()
    mirror = stack(vlab.s3_mirror, bucket, "k")
    assert contains(mirror, stack(vlab.s3_main, bucket, "k")), mirror


def test_two_proxies_on_one_versioned_bucket_keep_every_version_in_order(vlab):
    first, second = vlab.proxy(), vlab.proxy()
    bucket = versioned(vlab)
    keys = ["a", "b", "c"]

    def write(number):
        client = vlab.client((first, second)[number % 2])
        for turn in range(25):
            key = keys[(turn + number) % 3]
            if turn % 7 == 6:
                client.delete_object(Bucket=bucket, Key=key)
            else:
                put(client, bucket, key, b"%d" % (turn % 4), Metadata={"writer": str(number)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for proxy in (first, second):
        proxy.wait_drained()
    for key in keys:
        main, mirror = (stack(client, bucket, key) for client in (vlab.s3_main, vlab.s3_mirror))
        assert mirror[-1] == main[-1], key
        # Versions are told by their bytes: of equal ones one may stand for the other.
        bytes_of = [[version and version[:2] for version in each] for each in (mirror, main)]
        assert contains(*bytes_of), f"{key}: {len(main)} on main, {len(mirror)} on the mirror"


def test_a_mirror_without_versioning_gets_the_current_state(vlab):
    proxy = vlab.proxy()
    bucket = versioned(vlab, mirror=False)
    client = vlab.client(proxy)
    for body in (b"one", b"two", b"three"):
        put(client, bucket, "k", body)
    gone = put(client, bucket, "gone", b"x")
    put(client, bucket, "back", b"old")
    newest = put(client, bucket, "back", b"new")
    proxy.wait_drained()
    client.delete_object(Bucket=bucket, Key="k")
    drop(client, bucket, "gone", gone)
    drop(client, bucket, "back", newest)
    vlab.assert_converged(proxy, bucket)
    assert vlab.keys_on_mirror(bucket) == {"back"}


def test_versions_can_be_left_alone(vlab):
    proxy = vlab.proxy(MIRROR_VERSIONS="false")
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    kept = [put(client, bucket, "k", body) for body in (b"one", b"two")]
    proxy.wait_drained()
    before = listed(vlab.s3_mirror, bucket, "k")
    drop(client, bucket, "k", kept[0])
    proxy.wait_drained()
    assert listed(vlab.s3_mirror, bucket, "k") == before


@ours_only
def test_an_older_version_that_cannot_be_read_is_told_and_does_not_hold_up_newer_ones(vlab):
    proxy = vlab.proxy(TEE_MEMORY_BYTES=0, TEE_SPOOL_BYTES=0, **operator.settings())
    bucket = versioned(vlab)
    client = vlab.client(proxy)

    def slow_down(request):
        raise Refused(503, "SlowDown")

    vlab.mirror.refuse = slow_down
    archived = put(client, bucket, "k", b"archived")
    put(client, bucket, "k", b"newest")

    def refuse(request):
        if request[0] == "GET" and request[2].get("versionId") == archived:
            raise Refused(403, "InvalidObjectState")

    vlab.main.refuse = refuse
    vlab.mirror.refuse = lambda request: None
    until(lambda: proxy.status()["mirror"]["parked"] == 1, "the key to be parked")
    assert archived in operator.command(proxy, "failed")[1]
    assert vlab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == b"newest"
    put(client, bucket, "k", b"newer still")
    until(
        lambda: vlab.s3_mirror.get_object(Bucket=bucket, Key="k")["Body"].read() == b"newer still",
        "the newer version",
    )


@ours_only
def test_a_bucket_without_versions_pays_nothing_for_them(vlab):
    proxy = vlab.proxy(FENCE="overlap")
    bucket = f"plain-{os.urandom(4).hex()}"
    vlab.s3_main.create_bucket(Bucket=bucket)
    vlab.s3_mirror.create_bucket(Bucket=bucket)
    switch(vlab.s3_mirror, bucket, "Enabled")
    client = vlab.client(proxy)
    for number in range(5):
        put(client, bucket, f"k{number}", b"x")
    client.delete_object(Bucket=bucket, Key="k0")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k1"}]})
    proxy.wait_drained()
    asked = [
        (request[0], request[2])
        for store in (vlab.main, vlab.mirror)
        for request in store.requests
        if {"versions", "versioning", "versionId"} & request[2].keys() and request[0] != "PUT"
    ]
    assert asked == []


@ours_only
def test_the_only_writer_s_versions_cost_main_no_request_and_the_mirror_one(vlab):
    proxy = vlab.proxy(FENCE="overlap", DISABLE_DATABASE="true")
    bucket = versioned(vlab)
    client = vlab.client(proxy)
    put(client, bucket, "warm", b"x")
    proxy.wait_drained()
    for store in (vlab.main, vlab.mirror):
        store.requests.clear()
    for number in range(10):
        put(client, bucket, f"k{number}", b"x")
        proxy.wait_drained()
    client.delete_object(Bucket=bucket, Key="k0")
    proxy.wait_drained()
    assert [request[0] for request in vlab.main.requests] == ["PUT"] * 10 + ["DELETE"]
    assert [request[0] for request in vlab.mirror.requests] == ["PUT"] * 10 + ["DELETE"]
    assert_same(vlab, proxy, bucket, "k0", "k1")


@pytest.mark.parametrize(("mirror", "told"), [(True, "is kept here"), (False, "keeps none")])
def test_doctor_says_whether_the_mirror_keeps_the_versions(vlab, mirror, told):
    proxy = vlab.proxy(start=False)
    bucket = versioned(vlab, mirror=mirror)
    environment = {name: str(value) for name, value in proxy.settings.items()}
    _, out, err = operator.run_to_end(
        [operator.binary(), "doctor", "--bucket", bucket, "--json"], environment=environment
    )
    findings = [json.loads(line) for line in out.splitlines()]
    versions = [each for each in findings if each.get("probe") == "versioning"]
    assert any(told in each["what"] for each in versions), (findings, err)

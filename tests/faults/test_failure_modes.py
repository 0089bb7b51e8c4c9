"""The ways in which other systems of this kind failed their users, one by one.

The numbers are those of the list in `docs/reliability.md`, which also says where the modes that
are not here are tested.
"""

import hashlib
import threading
import time

import pytest
from support import compare, s3
from support.poll import until
from support.proxy import gauges
from support.tcp import FaultProxy

from http1 import answer
from plan import Fault, Script
from relay import Relay
from scene import Scene, on

PART = 5 * 1024 * 1024


@pytest.fixture
def scene(lab):
    made = Scene(lab)
    yield made
    # A proxy that is told to end first drains what it can.
    made.main.calm()
    made.mirror.calm()


LATE = {
    "no-answer": Fault("reset, effect lands late", 4.0),
    "504": Fault("504, effect lands late", 4.0),
    "proxy-killed": Fault("hang, effect lands late", 4.0),
    "delete": Fault("reset, effect lands late", 4.0),
}


@pytest.fixture(scope="module", autouse=True)
def late(module_lab):
    """Old writes to the mirror that land four seconds late, over newer ones.

    The product looks again after 30 seconds; the other tests of this module run meanwhile.
    """
    scene = Scene(module_lab)
    for name in LATE:
        scene.put(name, b"before")
    scene.proxy.wait_drained()
    rules = {
        name: on(name, fault, "DELETE" if name == "delete" else "PUT", times=1)
        for name, fault in LATE.items()
    }

    def rule(request):
        return next((fault for each in rules.values() if (fault := each(request))), None)

    scene.mirror.plan.rule = rule
    for name in LATE:
        if name == "delete":
            scene.client.delete_object(Bucket=scene.bucket, Key=name)
        else:
            scene.put(name, b"old " * 100)
    until(lambda: all(each.met for each in rules.values()), "the old writes to be under way")
    scene.proxy.kill()
    scene.proxy.start()
    for name in LATE:
        scene.put(name, b"newer")
    scene.proxy.wait_drained()
    assert not scene.mirror.idle, "the old writes have landed too early to prove anything"
    until(lambda: scene.mirror.idle, "the old writes to land")
    scene.looked_at_again = time.monotonic() + 33
    return scene


def test_02_retries_exhausted_many_refusals_and_a_kill_do_not_drop_a_key(scene):
    rule = on("k", Fault("503 SlowDown"), times=6)
    scene.mirror.plan.rule = rule
    scene.put("k")
    until(lambda: len(rule.met) >= 3, "three refusals")
    scene.proxy.kill()
    scene.proxy.start()
    until(lambda: len(rule.met) == 6, "six refusals", 60)
    assert not scene.is_backed_up("k")
    scene.assert_converged()


#: Answers that are not what S3 says when it has stored an object.
NOT_SUCCESS = {
    "200-from-something-that-is-not-s3": answer(200, "OK", b"<html>maintenance</html>"),
    "200-without-etag": answer(200, "OK"),
    "202": answer(202, "Accepted"),
    "302": answer(302, "Found", headers=[("Location", "http://127.0.0.1:9/")]),
    "418": answer(418, "Teapot"),
    "500-without-xml": answer(500, "x", b"not xml"),
    "599": answer(599, "Unheard of"),
}


@pytest.mark.parametrize("odd", NOT_SUCCESS.values(), ids=NOT_SUCCESS.keys())
def test_03_unclassified_answer_is_never_counted_as_success(scene, odd):
    rule = on("k", odd, method="PUT")
    scene.mirror.plan.rule = rule
    scene.put("k")
    until(lambda: rule.met, "the first try")
    until(
        lambda: len(rule.met) >= 2 or scene.proxy.status()["mirror"]["parked"],
        lambda: f"another try or a parked key, not success: {scene.proxy.status()}",
        10,
    )
    assert not scene.is_backed_up("k")
    figures = gauges(scene.proxy.status())
    assert figures["mirror.pending_operations"] + figures["mirror.parked"] == 1, figures


def test_04_one_hanging_key_does_not_hold_back_the_others(scene):
    scene.mirror.plan.rule = on("stuck", Fault("hang, then reset", 6.0), times=1)
    scene.put("stuck")
    until(lambda: scene.mirror.requests, "the mirror to be asked")
    began = time.monotonic()
    for number in range(20):
        scene.put(f"{number}")
    until(
        lambda: scene.lab.keys_on_mirror(scene.bucket) >= {f"{n}" for n in range(20)},
        "the other keys",
        5,
    )
    assert time.monotonic() - began < 5
    scene.assert_converged()


def test_07_multipart_survives_a_failing_part_and_a_complete_that_lies(scene):
    """Same part boundaries in the end, and no upload is left behind."""
    # The first upload loses a part, the second is told an error inside a 200, the third works.
    failed = []

    def rule(request):
        if "partNumber=2" in request.query and "part" not in failed:
            failed.append("part")
            return Fault("500 InternalError")
        if request.judged_by_body and "complete" not in failed:
            failed.append("complete")
            return Fault("200 with an error, no effect")
        return None

    scene.mirror.plan.rule = rule
    parts = [b"a" * PART, b"b" * (PART + 1), b"c" * 10]
    s3.put_multipart(scene.client, scene.bucket, "k", parts, Metadata={"a": "b"})
    until(lambda: failed == ["part", "complete"], "both tries to have failed")
    scene.assert_converged()
    left = scene.lab.s3_mirror.list_multipart_uploads(Bucket=scene.bucket).get("Uploads", [])
    assert not left, left


def test_08_multipart_etag_kept_and_an_equal_object_is_not_copied_again(scene):
    """The answer to Complete is lost: main is asked again and again, the mirror is left alone."""
    scene.main.plan.rule = lambda request: (
        Fault("response lost after the effect") if request.judged_by_body else None
    )
    parts = [b"a" * (PART + 7), b"b" * PART, b"c"]
    with pytest.raises(scene.client.exceptions.ClientError):
        s3.put_multipart(scene.client, scene.bucket, "k", parts)
    scene.assert_converged()
    before = scene.writes_to_mirror("k")
    heads = len(scene.mirror.requests)
    # The check five seconds after an unknown outcome.
    until(lambda: len(scene.mirror.requests) > heads, "the mirror to be looked at again", 10)
    scene.assert_converged()
    bytes_again = [
        each for each in scene.writes_to_mirror("k")[len(before) :] if "tagging" not in each[1]
    ]
    assert not bytes_again, bytes_again


def test_09_race_of_two_proxies_for_the_tags_of_one_key(lab):
    """Two values of one tag: neither ETag, size, headers nor the number of tags tell them apart."""
    inventory = lab.postgres()
    slow = lab.closing(Relay(lab.mirror.address, Script()))
    first = lab.proxy(inventory.settings(), mirror_endpoint=slow.endpoint)
    second = lab.proxy(inventory.settings())
    bucket = lab.bucket("race")
    lab.client(first).put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="t=0")
    first.wait_drained()

    def tag(proxy, value):
        lab.client(proxy).put_object_tagging(
            Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "t", "Value": value}]}
        )

    done = []

    def rule(request):
        # The first proxy has read the tags it is about to write; now the second one is quicker.
        if request.method == "PUT" and "tagging" in request.query and not done:
            done.append(True)
            return Fault("slow request", 1.5)
        return None

    slow.plan.rule = rule
    tag(first, "1")
    until(lambda: done, "the first proxy to write tags")
    tag(second, "2")
    second.wait_drained()
    first.wait_drained()
    lab.assert_converged(first, bucket)


def test_09_race_of_two_proxies_for_the_row_of_one_key(lab):
    """The first proxy's row is held up in the database, and arrives after the second one's."""
    inventory = lab.postgres()
    database = lab.closing(FaultProxy(lab.cluster.address))
    first = lab.proxy(inventory.settings(database.address))
    second = lab.proxy(inventory.settings())
    bucket = lab.bucket("race")
    lab.client(first).put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    first.wait_drained()
    database.hang()
    lab.client(first).put_object(Bucket=bucket, Key="k", Body=b"first", ContentType="text/plain")
    until(lambda: gauges(first.status())["mirror.pending_operations"] == 0, "the first copy")
    # More than the second that the times of rows can tell apart.
    time.sleep(1.5)
    lab.client(second).put_object(Bucket=bucket, Key="k", Body=b"second", ContentType="image/png")
    second.wait_drained()
    database.forward()
    first.wait_drained()
    lab.assert_converged(second, bucket, inventory=inventory)


def test_09_row_put_back_by_an_outage_does_not_beat_the_row_of_another_proxy(lab):
    """The first proxy's connections are cut; its rows come after the second one's."""
    inventory = lab.postgres()
    database = lab.closing(FaultProxy(lab.cluster.address))
    first = lab.proxy(inventory.settings(database.address))
    second = lab.proxy(inventory.settings())
    bucket = lab.bucket("race")
    names = [f"k{number}" for number in range(12)]
    for name in names:
        lab.client(first).put_object(Bucket=bucket, Key=name, Body=b"x")
    first.wait_drained()
    database.refuse()
    for name in names:
        lab.client(first).put_object(Bucket=bucket, Key=name, Body=b"first")
    until(lambda: gauges(first.status())["mirror.pending_operations"] == 0, "the first copies")
    for name in names[:4]:
        lab.client(second).put_object(Bucket=bucket, Key=name, Body=b"second", ContentType="a/b")
    for name in names[4:8]:
        lab.client(second).delete_object(Bucket=bucket, Key=name)
    second.wait_drained()
    first.kill()
    database.forward()
    first.start()
    first.wait_drained()
    lab.assert_converged(second, bucket, inventory=inventory)
    assert sum(row["deleted"] for row in inventory.rows(bucket)) == 4


def test_10_deletes_that_main_refuses_are_not_made_on_the_mirror(scene):
    """DeleteObjects with an error for one key; the other one goes."""
    for key in ("goes", "stays"):
        scene.put(key)
    scene.proxy.wait_drained()
    document = (
        b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult><Deleted><Key>goes</Key></Deleted>'
        b"<Error><Key>stays</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        b"</DeleteResult>"
    )

    def rule(request):
        if request.method == "POST" and "delete" in request.query:
            scene.lab.s3_main.delete_object(Bucket=scene.bucket, Key="goes")
            return answer(200, "OK", document)
        return None

    scene.main.plan.rule = rule
    for quiet in (False, True):
        scene.client.delete_objects(
            Bucket=scene.bucket,
            Delete={"Objects": [{"Key": "goes"}, {"Key": "stays"}], "Quiet": quiet},
        )
    scene.assert_converged()
    assert scene.lab.keys_on_mirror(scene.bucket) == {"stays"}


def test_10_deletes_repeated_and_lost_answers_end_with_an_absent_key(scene):
    scene.put("k")
    scene.proxy.wait_drained()
    scene.mirror.plan.rule = on("k", Fault("response lost after the effect"), "DELETE", times=2)
    for _ in range(3):
        scene.client.delete_object(Bucket=scene.bucket, Key="k")
    scene.assert_converged()
    assert scene.lab.keys_on_mirror(scene.bucket) == set()


def test_14_status_does_not_lie_while_everything_fails(scene):
    """Retries are not counted as progress nor as more work, and a restart forgets nothing."""
    scene.mirror.plan.rule = lambda request: Fault("500 InternalError")
    for number in range(30):
        scene.put(f"{number % 10}", b"x" * number)
    for _ in range(2):
        until(
            lambda: gauges(scene.proxy.status())["mirror.pending_operations"] == 10,
            lambda: f"ten keys to be pending: {scene.proxy.status()}",
        )
        time.sleep(1)
        figures = gauges(scene.proxy.status())
        assert figures["mirror.pending_operations"] == 10, figures
        assert figures["mirror.oldest_pending_seconds"] > 0, figures
        assert not any(scene.is_backed_up(f"{number}") for number in range(10))
        scene.proxy.kill()
        scene.proxy.start()
    scene.assert_converged()


def test_14_flag_of_backup_survives_an_older_try_that_fails_after_the_newer_one(scene):
    """The row of a key that is on the mirror says so, in whatever order its changes got there."""
    asked = []

    def rule(request):
        if not request.path.endswith("/k"):
            return None
        asked.append(request)
        # The first write fails, so it is tried again while the second one is under way; that
        # next try fails as well.
        return {1: Fault("500 InternalError"), 2: Fault("slow request", 1.5)}.get(
            len(asked), Fault("500 InternalError") if len(asked) == 3 else None
        )

    scene.put("so that the mirror has the bucket")
    scene.proxy.wait_drained()
    scene.mirror.plan.rule = rule
    scene.put("k", b"older")
    until(lambda: asked, "the first write")
    scene.put("k", b"newer")
    until(lambda: len(asked) >= 2, "the second write")
    time.sleep(2)
    scene.assert_converged()


def test_14_flag_of_backup_survives_a_kill_between_an_older_and_a_newer_try(scene):
    """The older try is one of a previous run, comes due while the newer write is under way, and
    is itself under way when the process is killed again."""
    asked = []

    def rule(request):
        if not request.path.endswith("/k"):
            return None
        asked.append(request)
        return {
            1: Fault("500 InternalError"),
            2: Fault("slow request", 5.0),
            3: Fault("hang, then reset", 3.0),
        }.get(len(asked))

    scene.put("so that the mirror has the bucket")
    scene.proxy.wait_drained()
    scene.mirror.plan.rule = rule
    scene.put("k", b"older")
    until(lambda: asked, "the first write")
    time.sleep(0.1)
    scene.proxy.kill()
    scene.proxy.start()
    scene.put("k", b"newer")
    until(lambda: len(asked) >= 2, "the second write")
    deadline = time.monotonic() + 8
    while len(asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    # The end of the newer try is on disk by then; the older one hangs for three seconds.
    time.sleep(0.5)
    scene.proxy.kill()
    scene.proxy.start()
    scene.assert_converged()


def test_late_effect_on_main_is_seen_by_the_later_check(scene):
    """P3: a request that nobody answered takes effect three seconds after its client gave up."""
    scene.put("k", b"before")
    scene.proxy.wait_drained()
    scene.main.plan.rule = on("k", Fault("reset, effect lands late", 3.0), "PUT", times=1)
    with pytest.raises(scene.client.exceptions.ClientError):
        scene.put("k", b"after")
    until(lambda: scene.main.idle, "the effect")
    until(
        lambda: s3.every_key(scene.lab.s3_mirror, scene.bucket)["k"]["Size"] == len(b"after"),
        "the mirror to follow",
        10,
    )
    scene.assert_converged()


def test_truncated_read_of_main_never_becomes_a_mirror_object(lab):
    """The worker reads a body back from main, and main breaks off in its middle."""
    scene = Scene(lab, TEE_MEMORY_BYTES=0, TEE_SPOOL_BYTES=0)
    body = b"0123456789" * 50_000
    scene.main.plan.rule = on("k", Fault("truncated response body"), "GET", times=2)
    seen = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            keys = scene.lab.keys_on_mirror(scene.bucket)
            if "k" in keys:
                seen.append(s3.every_key(scene.lab.s3_mirror, scene.bucket)["k"]["Size"])
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        scene.put("k", body)
        until(lambda: seen, "the object", 30)
    finally:
        stop.set()
        watcher.join()
    assert set(seen) == {len(body)}
    scene.assert_converged()


# Last in this file: it needs time to have passed.
@pytest.mark.parametrize("name", LATE)
def test_09_late_write_does_not_beat_the_newer_one(late, name):
    time.sleep(max(0.0, late.looked_at_again - time.monotonic()))
    late.proxy.wait_drained()
    main = compare.describe(late.lab.s3_main, late.bucket, name)
    mirror = compare.describe(late.lab.s3_mirror, late.bucket, name)
    assert main["sha256"] == hashlib.sha256(b"newer").hexdigest()
    assert mirror == main

"""Events: every settled change is told to a webhook as S3 would, at least once, in order per key."""

import json
import sqlite3
import threading
import time

import pytest

from support import operator
from support.disk import Disk, start
from support.lab import Lab
from support.poll import until
from support.receiver import PATH, SECRET, Receiver
from support.tcp import FaultProxy
from support.versioned import VersionedStore
from support.versions import Refused


def wait_told(proxy, timeout=60.0):
    seen = {}

    def told():
        seen.update(proxy.status()["events"])
        return seen["pending"] == 0

    until(told, lambda: f"every event to be taken, last seen {seen}", timeout)


def names(events):
    return [name for name, _ in events]


def receiver_of(lab, rule=None):
    return lab.closing(Receiver(rule))


def test_every_kind_of_change_is_told_in_the_words_of_s3(lab):
    receiver = receiver_of(lab)
    proxy = lab.proxy(**receiver.settings())
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)

    etag = s3.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"hello")["ETag"].strip('"')
    s3.put_object_tagging(
        Bucket=bucket, Key="a b/ü.txt", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]}
    )
    s3.delete_object_tagging(Bucket=bucket, Key="a b/ü.txt")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/ü.txt"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(
        Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 100_000
    )
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    # The size of copies and of uploads in parts is asked of main, which must still have them.
    wait_told(proxy)
    s3.delete_object(Bucket=bucket, Key="copy")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "parts"}, {"Key": "never"}]})
    # What changes nothing is no event.
    s3.get_object(Bucket=bucket, Key="a b/ü.txt")
    wait_told(proxy)

    key = "a+b/%C3%BC.txt"
    assert names(receiver.of(bucket, key)) == [
        "ObjectCreated:Put",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
    ]
    _, told = receiver.of(bucket, key)[0]
    assert (told["size"], told["eTag"]) == (5, etag)
    assert names(receiver.of(bucket, "copy")) == ["ObjectCreated:Copy", "ObjectRemoved:Delete"]
    assert receiver.of(bucket, "copy")[0][1]["size"] == 5
    name, told = receiver.of(bucket, "parts")[0]
    assert name == "ObjectCreated:CompleteMultipartUpload"
    assert told["size"] == 100_000 and told["eTag"].endswith("-1")
    assert names(receiver.of(bucket, "parts"))[1:] == ["ObjectRemoved:Delete"]
    assert names(receiver.of(bucket, "never")) == ["ObjectRemoved:Delete"]
    assert len(receiver.of(bucket)) == 8
    # One record in full, with the request ID that the log has.
    record = receiver.taken[0]
    assert record["eventVersion"] == "2.1" and record["eventSource"] == "aws:s3"
    requests = {line.get("request_id") for line in proxy.log_lines()}
    assert record["responseElements"]["x-amz-request-id"] in requests

    metrics = proxy.metrics()
    assert metrics["s3_proxy_events_delivered_total"][""] == 8
    assert metrics["s3_proxy_events_pending"][""] == 0
    # Neither secret nor address is anywhere to be seen.
    shown = proxy.admin("/api/v1/config")[2] + proxy.process.stdout() + proxy.process.stderr()
    assert SECRET not in shown and PATH not in shown


def test_a_receiver_that_is_away_costs_clients_nothing_and_misses_nothing(lab):
    receiver = receiver_of(lab)
    way = lab.closing(FaultProxy(("127.0.0.1", receiver.server.server_port)))
    way.refuse()
    settings = receiver.settings()
    settings["EVENTS_WEBHOOK_URL"] = way.endpoint + PATH
    proxy = lab.proxy(**settings)
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)
    for number in range(250):
        s3.put_object(Bucket=bucket, Key=f"k{number % 50}", Body=str(number).encode())
    until(lambda: proxy.status()["events"]["error"], "the error of the receiver")
    status = proxy.status()["events"]
    assert status["pending"] == 250 and status["oldest_pending_seconds"] > 0
    assert proxy.metrics()["s3_proxy_event_errors_total"][""] > 0
    lab.assert_converged(proxy, bucket)

    way.forward()
    wait_told(proxy)
    assert proxy.status()["events"]["error"] is None
    assert not receiver.faults
    for key in range(50):
        sizes = [told["eTag"] for _, told in receiver.of(bucket, f"k{key}")]
        assert len(sizes) == 5, f"k{key}: {sizes}"
    sequencers = [told["sequencer"] for _, told in receiver.of(bucket)]
    assert sequencers == sorted(sequencers) and len(set(sequencers)) == 250


def test_kill_and_restart_lose_no_event_and_keep_the_order_of_a_key(lab):
    """Versions of keys are numbered; a receiver that fails at random sees none of them missing."""
    calls = iter(range(1, 1 << 30))
    receiver = receiver_of(lab, lambda _: 500 if next(calls) % 3 == 0 else 200)
    proxy = lab.proxy(**receiver.settings())
    bucket = lab.bucket("events")
    etags = {}
    for round_number in range(6):
        s3 = lab.client(proxy)

        def write(writer):
            key = f"w{writer}"
            for number in range(30):
                body = f"{round_number}-{number}".encode()
                try:
                    put = s3.put_object(Bucket=bucket, Key=key, Body=body)
                except Exception:  # noqa: BLE001
                    return
                etags.setdefault(key, []).append(put["ETag"].strip('"'))

        writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for writer in writers:
            writer.start()
        wanted = round_number * 11
        done = lambda: sum(map(len, etags.values())) >= wanted or not any(  # noqa: E731
            writer.is_alive() for writer in writers
        )
        until(done, f"{wanted} writes", 60, 0.001)
        proxy.kill()
        for writer in writers:
            writer.join(60)
        proxy.start()
    wait_told(proxy)

    assert sum(map(len, etags.values())) > 30
    told_requests = {
        record["responseElements"]["x-amz-request-id"] for record in receiver.taken
    }
    answered = {
        line["request_id"]
        for line in proxy.log_lines()
        if line.get("operation") == "PutObject" and line["status"] == 200
    }
    assert len(answered) > 20
    assert not answered - told_requests, "answered and never told"
    for key, acknowledged in etags.items():
        events = receiver.of(bucket, key)
        told = [told.get("eTag") for _, told in events]
        assert len({told["sequencer"] for _, told in events}) >= len(acknowledged)
        now = lab.s3_main.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
        assert acknowledged[-1] in told or told[-1] == now
        # Whoever applies them one after the other ends where main is. (A write that nobody
        # answered, and one whose answer the journal had not yet when the process died, is told by
        # what main holds when it is asked, which may be a later one.)
        last = [len(told) - told[::-1].index(etag) for etag in acknowledged if etag in told]
        assert last == sorted(last), f"{key}: {told}"


def test_an_event_that_is_refused_by_itself_holds_up_its_own_key_only(lab):
    refusing = threading.Event()
    refusing.set()

    def rule(records):
        poison = any(record["s3"]["object"]["key"] == "poison" for record in records)
        return 422 if poison and refusing.is_set() else 200

    receiver = receiver_of(lab, rule)
    proxy = lab.proxy(**receiver.settings())
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)
    for number in range(20):
        key = "poison" if number in (7, 9) else f"k{number}"
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    until(lambda: len(receiver.of(bucket)) == 18, "all others to be taken")
    until(lambda: proxy.status()["events"]["refused"] == 1, "one event to be refused")
    assert not receiver.of(bucket, "poison")
    assert proxy.metrics()["s3_proxy_events_refused"][""] == 1
    health = proxy.admin("/api/v1/health")[2]
    assert "the receiver of events refuses 1 of them" in health and "422" in health
    # The second of that key waits behind it.
    assert proxy.status()["events"]["pending"] == 1


def poisoned(lab):
    """A receiver that refuses one key, with two events of that key: (receiver, mend, proxy, bucket)."""
    mended = threading.Event()

    def rule(records):
        poison = any(record["s3"]["object"]["key"] == "poison" for record in records)
        return 422 if poison and not mended.is_set() else 200

    receiver = receiver_of(lab, rule)
    proxy = lab.proxy(**receiver.settings(), **operator.settings())
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)
    s3.put_object(Bucket=bucket, Key="poison", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="poison")
    until(lambda: proxy.status()["events"]["refused"] == 1, "one event to be refused")
    return receiver, mended.set, proxy, bucket


def listed(proxy, *arguments):
    code, out, err = operator.command(proxy, "failed", "--events", "--json", *arguments)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == (3 if events else 0), err
    return [(event["event"], event["refused"]) for event in events]


def test_a_refused_event_is_listed_and_sent_again_at_once_when_a_person_says_so(lab):
    receiver, mend, proxy, bucket = poisoned(lab)
    put, delete = ("ObjectCreated:Put", True), ("ObjectRemoved:Delete", False)
    assert listed(proxy) == [put]
    assert listed(proxy, "--waiting") == [put, delete]
    assert listed(proxy, "--bucket", bucket, "--key", "poison") == [put]
    assert listed(proxy, "--bucket", bucket, "--key", "other") == []
    text = operator.command(proxy, "failed", "--events")[1]
    assert f"{bucket}/poison" in text and "422" in text and "one event is refused" in text
    assert "s3-mirror failed --events" in operator.command(proxy, "status")[1]

    asked = len(receiver.asked)
    assert operator.command(proxy, "retry", "--events", "--all")[0] == 0
    until(lambda: len(receiver.asked) > asked, "the next try, which had been a minute away")
    mend()
    until(lambda: proxy.status()["events"]["refused"] == 1, "the event to be refused again")
    assert operator.command(proxy, "retry", "--events", "--bucket", bucket)[0] == 0
    until(lambda: len(receiver.of(bucket, "poison")) == 2, "both events")
    assert names(receiver.of(bucket, "poison")) == ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    assert operator.command(proxy, "retry", "--events", "--all")[0] == 1


def test_a_refused_event_that_is_given_up_lets_later_ones_of_its_key_go_on(lab):
    receiver, mend, proxy, bucket = poisoned(lab)
    code, out, err = operator.command(proxy, "discard", "--events", "--all")
    assert code == 2 and "poison" in out and "nothing was done" in err
    assert proxy.status()["events"]["refused"] == 1
    mend()
    assert operator.command(proxy, "discard", "--events", "--all", "--yes")[0] == 0
    until(lambda: receiver.of(bucket, "poison"), "the event that waited behind it")
    wait_told(proxy)
    assert names(receiver.of(bucket, "poison")) == ["ObjectRemoved:Delete"]
    gave_up = lambda: [  # noqa: E731
        line["event"] for line in proxy.log_lines() if "gave this event up" in line["message"]
    ]
    until(lambda: gave_up() == ["ObjectCreated:Put"], "the log to name it")
    assert operator.command(proxy, "discard", "--events", "--all", "--yes")[0] == 1


def test_events_for_a_receiver_that_is_gone_for_good_can_be_given_up(lab):
    receiver = receiver_of(lab)
    way = lab.closing(FaultProxy(("127.0.0.1", receiver.server.server_port)))
    way.refuse()
    settings = {**receiver.settings(), "EVENTS_WEBHOOK_URL": way.endpoint + PATH}
    proxy = lab.proxy(**settings, **operator.settings())
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"x")
    assert operator.command(proxy, "discard", "--events", "--all", "--yes")[0] == 1
    assert proxy.status()["events"]["pending"] == 30, "only what is refused is meant"
    code, out, _ = operator.command(proxy, "discard", "--events", "--waiting", "--all", "--yes")
    assert code == 0 and "30 events were given up" in out
    assert proxy.status()["events"]["pending"] == 0
    lab.assert_converged(proxy, bucket)
    way.forward()
    s3.put_object(Bucket=bucket, Key="new", Body=b"x")
    until(lambda: receiver.of(bucket, "new"), "what happens from now on is told")


def test_without_a_webhook_nothing_is_recorded_for_it(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("events")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    proxy.wait_drained()
    assert proxy.status()["events"] == {
        "enabled": False,
        "pending": 0,
        "oldest_pending_seconds": 0.0,
        "refused": 0,
        "last_delivered_ms": None,
        "error": None,
    }
    proxy.stop()
    with sqlite3.connect(proxy.data_dir / "journal.sqlite") as journal:
        assert journal.execute("SELECT count(*) FROM event").fetchone() == (0,)


def test_while_the_disk_fails_what_was_taken_is_not_told_over_and_over(lab):
    """That it was taken cannot be written down, and it is on disk as if it had not been."""
    away = [True]
    receiver = receiver_of(lab, lambda _: 503 if away[0] else 200)
    proxy = start(lab, **receiver.settings())
    bucket = lab.bucket("events")
    s3 = lab.client(proxy)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    until(lambda: proxy.status()["events"]["error"], "the error of the receiver")
    disk = Disk(proxy)
    disk.full()
    try:
        s3.put_object(Bucket=bucket, Key="during", Body=b"x")
        until(lambda: proxy.status()["journal"]["failing"], "the alarm")
        away[0] = False
        # Longer than the pause that the receiver's failures have led to.
        deadline = time.monotonic() + 5
        while len(receiver.taken) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        # One message may have been on its way.
        assert len(receiver.taken) <= 1
    finally:
        disk.free()
    wait_told(proxy)
    assert {told["key"] for _, told in receiver.of(bucket)} == {"k", "during"}
    assert not receiver.faults


@pytest.mark.parametrize("others", [1, 0], ids=["one", "no"])
def test_a_key_of_which_main_says_nothing_holds_up_no_other(tmp_path, others):
    pair = [VersionedStore(name) for name in ("main", "mirror")]
    lab = Lab(*pair, None, tmp_path)
    try:
        receiver = receiver_of(lab)
        proxy = lab.proxy(**receiver.settings(), **operator.settings())
        bucket = lab.bucket("events")
        client = lab.client(proxy)
        client.put_object(Bucket=bucket, Key="k", Body=b"x")
        wait_told(proxy)

        def refuse(request):
            if request[0] == "HEAD" and request[1] == f"{bucket}/stuck":
                raise Refused(500, "InternalError")

        pair[0].refuse = refuse
        source = {"Bucket": bucket, "Key": "k"}
        # What a copy has made is asked of main.
        for key in ["stuck", *["copy"] * others]:
            client.copy_object(Bucket=bucket, Key=key, CopySource=source)
        until(lambda: proxy.status()["events"]["refused"] == 1, "the key to be set aside")
        for number in range(5):
            client.put_object(Bucket=bucket, Key=f"after-{number}", Body=b"x")
        client.delete_object(Bucket=bucket, Key="stuck")
        until(lambda: all(receiver.of(bucket, f"after-{number}") for number in range(5)), "the rest")
        assert len(receiver.of(bucket, "copy")) == others
        assert receiver.of(bucket, "stuck") == [], "a key's own events stay in order"
        text = operator.command(proxy, "failed", "--events")[1]
        assert f"{bucket}/stuck" in text and "main" in text and "500" in text, text
        pair[0].refuse = lambda request: None
        assert operator.command(proxy, "retry", "--events", "--all")[0] == 0
        until(lambda: len(receiver.of(bucket, "stuck")) == 2, "both of its events")
        assert names(receiver.of(bucket, "stuck")) == ["ObjectCreated:Copy", "ObjectRemoved:Delete"]
    finally:
        lab.close()
        for store in pair:
            store.close()

"""The failure modes of other systems that `test_failure_modes` does not play, each by its number.

All of them have more tests elsewhere (`docs/reliability.md`); these are the shortest ways to see
each with everything in place: relays, PostgreSQL, a proxy that is killed.
"""

import http.client

import pytest
from support import compare, operator, raw, sigv4
from support.poll import until

from plan import Fault
from scene import Scene, on

BODY = b"a body in chunks " * 6000


@pytest.fixture
def scene(lab):
    made = Scene(lab)
    yield made
    made.main.calm()
    made.mirror.calm()


def test_01_event_lost_between_main_s_answer_and_the_queue(scene):
    """Killed while main does the write and has not answered: nothing but the intent tells of it."""
    rule = on("k", Fault("hang, effect lands late", 1.0), "PUT", times=1)
    scene.main.plan.rule = rule
    host, port = scene.proxy.address
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.putrequest("PUT", f"/{scene.bucket}/k")
    connection.putheader("Content-Length", "1")
    connection.endheaders(b"x")
    until(lambda: rule.met, "main to be asked")
    scene.proxy.kill()
    connection.close()
    scene.proxy.start()
    until(lambda: "k" in compare.every_key(scene.lab.s3_main, scene.bucket), "the late effect")
    until(lambda: "k" in scene.lab.keys_on_mirror(scene.bucket), "the copy", 90)
    scene.assert_converged()


def test_05_chunked_upload_with_a_trailer_is_never_stored_as_it_was_framed(scene):
    trailer = ("x-amz-checksum-crc32", sigv4.crc32(BODY))
    sent = sigv4.unsigned_chunks(BODY, 8192, trailer)
    headers = [
        ("Host", "h"),
        ("Content-Length", str(len(sent))),
        ("Content-Encoding", "aws-chunked"),
        ("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("X-Amz-Decoded-Content-Length", str(len(BODY))),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
    ]
    reply = raw.exchange(scene.proxy.address, "PUT", f"/{scene.bucket}/k", headers, sent)
    assert reply.status == 200, reply
    scene.assert_converged()
    for store in (scene.lab.s3_main, scene.lab.s3_mirror):
        answer = store.get_object(Bucket=scene.bucket, Key="k")
        assert answer["Body"].read() == BODY and not answer.get("ContentEncoding")


def test_06_checksum_reaches_main_and_mirror_and_a_wrong_one_reaches_neither(scene):
    scene.put("k", b"bytes", ChecksumAlgorithm="SHA256")
    wrong = [("Host", "h"), ("Content-Length", "5"), ("x-amz-checksum-crc32", "AAAAAA==")]
    reply = raw.exchange(scene.proxy.address, "PUT", f"/{scene.bucket}/no", wrong, b"bytes")
    assert reply.status == 400
    scene.assert_converged()
    for store in (scene.lab.s3_main, scene.lab.s3_mirror):
        head = store.head_object(Bucket=scene.bucket, Key="k", ChecksumMode="ENABLED")
        assert head["ChecksumSHA256"]
        assert set(compare.every_key(store, scene.bucket)) == {"k"}


def test_11_metadata_only_change_is_copied_although_etag_and_size_stay(scene):
    scene.put("k", Metadata={"a": "1"}, CacheControl="no-cache", ContentType="text/plain")
    scene.proxy.wait_drained()
    scene.client.copy_object(
        Bucket=scene.bucket,
        Key="k",
        CopySource={"Bucket": scene.bucket, "Key": "k"},
        MetadataDirective="REPLACE",
        Metadata={"a": "2"},
        ContentLanguage="de",
        ContentType="text/html",
    )
    tags = {"TagSet": [{"Key": "t", "Value": "1"}]}
    scene.client.put_object_tagging(Bucket=scene.bucket, Key="k", Tagging=tags)
    scene.assert_converged()
    copy = compare.describe(scene.lab.s3_mirror, scene.bucket, "k")
    assert (copy["Metadata"], copy["ContentLanguage"], copy["CacheControl"]) == ({"a": "2"}, "de", None)
    assert copy["Tags"] == {"t": "1"}


ODD = ["a b", "a+b", "a%2Fb", "a//b", "./x", "ü/日本", "q?x=1&y", "~-_.", "(*')", " "]


def test_12_keys_arrive_as_they_are_and_none_takes_the_place_of_another(scene):
    for key in ODD:
        scene.put(key, key.encode())
    scene.assert_converged()
    assert scene.lab.keys_on_mirror(scene.bucket) == set(ODD)
    for key in ODD:
        copy = scene.lab.s3_mirror.get_object(Bucket=scene.bucket, Key=key)
        assert copy["Body"].read() == key.encode()


def test_13_memory_does_not_hold_bodies_while_the_mirror_is_away(scene):
    """Twice the whole limit is written; what waits is on disk, or on main."""
    scene.mirror.plan.rule = lambda request: Fault("503 SlowDown")
    body = b"x" * (4 << 20)
    for number in range(50):
        scene.put(f"{number}", body)
    assert scene.proxy.process.resident_peak_bytes() < 200 << 20
    assert scene.proxy.status()["mirror"]["pending_operations"] == 50


def test_15_backfill_does_not_hold_up_live_changes(lab):
    proxy = lab.proxy(
        MIRROR_CONCURRENCY=4, MIRROR_REQUESTS_PER_SECOND=60, **operator.settings()
    )
    bucket = lab.bucket("backfill")
    for number in range(300):
        lab.s3_main.put_object(Bucket=bucket, Key=f"old/{number:03}", Body=b"old")
    operator.command(proxy, "backfill", "--bucket", bucket, "--detach")
    until(lambda: lab.keys_on_mirror(bucket), "the job to be at work")
    lab.client(proxy).put_object(Bucket=bucket, Key="live", Body=b"live")
    until(lambda: "live" in lab.keys_on_mirror(bucket), "the live key", 30)
    assert len(lab.keys_on_mirror(bucket)) < 290, "the job was over before the live key came"
    lab.assert_converged(proxy, bucket, timeout=90)

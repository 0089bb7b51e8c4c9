"""No multipart upload stays on the mirror, unseen and paid for, whatever cuts its copy off."""

import sqlite3
import threading

import pytest

from support import s3
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until

MIB = 1024 * 1024
PARTS = [b"a" * (5 * MIB), b"b" * (5 * MIB), b"c" * 10]


def uploads(lab, bucket):
    listed = lab.s3_mirror.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return sorted((upload["Key"], upload["UploadId"]) for upload in listed)


def notes(proxy):
    with sqlite3.connect(f"file:{proxy.data_dir}/journal.sqlite?mode=ro", uri=True) as db:
        return db.execute("SELECT key, upload_id FROM mirror_upload").fetchall()


def begins(request):
    return request.method == "POST" and request.target.partition("?")[2] in ("uploads", "uploads=")


def is_part(request, number):
    return f"partNumber={number}" in request.target


class Blocked:
    """Requests that hang until `release`."""

    def __init__(self, lab):
        self.reached = threading.Event()
        self.go_on = threading.Event()
        lab.closing(self)

    def wait(self):
        self.reached.set()
        assert self.go_on.wait(60)
        raise OSError("the client has gone")

    def close(self):
        self.go_on.set()


@pytest.fixture
def relayed(lab):
    """A relay before the mirror, a proxy that writes through it, and a bucket the mirror has."""
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, lambda request: None))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("uploads")
    lab.client(proxy).put_object(Bucket=bucket, Key="first", Body=b"x")
    proxy.wait_drained()
    return relay, proxy, bucket


def test_an_upload_that_a_kill_cuts_off_is_aborted_at_the_next_start(lab, relayed):
    relay, proxy, bucket = relayed
    blocked = Blocked(lab)
    relay.rule = lambda request: blocked.wait() if is_part(request, 2) else None
    s3.put_multipart(lab.client(proxy), bucket, "k", PARTS)
    assert blocked.reached.wait(30)
    (left,) = uploads(lab, bucket)
    until(lambda: notes(proxy) == [left], lambda: f"the note of {left}: {notes(proxy)}")
    somebody_elses = lab.s3_mirror.create_multipart_upload(Bucket=bucket, Key="k2")["UploadId"]
    proxy.kill()
    # Main loses the object, so that no copy is made again that could tidy up.
    lab.s3_main.delete_object(Bucket=bucket, Key="k")
    relay.rule = lambda request: None
    proxy.start()
    until(
        lambda: uploads(lab, bucket) == [("k2", somebody_elses)],
        lambda: f"the upload to be gone: {uploads(lab, bucket)}",
    )
    lab.assert_converged(proxy, bucket)


def test_an_upload_whose_id_was_never_told_is_found_and_aborted(lab, relayed):
    """The kill comes between the mirror's making the upload and the note of its ID."""
    relay, proxy, bucket = relayed
    blocked = Blocked(lab)
    relay.after = lambda request: blocked.wait() if begins(request) else None
    s3.put_multipart(lab.client(proxy), bucket, "k", PARTS)
    assert blocked.reached.wait(30)
    assert len(uploads(lab, bucket)) == 1 and notes(proxy) == [("k", None)]
    # Begins with the same letters, and is none of the proxy's.
    other = lab.s3_mirror.create_multipart_upload(Bucket=bucket, Key="kk")["UploadId"]
    proxy.kill()
    relay.after = lambda request: None
    lab.s3_main.delete_object(Bucket=bucket, Key="k")
    proxy.start()
    until(
        lambda: uploads(lab, bucket) == [("kk", other)],
        lambda: f"the upload to be gone: {uploads(lab, bucket)}",
    )


def test_an_upload_whose_answer_was_lost_is_aborted_and_the_copy_made_again(lab, relayed):
    relay, proxy, bucket = relayed
    lost = []

    def after(request):
        if begins(request) and not lost:
            lost.append(request)
            raise OSError("the answer is lost")

    relay.after = after
    s3.put_multipart(lab.client(proxy), bucket, "k", PARTS)
    lab.assert_converged(proxy, bucket)
    assert lost
    until(lambda: not uploads(lab, bucket), lambda: f"no upload: {uploads(lab, bucket)}")


def test_an_abort_that_the_mirror_refuses_for_a_time_is_made_later(lab, relayed):
    relay, proxy, bucket = relayed
    failed, refused = [], []

    def rule(request):
        if is_part(request, 2) and not failed:
            failed.append(request)
            return s3_error(500, "Internal Server Error", "InternalError")
        if request.method == "DELETE" and "uploadId" in request.target and len(refused) < 2:
            refused.append(request)
            return s3_error(503, "Slow Down", "SlowDown")
        return None

    relay.rule = rule
    s3.put_multipart(lab.client(proxy), bucket, "k", PARTS)
    lab.assert_converged(proxy, bucket)
    until(lambda: not uploads(lab, bucket), lambda: f"no upload: {uploads(lab, bucket)}")
    assert failed and len(refused) == 2


def test_uploads_that_end_well_leave_no_note(lab, relayed):
    _, proxy, bucket = relayed
    for number in range(3):
        s3.put_multipart(lab.client(proxy), bucket, f"k{number}", PARTS)
    lab.assert_converged(proxy, bucket)
    until(lambda: notes(proxy) == [], lambda: f"no notes: {notes(proxy)}")
    assert uploads(lab, bucket) == []

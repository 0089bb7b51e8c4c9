"""Answers that mean something else than they seem to: of expired keys, of gateways without a store behind
them, of services with ways of their own. P3, P4 and P8 hold all the same."""

import threading

import pytest

from support import raw, s3
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until

GATEWAY = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class Switch:
    """A rule that can be put in force and taken back."""

    def __init__(self, rule):
        self._rule = rule
        self._is_on = threading.Event()
        self.met = 0

    def __call__(self, request):
        answer = self._rule(request) if self._is_on.is_set() else None
        self.met += answer is not None
        return answer

    def on(self):
        self._is_on.set()

    def off(self):
        self._is_on.clear()


def noting(rule, method, passed):
    """The rule, and the targets of what it lets pass of one method."""

    def noted(request):
        answer = rule(request)
        if request.method == method and answer is None:
            passed.append(request.target)
        return answer

    return noted


def relayed(lab, main=None, mirror=None, **settings):
    """A proxy whose main and mirror stand behind rules."""
    relays = {}
    for name, rule in (("main", main), ("mirror", mirror)):
        if rule is not None:
            address = getattr(lab, name).address
            relays[f"{name}_endpoint"] = lab.closing(HttpFaultProxy(address, rule))
    endpoints = {name: relay.endpoint for name, relay in relays.items()}
    return lab.proxy(**endpoints, **settings), relays


def refuses_with(code):
    return lambda request: s3_error(400, "Bad Request", code)


@pytest.mark.parametrize("code", ["ExpiredToken", "AuthorizationHeaderMalformed"])
def test_keys_that_have_ended_park_nothing(lab, code):
    """S3 says so with 400, as it does when a request is nonsense."""
    mirror, main = Switch(refuses_with(code)), Switch(refuses_with(code))
    proxy, _ = relayed(lab, main, mirror)
    bucket = lab.bucket("ended")
    client = lab.client(proxy)
    mirror.on()
    for number in range(3):
        client.put_object(Bucket=bucket, Key=f"mirror-{number}", Body=b"x")
    until(lambda: mirror.met >= 6, "the mirror was asked again")
    mirror.off()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy), timeout=60)

    # Of main the workers learn of a HEAD, whose answer has no document.
    client.put_object(Bucket=bucket, Key="copied", Body=b"x")
    relay_target = f"/{bucket}/later"
    main._rule = lambda request: (
        refuses_with(code)(request) if request.method in ("HEAD", "GET") else
        BAD_GATEWAY if request.target == relay_target else None
    )
    main.on()
    headers = [("Host", "h"), ("Content-Length", "1")]
    assert raw.exchange(proxy.address, "PUT", relay_target, headers, b"x").status == 502
    lab.s3_main.put_object(Bucket=bucket, Key="later", Body=b"x")
    until(lambda: main.met >= 6, "main was asked again")
    assert proxy.status()["mirror"]["parked"] == 0
    main.off()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy), timeout=60)
    assert proxy.status()["mirror"]["parked"] == 0


def test_a_gateway_that_finds_nothing_anywhere_deletes_nothing_on_the_mirror(lab):
    """Its 404 is no word of the store behind it."""
    bucket = lab.bucket("gateway")
    main = Switch(lambda request: BAD_GATEWAY if request.method == "PUT" else GATEWAY)
    proxy, _ = relayed(lab, main)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"precious")
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))
    main.on()
    headers = [("Host", "h"), ("Content-Length", "1")]
    # Its outcome is unknown, so that main is asked what the key is now.
    assert raw.exchange(proxy.address, "PUT", f"/{bucket}/k", headers, b"x").status == 502
    until(lambda: main.met >= 8, "main was asked several times")
    assert lab.keys_on_mirror(bucket) == {"k"}
    assert not lab.sqlite(proxy).rows(bucket)[0]["deleted"]
    main.off()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy), timeout=60)
    assert lab.keys_on_mirror(bucket) == {"k"}


def test_a_gateway_that_finds_nothing_behind_a_copy_takes_it_back_no_more(lab):
    bucket = lab.bucket("fence")
    main = Switch(lambda request: GATEWAY if request.method in ("HEAD", "GET") else None)
    mirror = []

    def seen(request):
        mirror.append(request.method)

    proxy, _ = relayed(lab, main, seen)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="typed", Body=b"x", ContentType="text/plain")
    lab.assert_converged(proxy, bucket)
    main.on()
    client.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    until(lambda: main.met >= 4, "main was asked about the copy")
    assert "DELETE" not in mirror
    main.off()
    lab.assert_converged(proxy, bucket, timeout=60)


def test_tags_that_others_have_changed_since_are_not_written_again(lab):
    """The body that was kept brings the tags along that were sent with it."""
    mirror = Switch(lambda request: s3_error(503, "Slow Down", "SlowDown"))
    puts = []

    bucket = lab.bucket("tags")
    lab.s3_mirror.create_bucket(Bucket=bucket)

    proxy, _ = relayed(lab, mirror=noting(mirror, "PUT", puts))
    mirror.on()
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="state=new")
    until(lambda: mirror.met >= 1, "the mirror has refused it")
    tagging = {"TagSet": [{"Key": "state", "Value": "done"}]}
    lab.s3_main.put_object_tagging(Bucket=bucket, Key="k", Tagging=tagging)
    mirror.off()
    lab.assert_converged(proxy, bucket)
    there = lab.s3_mirror.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert there == tagging["TagSet"]
    assert len(puts) == 1, f"it is sent once, with main's tags: {puts}"


def test_a_mirror_that_refuses_to_delete_what_it_has_not_is_as_it_should_be(lab):
    bucket = lab.bucket("nothing")

    def rule(request):
        if request.method == "DELETE" and not lab.keys_on_mirror(bucket):
            return s3_error(404, "Not Found", "NoSuchKey")
        return None

    proxy, _ = relayed(lab, mirror=rule)
    client = lab.client(proxy)
    lab.s3_mirror.create_bucket(Bucket=bucket)
    for _ in range(2):
        client.delete_object(Bucket=bucket, Key="never-there")
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_an_upload_whose_completion_was_done_and_not_told_is_not_made_again(lab):
    lost = []
    proxy, relays = relayed(lab, mirror=lambda request: None)
    relay = relays["mirror_endpoint"]

    def after(request):
        if request.method == "POST" and "uploadId=" in request.target and not lost:
            lost.append(request)
            raise OSError("the answer is lost")

    relay.after = after
    bucket = lab.bucket("completed")
    lab.s3_mirror.create_bucket(Bucket=bucket)
    part = b"p" * (5 * 1024 * 1024)
    s3.put_multipart(lab.client(proxy), bucket, "k", [part, b"rest"])
    lab.assert_converged(proxy, bucket)
    begun = [each for each in relay.requests if each.target.endswith("?uploads=")]
    assert lost and len(begun) == 1, [each.target for each in begun]


def test_removed_tags_go_from_a_mirror_that_does_not_tell_how_many_there_are(lab):
    """S3 tells the number of tags to those only who may read them."""
    bucket = lab.bucket("untold")

    def rule(request):
        if request.method != "HEAD" or not request.target.startswith(f"/{bucket}/"):
            return None
        head = lab.s3_mirror.head_object(Bucket=bucket, Key="k")
        lines = [
            "HTTP/1.1 200 OK", f"ETag: {head['ETag']}", f"Content-Length: {head['ContentLength']}",
            f"Content-Type: {head['ContentType']}",
        ]  # fmt: skip
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    mirror = Switch(rule)
    proxy, _ = relayed(lab, mirror=mirror)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    lab.assert_converged(proxy, bucket)
    mirror.on()
    client.delete_object_tagging(Bucket=bucket, Key="k")
    proxy.wait_drained()
    assert mirror.met
    assert lab.s3_mirror.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


def test_a_delete_of_the_previous_run_removes_no_copy_of_what_main_has_again(lab):
    """What is read from disk may be older than what is on the mirror by now."""
    mirror = Switch(lambda request: s3_error(503, "Slow Down", "SlowDown"))
    deletes = []

    proxy, _ = relayed(lab, mirror=noting(mirror, "DELETE", deletes))
    bucket = lab.bucket("again")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"old")
    lab.assert_converged(proxy, bucket)
    mirror.on()
    client.delete_object(Bucket=bucket, Key="k")
    until(lambda: proxy.status()["mirror"]["pending_operations"] == 1, "it is on disk")
    proxy.kill()
    # By another proxy, say, which has mirrored it too.
    for side in (lab.s3_main, lab.s3_mirror):
        side.put_object(Bucket=bucket, Key="k", Body=b"new")
    mirror.off()
    proxy.start()
    lab.assert_converged(proxy, bucket, timeout=60)
    assert deletes == []

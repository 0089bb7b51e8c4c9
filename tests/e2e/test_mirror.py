"""P4: when writes stop, the mirror equals main, whatever was done and in whatever order."""

import threading

import pytest

from support import compare, s3
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.proxy import gauges

MIB = 1024 * 1024


def test_a_put_arrives_with_everything_that_belongs_to_it(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("mirrored")
    client = lab.client(proxy)
    client.put_object(
        Bucket=bucket,
        Key="dressed",
        Body=b"body",
        ContentType="text/html",
        ContentEncoding="gzip",
        ContentLanguage="de",
        ContentDisposition="inline",
        CacheControl="no-cache",
        Expires="Sat, 03 Feb 2001 04:05:06 GMT",
        WebsiteRedirectLocation="/other",
        Metadata={"a": "1", "b-c": "two words"},
        Tagging="k=v&x=y%20z",
    )
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    client.put_object(Bucket=bucket, Key="untyped", Body=b"no content type given")
    lab.assert_converged(proxy, bucket)
    copy = compare.describe(lab.s3_mirror, bucket, "dressed")
    assert copy["Metadata"] == {"a": "1", "b-c": "two words"}
    assert copy["Tags"] == {"k": "v", "x": "y z"}
    # Main's default for an absent Content-Type, not the uploader's.
    assert compare.describe(lab.s3_mirror, bucket, "untyped")["ContentType"] == (
        "binary/octet-stream"
    )


def test_overwrites_copies_and_deletes_follow(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("mirrored")
    client = lab.client(proxy)
    for turn in range(3):
        client.put_object(Bucket=bucket, Key="again", Body=b"x" * turn, Metadata={"n": str(turn)})
    client.put_object(Bucket=bucket, Key="gone", Body=b"x")
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "again"})
    client.delete_object(Bucket=bucket, Key="gone")
    for number in range(10):
        client.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"x")
    client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": f"many/{n}"} for n in range(9)], "Quiet": True}
    )
    lab.assert_converged(proxy, bucket)
    assert set(s3.every_key(lab.s3_mirror, bucket)) == {"again", "copy", "many/9"}


def test_a_change_of_metadata_alone_follows(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("mirrored")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"same bytes", ContentType="text/plain")
    proxy.wait_drained()
    client.copy_object(
        Bucket=bucket,
        Key="k",
        CopySource={"Bucket": bucket, "Key": "k"},
        MetadataDirective="REPLACE",
        ContentType="text/x-new",
        Metadata={"new": "yes"},
    )
    lab.assert_converged(proxy, bucket)
    assert compare.describe(lab.s3_mirror, bucket, "k")["Metadata"] == {"new": "yes"}


def test_a_change_of_tags_alone_follows(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("mirrored")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="before=1")
    proxy.wait_drained()
    tags = {"TagSet": [{"Key": "after", "Value": "2"}]}
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging=tags)
    lab.assert_converged(proxy, bucket)
    assert compare.describe(lab.s3_mirror, bucket, "k")["Tags"] == {"after": "2"}
    client.delete_object_tagging(Bucket=bucket, Key="k")
    lab.assert_converged(proxy, bucket)
    assert compare.describe(lab.s3_mirror, bucket, "k")["Tags"] == {}


def test_a_multipart_object_keeps_its_part_boundaries_and_etag(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("mirrored")
    parts = [b"a" * (5 * MIB + 11), b"b" * (7 * MIB + 3), b"c" * 17]
    s3.put_multipart(lab.client(proxy), bucket, "k", parts, ContentType="a/b")
    lab.assert_converged(proxy, bucket)
    sizes = [
        lab.s3_mirror.head_object(Bucket=bucket, Key="k", PartNumber=number)["ContentLength"]
        for number in (1, 2, 3)
    ]
    assert sizes == [len(part) for part in parts]


def test_kept_parts_make_the_object_main_made_of_them_whatever_their_order(steady):
    """The second of two uploads of a part counts, parts may be left out, and one may be a copy."""
    lab, proxy, _ = steady
    bucket = lab.bucket("parts")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="source", Body=b"s" * (5 * MIB))
    for kind in ("sent", "copied"):
        where = {"Bucket": bucket, "Key": kind}
        upload = client.create_multipart_upload(
            **where, ContentType="a/b", Metadata={"m": kind}, Tagging="k=v"
        )
        where["UploadId"] = upload["UploadId"]

        def part(number, body):
            return client.upload_part(**where, PartNumber=number, Body=body)["ETag"]

        last = part(7, b"last")
        part(2, b"x" * (5 * MIB))
        part(5, b"left out" * MIB)
        if kind == "copied":
            source = {"Bucket": bucket, "Key": "source"}
            first = client.upload_part_copy(**where, PartNumber=2, CopySource=source)
            first = first["CopyPartResult"]["ETag"]
        else:
            first = part(2, b"y" * (5 * MIB + 1))
        parts = [{"PartNumber": 2, "ETag": first}, {"PartNumber": 7, "ETag": last}]
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    lab.assert_converged(proxy, bucket)
    assert compare.describe(lab.s3_mirror, bucket, "sent")["Tags"] == {"k": "v"}


def test_a_restart_in_the_middle_of_an_upload_only_costs_a_read_of_main(lab):
    proxy = lab.proxy()
    bucket = lab.bucket("parts")
    client = lab.client(proxy)
    where = {"Bucket": bucket, "Key": "k"}
    where["UploadId"] = client.create_multipart_upload(**where, Metadata={"a": "1"})["UploadId"]
    first = client.upload_part(**where, PartNumber=1, Body=b"1" * (5 * MIB))["ETag"]
    proxy.kill()
    proxy.start()
    second = client.upload_part(**where, PartNumber=2, Body=b"2")["ETag"]
    parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    lab.assert_converged(proxy, bucket)


def test_a_body_larger_than_the_tee_is_read_back_from_main(lab):
    proxy = lab.proxy(TEE_MEMORY_BYTES=MIB, TEE_SPOOL_BYTES=0)
    bucket = lab.bucket("large")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=bytes(9 * MIB + 1))
    lab.assert_converged(proxy, bucket)


def test_the_mirror_bucket_gets_the_prefix_and_is_made_when_missing(lab):
    proxy = lab.proxy(MIRROR_BUCKET_PREFIX="copy-of-")
    bucket = lab.bucket("prefixed")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    lab.assert_converged(proxy, bucket, prefix="copy-of-")
    names = {each["Name"] for each in lab.s3_mirror.list_buckets()["Buckets"]}
    assert f"copy-of-{bucket}" in names and bucket not in names


@pytest.mark.parametrize("fence", ["always", "overlap"])
def test_racing_writers_of_one_key_leave_main_s_last_state(lab, fence):
    proxy = lab.proxy(FENCE=fence)
    bucket = lab.bucket("race")

    def writer(number):
        client = s3.client(proxy.endpoint)
        for turn in range(25):
            if turn % 7 == 3:
                client.delete_object(Bucket=bucket, Key="hot")
            else:
                client.put_object(
                    Bucket=bucket,
                    Key="hot",
                    Body=f"{number}/{turn}".encode() * (1 + turn * 50),
                    Metadata={"writer": str(number)},
                )

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_a_write_beside_the_proxy_is_not_undone_by_a_late_copy(lab):
    """FENCE=always: what the mirror gets is main's state, whoever made it."""
    relay = lab.closing(HttpFaultProxy(lab.mirror.address, lambda request: None))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, FENCE="always")
    bucket = lab.bucket("beside")
    direct = lab.s3_main
    other_writes = []

    def rule(request):
        # At the moment the first copy reaches the mirror, main moves on without the proxy.
        if request.method == "PUT" and request.target.split("?")[0].endswith("/k"):
            if not other_writes:
                other_writes.append(True)
                direct.put_object(Bucket=bucket, Key="k", Body=b"written past the proxy")
        return None

    relay.rule = rule
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"written through the proxy")
    lab.assert_converged(proxy, bucket)
    assert other_writes


def test_a_burst_of_mirror_errors_is_retried_until_all_is_there(lab):
    counter = [0]

    def rule(request):
        counter[0] += 1
        if counter[0] <= 12:
            return [
                s3_error(500, "Internal Server Error", "InternalError"),
                s3_error(503, "Slow Down", "SlowDown"),
            ][counter[0] % 2]
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("burst")
    client = lab.client(proxy)
    for number in range(10):
        client.put_object(Bucket=bucket, Key=str(number), Body=b"x")
    lab.assert_converged(proxy, bucket, timeout=60)
    assert counter[0] > 12


def test_wrong_credentials_for_the_mirror_delay_copies_and_lose_nothing(lab):
    """A matter of the whole mirror, not of one key: it is put right and everything goes on."""
    proxy = lab.proxy(MIRROR_SECRET_KEY="not-the-mirrors-secret-key")
    bucket = lab.bucket("credentials")
    client = lab.client(proxy)
    for number in range(5):
        client.put_object(Bucket=bucket, Key=str(number), Body=b"x")
    client.delete_object(Bucket=bucket, Key="0")
    until(
        lambda: sum(proxy.metrics()["s3_proxy_mirror_errors_total"].values()) >= 3,
        "a few refusals",
    )
    assert lab.keys_on_mirror(bucket) == set()
    proxy.kill()
    proxy.process.environment["MIRROR_SECRET_KEY"] = lab.mirror.credentials.secret_key
    proxy.start()
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_a_key_the_mirror_will_never_take_is_parked_and_others_go_on(lab):
    """P8: a permanent error stops one key, with its reason, and nothing else."""

    def rule(request):
        if request.target.split("?")[0].endswith("/refused") and request.method in ("PUT", "POST"):
            return s3_error(400, "Bad Request", "InvalidArgument")
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("parked")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="refused", Body=b"x")
    for number in range(5):
        client.put_object(Bucket=bucket, Key=str(number), Body=b"x")
    until(lambda: "4" in lab.keys_on_mirror(bucket), "the other keys on the mirror")
    until(lambda: proxy.status()["mirror"]["parked"] == 1, "one parked key")
    until(
        lambda: _only_parked(gauges(proxy.status())),
        lambda: f"nothing else to be left: {proxy.status()}",
    )
    assert set(lab.keys_on_mirror(bucket)) == {str(number) for number in range(5)}
    assert "InvalidArgument" in proxy.process.stdout(), "the reason is nowhere to be read"
    rows = {row["path"]: row for row in lab.sqlite(proxy).rows(bucket)}
    assert "InvalidArgument" in rows["refused"]["last_error"]
    assert not rows["refused"]["is_backed_up"]
    assert all(row["last_error"] is None for path, row in rows.items() if path != "refused")


def test_the_inventory_says_why_a_key_is_not_mirrored_yet_and_forgets_it_afterwards(lab):
    sick = [True]

    def rule(request):
        if sick and request.target.split("?")[0].endswith("/k") and request.method == "PUT":
            return s3_error(403, "Forbidden", "AccessDenied")
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(), mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("reason")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    until(
        lambda: any("AccessDenied" in (row["last_error"] or "") for row in inventory.rows(bucket)),
        lambda: f"the reason: {inventory.rows(bucket)}",
    )
    assert not inventory.rows(bucket)[0]["is_backed_up"]
    sick.clear()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    assert inventory.rows(bucket)[0]["last_error"] is None


def _only_parked(figures):
    return all(value == 0 for name, value in figures.items() if name != "mirror.parked")

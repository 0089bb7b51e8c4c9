"""backfill and verify: what the mirror or the inventory lacks is found and brought over."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from support import compare, operator, s3
from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until

MIB = 1 << 20
KEYS = ["plain", "a b+c%", "ü/日本", "x//y", "dir/", "\U00010000", "\uff61", "q?&=<>", "n\x0bv"]


def fill(client, bucket, count=40):
    """Objects of every kind, put to main behind the proxy's back."""
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() * 3)
    for number in range(count):
        client.put_object(
            Bucket=bucket,
            Key=f"many/{number:04d}",
            Body=b"x" * number,
            ContentType="text/plain",
            Metadata={"number": str(number)},
            Tagging="a=1&b=2" if number % 7 == 0 else "",
        )
    s3.put_multipart(client, bucket, "parts", [b"p" * (5 * MIB), b"q" * 1000], ContentType="a/b")


def operated(lab, inventory=None, **options):
    settings = {**operator.settings(), **options}
    return lab.proxy(inventory.settings() if inventory else None, **settings)


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_backfill_brings_over_what_was_there_before_the_proxy(lab, kind):
    bucket = lab.bucket("backfill")
    fill(lab.s3_main, bucket)
    inventory = lab.postgres() if kind == "postgres" else None
    proxy = operated(lab, inventory)
    inventory = inventory or lab.sqlite(proxy)
    assert lab.keys_on_mirror(bucket) == set()

    view = operator.job(proxy, "backfill", "--bucket", bucket)
    assert view["state"] == "done" and view["scanned"] == view["queued"] == len(KEYS) + 41
    lab.assert_converged(proxy, bucket, inventory=inventory)

    again = operator.job(proxy, "backfill", "--bucket", bucket)
    assert (again["scanned"], again["queued"]) == (len(KEYS) + 41, 0), again
    view = operator.job(proxy, "verify", "--bucket", bucket)
    assert view["differences"] == 0


def test_backfill_brings_only_the_prefix_and_leaves_what_is_only_on_the_mirror(lab):
    bucket = lab.bucket("backfill")
    fill(lab.s3_main, bucket, 5)
    lab.s3_mirror.create_bucket(Bucket=bucket)
    lab.s3_mirror.put_object(Bucket=bucket, Key="many/extra", Body=b"mirror's own")
    proxy = operated(lab)
    view = operator.job(proxy, "backfill", "--bucket", bucket, "--prefix", "many/")
    assert view["queued"] == 5
    assert lab.keys_on_mirror(bucket) == {f"many/{n:04d}" for n in range(5)} | {"many/extra"}


def test_backfill_fills_the_inventory_where_only_rows_are_missing(lab):
    bucket = lab.bucket("rows")
    first = operated(lab, lab.postgres())
    client = lab.client(first)
    for number in range(10):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * number)
    first.wait_drained()
    first.stop()

    inventory = lab.postgres()
    proxy = operated(lab, inventory)
    assert inventory.rows(bucket) == []
    view = operator.job(proxy, "backfill", "--bucket", bucket)
    assert (view["queued"], view["counts"]["inventory"]) == (10, 10)
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_backfill_goes_on_after_a_kill_and_leaves_nothing_out(lab):
    bucket = lab.bucket("killed")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: lab.s3_main.put_object(
            Bucket=bucket, Key=f"{number:05d}", Body=b"x" * (number % 50)
        ), range(600)))  # fmt: skip
    inventory = lab.postgres()
    proxy = operated(lab, inventory)
    # Slow enough to be killed in the middle of it: three seconds without the kills.
    code, out, err = operator.command(
        proxy, "backfill", "--bucket", bucket, "--bandwidth", "5KiB", "--detach", "--json"
    )
    assert code == 0, err
    job = json.loads(out)["id"]
    path = f"/api/v1/jobs/{job}"
    for seen in (60, 120):
        until(
            lambda seen=seen: json.loads(proxy.admin(path)[2])["counts"]["confirmed"] >= seen,
            lambda: f"keys to be brought over: {proxy.admin(path)[2]}",
        )
        proxy.kill()
        proxy.start()
    code, out, err = operator.command(proxy, "jobs", "watch", job, "--json")
    last = json.loads(out.splitlines()[-1])
    assert code == 0 and last["state"] == "done", (last, err)
    assert last["scanned"] >= 600
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_live_writes_during_a_backfill_win_and_come_first(lab):
    bucket = lab.bucket("live")
    for number in range(300):
        lab.s3_main.put_object(Bucket=bucket, Key=f"{number:04d}", Body=b"before" * 100)
    inventory = lab.postgres()
    proxy = operated(lab, inventory)
    client = lab.client(proxy)
    stop = threading.Event()
    failures = []

    def write():
        number = 0
        while not stop.is_set():
            number += 7
            try:
                client.put_object(Bucket=bucket, Key=f"{number % 300:04d}", Body=b"%d" % number)
                client.delete_object(Bucket=bucket, Key=f"{(number + 3) % 300:04d}")
            except ClientError as error:
                failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        operator.job(proxy, "backfill", "--bucket", bucket, "--rate", "400")
        view = operator.job(proxy, "verify", "--bucket", bucket)
    finally:
        stop.set()
        writer.join(30)
    assert not failures, failures[:3]
    # Whatever was being written meanwhile is no difference.
    assert view["differences"] == 0, operator.report_of(proxy, view)["differences"]
    lab.assert_converged(proxy, bucket, inventory=inventory)
    assert operator.job(proxy, "verify", "--bucket", bucket)["differences"] == 0


def damaged(lab, inventory):
    """A bucket in step, then damaged in every way behind the proxy's back."""
    bucket = lab.bucket("verify")
    proxy = operated(lab, inventory)
    client = lab.client(proxy)
    for key in ["same", "lost", "changed", "row", "stale", "gone"]:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"a": "1"})
    lab.assert_converged(proxy, bucket, inventory=inventory)
    lab.s3_mirror.delete_object(Bucket=bucket, Key="lost")
    lab.s3_mirror.put_object(Bucket=bucket, Key="changed", Body=b"CHANGED")
    lab.s3_mirror.put_object(Bucket=bucket, Key="extra", Body=b"extra")
    table = f'"bucket_{bucket.replace("-", "_")}"'
    inventory.query(f"DELETE FROM {table} WHERE path = 'row' RETURNING 1")
    inventory.query(f"UPDATE {table} SET size = 999 WHERE path = 'stale' RETURNING 1")
    # Another writer: gone from both sides, and the inventory has not heard of it.
    lab.s3_main.delete_object(Bucket=bucket, Key="gone")
    lab.s3_mirror.delete_object(Bucket=bucket, Key="gone")
    lab.s3_main.put_object(Bucket=bucket, Key="new", Body=b"written to main directly")
    return bucket, proxy


EXPECTED = {
    "lost": "only_main",
    "new": "only_main",
    "changed": "content",
    "extra": "only_mirror",
    "row": "row_missing",
    "stale": "row_differs",
    "gone": "row_extra",
}


def test_verify_finds_every_difference_and_changes_nothing(lab):
    inventory = lab.postgres()
    bucket, proxy = damaged(lab, inventory)
    view = operator.job(proxy, "verify", "--bucket", bucket, code=1)
    report = operator.report_of(proxy, view)
    assert {each["key"]: each["what"] for each in report["differences"]} == EXPECTED
    assert report["agree"] is False and report["differences_not_listed"] == 0
    assert any("bucket settings" in remark for remark in report["remarks"])
    assert view["differences"] == len(EXPECTED) and view["queued"] == 0
    assert lab.keys_on_mirror(bucket) == {"same", "changed", "row", "stale", "extra"}
    code, kind, body = proxy.admin(f"/api/v1/jobs/{view['id']}/report")
    assert (code, json.loads(body)) == (200, report), kind


def test_listings_of_several_pages_that_end_at_different_keys_are_compared_exactly(lab):
    """The two sides' pages of a thousand keys drift apart: one lacks keys, the other has more."""
    bucket = lab.bucket("pages")
    keys = [f"{number * 7919 % 100_000:05d}" for number in range(2400)]
    missing = set(keys[::9])
    extra = {f"{key}x" for key in keys[3::17]}
    changed = set(keys[1::50]) - missing
    lab.s3_mirror.create_bucket(Bucket=bucket)
    with ThreadPoolExecutor(8) as pool:
        put = lambda store, key, body: store.put_object(  # noqa: E731
            Bucket=bucket, Key=key, Body=body
        )
        made = [pool.submit(put, lab.s3_main, key, b"m") for key in keys]
        for key in (set(keys) - missing) | extra:
            made.append(pool.submit(put, lab.s3_mirror, key, b"r" if key in changed else b"m"))
        for each in made:
            each.result()
    proxy = operated(lab, DISABLE_DATABASE="true")
    view = operator.job(proxy, "verify", "--bucket", bucket, code=1)
    counts = view["counts"]
    assert view["scanned"] == len(keys)
    found = {"only_main": len(missing), "only_mirror": len(extra), "different": len(changed)}
    assert {name: counts[name] for name in found} == found
    report = operator.report_of(proxy, view)
    told = {(each["what"], each["key"]) for each in report["differences"]}
    assert told == {
        *(("only_main", key) for key in missing),
        *(("only_mirror", key) for key in extra),
        *(("content", key) for key in changed),
    }
    view = operator.job(proxy, "verify", "--bucket", bucket, "--repair", "--delete-extra")
    assert view["counts"]["queued"] == sum(found.values())
    view = operator.job(proxy, "verify", "--bucket", bucket)
    assert view["differences"] == 0


def test_verify_repairs_and_removes_only_when_it_is_told_to(lab):
    inventory = lab.postgres()
    bucket, proxy = damaged(lab, inventory)
    view = operator.job(proxy, "verify", "--bucket", bucket, "--repair", code=1)
    assert (view["differences"], view["queued"]) == (7, 6)
    proxy.wait_drained()
    left = compare.mirror_differences(lab.s3_main, lab.s3_mirror, bucket)
    assert left == ["only on the mirror: 'extra'"]
    view = operator.job(proxy, "verify", "--bucket", bucket, "--repair", "--delete-extra")
    assert (view["differences"], view["queued"]) == (1, 1)
    lab.assert_converged(proxy, bucket, inventory=inventory)
    assert operator.job(proxy, "verify", "--bucket", bucket)["differences"] == 0


def test_deep_verify_finds_what_listings_cannot_show_and_repairs_it(lab):
    bucket = lab.bucket("deep")
    proxy = operated(lab)
    client = lab.client(proxy)
    for key in ["same", "headers", "tags", "bytes"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"0123456789", Tagging="a=1")
    proxy.wait_drained()
    copy = {"Bucket": bucket, "Key": "headers"}
    lab.s3_mirror.copy_object(
        **copy, CopySource=copy, MetadataDirective="REPLACE", Metadata={"x": "y"}
    )
    tags = {"TagSet": [{"Key": "a", "Value": "2"}]}
    lab.s3_mirror.put_object_tagging(Bucket=bucket, Key="tags", Tagging=tags)
    rot(lab, proxy, bucket)

    assert operator.job(proxy, "verify", "--bucket", bucket)["differences"] == 0
    view = operator.job(proxy, "verify", "--bucket", bucket, "--deep", code=1)
    found = {each["key"]: each["what"] for each in operator.report_of(proxy, view)["differences"]}
    assert found == {"headers": "headers", "tags": "tags", "bytes": "bytes"}
    operator.job(proxy, "verify", "--bucket", bucket, "--deep", "--repair")
    lab.assert_converged(proxy, bucket)
    assert operator.job(proxy, "verify", "--bucket", bucket, "--deep")["differences"] == 0


def test_a_good_copy_is_not_replaced_by_rotten_bytes_of_main(lab):
    bucket = lab.bucket("rotten-main")
    proxy = operated(lab)
    marked = rot(lab, proxy, bucket, lab.main)
    view = operator.job(proxy, "verify", "--bucket", bucket, "--deep", "--repair", code=3)
    assert (view["errors"], view["queued"]) == (1, 0), view
    assert "main is damaged" in json.dumps(operator.report_of(proxy, view))
    assert lab.s3_mirror.get_object(Bucket=bucket, Key="bytes")["Body"].read() == marked


def test_a_listing_that_a_gateway_interrupts_goes_on_when_the_store_is_back(lab):
    """Its 404 is no end of the bucket."""
    bucket = lab.bucket("interrupted")
    fill(lab.s3_main, bucket, 5)
    gateway = b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n"
    met = []

    def rule(request):
        if request.method == "GET" and "list-type=2" in request.target and len(met) < 3:
            met.append(request.target)
            return gateway
        return None

    relay = lab.closing(HttpFaultProxy(lab.main.address, rule))
    proxy = operated(lab, main_endpoint=relay.endpoint)
    view = operator.job(proxy, "backfill", "--bucket", bucket)
    assert len(met) == 3 and view["queued"] == len(KEYS) + 6, view
    lab.assert_converged(proxy, bucket)


def test_keys_that_keep_failing_do_not_keep_the_others_from_their_turn(lab):
    # More than a job has in the journal at one time; they come first.
    failing = 300
    bucket = lab.bucket("stuck")
    with ThreadPoolExecutor(8) as pool:
        put = lambda number: lab.s3_main.put_object(  # noqa: E731
            Bucket=bucket, Key=f"a-refused/{number}", Body=b"x"
        )
        list(pool.map(put, range(failing)))
    for number in range(20):
        lab.s3_main.put_object(Bucket=bucket, Key=f"b-taken/{number}", Body=b"x")

    def rule(request):
        if request.method == "PUT" and "/a-refused/" in request.target:
            return s3_error(403, "Forbidden", "AccessDenied")
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = operated(lab, mirror_endpoint=relay.endpoint)
    view = operator.job(proxy, "backfill", "--bucket", bucket, code=3, timeout=240)
    assert lab.keys_on_mirror(bucket) == {f"b-taken/{number}" for number in range(20)}
    assert f"{failing} keys keep failing" in view["message"], view


def rot(lab, proxy, bucket, side=None):
    """Turns bytes of an object on its disk, as a failing disk would: of the mirror's, or of main's."""
    # Large enough to be a file of its own.
    marked = f"rotten and unique in {bucket} ".encode() * 100_000
    lab.client(proxy).put_object(Bucket=bucket, Key="bytes", Body=marked)
    proxy.wait_drained()
    found = [
        path
        for path in (side or lab.mirror).data_dir.rglob("*")
        if path.is_file() and path.stat().st_size == len(marked) and path.read_bytes() == marked
    ]
    assert len(found) == 1, found
    found[0].write_bytes(marked[:-1] + b"!")
    return marked


def test_a_job_without_the_token_or_with_nonsense_is_refused(lab):
    proxy = operated(lab)
    wrong = {"ADMIN_TOKEN": "not-the-token-at-all-0000"}
    code, _, err = operator.command(proxy, "backfill", environment=wrong)
    assert code == 77 and "refuses" in err
    code, _, err = operator.command(proxy, "verify", "--delete-extra")
    assert code == 2, err
    code, _, err = operator.command(proxy, "backfill", "--bucket", "no-such-bucket-anywhere")
    assert code == 3, err
    code, _, err = operator.command(proxy, "backfill", "--bandwidth", "fast")
    assert code == 2, err
    code, _, err = operator.command(proxy, "backfill", environment={"ADMIN_ADDR": "127.0.0.1:1"})
    assert code == 69 and "cannot be reached" in err


def test_a_job_is_cancelled_and_another_at_the_same_keys_is_refused(lab):
    bucket = lab.bucket("cancel")
    for number in range(50):
        lab.s3_main.put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * 1000)
    proxy = operated(lab)
    slow = ("backfill", "--bucket", bucket, "--bandwidth", "1KiB")
    code, out, err = operator.command(proxy, *slow, "--detach", "--json")
    assert code == 0, err
    job = json.loads(out)["id"]
    code, _, err = operator.command(proxy, *slow)
    assert code == 3 and job in err
    code, _, err = operator.command(proxy, "jobs", "cancel", job)
    assert code == 0, err
    code, out, err = operator.command(proxy, "jobs", "watch", job)
    assert code == 4 and "cancelled" in out, (out, err)
    code, out, _ = operator.command(proxy, "jobs")
    assert code == 0 and job in out


def test_a_stopping_proxy_does_not_wait_for_a_job(lab):
    bucket = lab.bucket("stop")
    for number in range(50):
        lab.s3_main.put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * 1000)
    proxy = operated(lab, DRAIN_TIMEOUT_SECONDS=600)
    code, out, err = operator.command(
        proxy, "backfill", "--bucket", bucket, "--bandwidth", "1KiB", "--detach", "--json"
    )
    assert code == 0, err
    job = json.loads(out)["id"]
    path = f"/api/v1/jobs/{job}"
    until(
        lambda: json.loads(proxy.admin(path)[2])["counts"]["confirmed"] > 0,
        lambda: f"a first key: {proxy.admin(path)[2]}",
    )
    assert proxy.stop(30) == 0
    proxy.start()
    assert json.loads(proxy.admin(path)[2])["state"] == "running"

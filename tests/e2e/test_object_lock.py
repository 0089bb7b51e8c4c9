"""MIRROR_OBJECT_LOCK: retention and legal hold follow main's; and the checksums main stores."""

import os
from datetime import datetime, timezone

import pytest

from support.http_fault import HttpFaultProxy, s3_error
from support.lab import Lab
from support.poll import until
from support.versioned import VersionedStore

UNTIL = datetime(2040, 1, 1, tzinfo=timezone.utc)
LATER = datetime(2041, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def vlab(tmp_path):
    """Two stores that keep object locks, which the embedded one does not."""
    stores = [VersionedStore("main"), VersionedStore("mirror")]
    laboratory = Lab(*stores, None, tmp_path)
    yield laboratory
    laboratory.close()
    for store in stores:
        store.close()


def lock_of(client, bucket, key):
    head = client.head_object(Bucket=bucket, Key=key)
    return (
        head.get("ObjectLockMode"),
        head.get("ObjectLockRetainUntilDate"),
        head.get("ObjectLockLegalHoldStatus"),
    )


@pytest.mark.parametrize("versions", [False, True], ids=["plain", "versioned"])
def test_retention_and_legal_hold_follow_main(vlab, versions):
    proxy = vlab.proxy(MIRROR_OBJECT_LOCK="true")
    bucket = f"lock-{os.urandom(4).hex()}"
    for client in (vlab.s3_main, vlab.s3_mirror):
        client.create_bucket(Bucket=bucket)
        if versions:
            status = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=status)
    client = vlab.client(proxy)
    one = {"Bucket": bucket, "Key": "k"}
    client.put_object(
        **one,
        Body=b"kept",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=UNTIL,
        ObjectLockLegalHoldStatus="ON",
    )
    client.put_object(Bucket=bucket, Key="free", Body=b"free")
    proxy.wait_drained()
    assert lock_of(vlab.s3_mirror, bucket, "k") == ("GOVERNANCE", UNTIL, "ON")
    assert lock_of(vlab.s3_mirror, bucket, "free") == (None, None, None)
    # A request that changes nothing but the lock sends no bytes.
    vlab.mirror.requests.clear()
    client.put_object_retention(
        **one, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": LATER}
    )
    client.put_object_legal_hold(**one, LegalHold={"Status": "OFF"})
    proxy.wait_drained()
    mode, until, hold = lock_of(vlab.s3_mirror, bucket, "k")
    assert (mode, until) == ("COMPLIANCE", LATER) and hold != "ON"
    sent = [request for request in vlab.mirror.requests if request[0] == "PUT"]
    assert all("retention" in query or "legal-hold" in query for _, _, query, _ in sent), sent


def test_locks_are_left_alone_unless_they_are_asked_for(vlab):
    proxy = vlab.proxy()
    bucket = f"lock-{os.urandom(4).hex()}"
    vlab.s3_main.create_bucket(Bucket=bucket)
    client = vlab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x", ObjectLockLegalHoldStatus="ON")
    proxy.wait_drained()
    assert lock_of(vlab.s3_main, bucket, "k")[2] == "ON"
    assert lock_of(vlab.s3_mirror, bucket, "k") == (None, None, None)


def checksums(client, bucket, key):
    head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    return {name: value for name, value in head.items() if name.startswith("Checksum")}


@pytest.mark.parametrize("tee", [64 << 20, 0], ids=["kept", "read_back"])
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_the_checksum_main_stores_is_stored_by_the_mirror(lab, algorithm, tee):
    proxy = lab.proxy(TEE_MEMORY_BYTES=tee, TEE_SPOOL_BYTES=0)
    bucket = lab.bucket("checksum")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"bytes", ChecksumAlgorithm=algorithm)
    lab.assert_converged(proxy, bucket)
    stored = checksums(lab.s3_main, bucket, "k")
    assert f"Checksum{algorithm}" in stored
    assert checksums(lab.s3_mirror, bucket, "k") == stored


def test_a_mirror_that_refuses_checksums_gets_the_objects_without(lab):
    refused = []

    def rule(request):
        names = [name for name, _ in request.headers]
        if request.method == "PUT" and any(n.startswith("x-amz-checksum-") for n in names):
            refused.append(request)
            return s3_error(501, "Not Implemented", "NotImplemented")
        return None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("checksum")
    # Otherwise the first copy is sent once more when its bucket has been made.
    lab.s3_mirror.create_bucket(Bucket=bucket)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"bytes", ChecksumAlgorithm="CRC32")
    lab.assert_converged(proxy, bucket)
    client.put_object(Bucket=bucket, Key="again", Body=b"bytes", ChecksumAlgorithm="CRC32")
    lab.assert_converged(proxy, bucket)
    assert len(refused) == 1
    assert "without this checksum" in proxy.process.stdout()


def test_an_object_refused_for_another_reason_costs_nobody_the_checksum(lab):
    sent = {"refused": [], "k": []}

    def rule(request):
        key = request.target.partition("?")[0].rsplit("/", 1)[1]
        if request.method != "PUT" or key not in sent:
            return None
        sent[key].append("x-amz-checksum-crc32" in dict(request.headers))
        return s3_error(400, "Bad Request", "InvalidArgument") if key == "refused" else None

    relay = lab.closing(HttpFaultProxy(lab.mirror.address, rule))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("checksum")
    lab.s3_mirror.create_bucket(Bucket=bucket)
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="refused", Body=b"bytes", ChecksumAlgorithm="CRC32")
    until(lambda: proxy.status()["mirror"]["parked"] == 1, "one parked key")
    client.put_object(Bucket=bucket, Key="k", Body=b"bytes", ChecksumAlgorithm="CRC32")
    until(lambda: "k" in lab.keys_on_mirror(bucket), "the other key on the mirror")
    # With it, and without it to find out; no third time.
    assert sent == {"refused": [True, False], "k": [True]}

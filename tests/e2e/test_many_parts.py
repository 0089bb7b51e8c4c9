"""An object of a thousand parts: the mirror's has the same boundaries, and so the same ETag."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import s3
from support.lab import Lab
from support.versioned import VersionedStore

PARTS = 1000


@pytest.fixture
def vlab(tmp_path):
    """Stores that take parts of any size: a thousand of five mebibytes would be five gibibytes."""
    stores = [VersionedStore("main"), VersionedStore("mirror")]
    laboratory = Lab(*stores, None, tmp_path)
    yield laboratory
    laboratory.close()
    for store in stores:
        store.close()


@pytest.mark.parametrize("tee", [64 << 20, 0], ids=["kept", "read_back"])
def test_an_object_of_a_thousand_parts_keeps_its_etag(vlab, tee):
    proxy = vlab.proxy(TEE_MEMORY_BYTES=tee, TEE_SPOOL_BYTES=0, DISABLE_DATABASE="true")
    bucket = f"parts-{os.urandom(4).hex()}"
    vlab.s3_main.create_bucket(Bucket=bucket)
    client = vlab.client(proxy)
    one = {"Bucket": bucket, "Key": "k"}
    upload = {**one, "UploadId": client.create_multipart_upload(**one)["UploadId"]}

    def send(number):
        # Uneven, so that nothing but the sizes as they were sent gives the same ETag.
        body = b"%d" % number * (1 + number % 7)
        answer = client.upload_part(**upload, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(send, range(1, PARTS + 1)))
    etag = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ETag"]
    assert etag.strip('"').endswith(f"-{PARTS}")
    proxy.wait_drained(60)
    main, mirror = (store.get_object(**one) for store in (vlab.s3_main, vlab.s3_mirror))
    assert mirror["ETag"] == main["ETag"] == etag
    assert mirror["Body"].read() == main["Body"].read()
    assert vlab.mirror.versions.bucket(bucket).uploads == {}
    assert set(s3.every_key(vlab.s3_mirror, bucket)) == {"k"}

"""P6: memory does not grow with the size of objects. Prints the kernel's own high-water mark.

Eight uploads and eight downloads at a time, far larger together than the limit. E2E_OBJECT_BYTES
sets the size of each (1 GiB for the figure in the documentation).
"""

import hashlib
import os
import selectors
import threading

import pytest

from support import raw, sigv4

OBJECT_BYTES = int(os.environ.get("E2E_OBJECT_BYTES") or 128 * 1024 * 1024)
PARALLEL = 8
LIMIT_BYTES = 100 * 1024 * 1024
PIECE = bytes(range(256)) * 4096  # 1 MiB


def upload(proxy, bucket, number):
    headers = [("Host", "h"), ("Content-Length", str(OBJECT_BYTES))]
    with raw.Connection(proxy.address, timeout=600) as connection:
        connection.send(raw.request_bytes("PUT", f"/{bucket}/{number}", headers))
        for _ in range(OBJECT_BYTES // len(PIECE)):
            connection.send(PIECE)
        return connection.read_response().status


def download(proxy, bucket, number):
    """The digest of the body, taken without keeping it."""
    digest = hashlib.sha256()
    with raw.Connection(proxy.address, timeout=600) as connection:
        connection.send(raw.request_bytes("GET", f"/{bucket}/{number}", [("Host", "h")]))
        status, _, headers = connection.read_head()
        assert status == 200 and ("content-length", str(OBJECT_BYTES)) in headers
        left = OBJECT_BYTES
        while left:
            data = connection.take(left)
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def in_parallel(action, proxy, bucket):
    results = [None] * PARALLEL

    def run(number):
        results[number] = action(proxy, bucket, number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.timeout(1800)
def test_large_uploads_and_downloads_do_not_grow_the_process(lab):
    assert OBJECT_BYTES % len(PIECE) == 0 and OBJECT_BYTES * PARALLEL > 5 * LIMIT_BYTES
    # The journal and the tee keep their documented defaults: the figure includes them.
    proxy = lab.proxy(DISABLE_DATABASE="true")
    bucket = lab.bucket("memory")
    assert in_parallel(upload, proxy, bucket) == [200] * PARALLEL
    expected = hashlib.sha256()
    for _ in range(OBJECT_BYTES // len(PIECE)):
        expected.update(PIECE)
    assert in_parallel(download, proxy, bucket) == [expected.hexdigest()] * PARALLEL
    proxy.wait_drained(900)
    peak = proxy.process.resident_peak_bytes()
    print(
        f"{PARALLEL} x {OBJECT_BYTES >> 20} MiB up, down and mirrored: "
        f"peak resident memory {peak / (1 << 20):.1f} MiB"
    )
    assert peak < LIMIT_BYTES, f"{peak / (1 << 20):.1f} MiB"
    sizes = {
        key: lab.s3_mirror.head_object(Bucket=bucket, Key=key)["ContentLength"]
        for key in lab.keys_on_mirror(bucket)
    }
    assert sizes == {str(number): OBJECT_BYTES for number in range(PARALLEL)}


CHUNKS = 100
CHUNK_BYTES = int(os.environ.get("E2E_CHUNK_BYTES") or 8 * 1024 * 1024)
#: Two and a half mebibytes an upload, the copies to the mirror included.
CHUNKS_LIMIT_BYTES = 250 * 1024 * 1024


def one_chunk(bucket, number, body):
    """An upload as aws-cli v2 sends a part: the whole of it as one chunk, its checksum behind it."""
    sent = sigv4.unsigned_chunks(body, len(body), ("x-amz-checksum-crc32", sigv4.crc32(body)))
    headers = [
        ("Host", "h"),
        ("Content-Length", str(len(sent))),
        ("X-Amz-Content-SHA256", sigv4.STREAMING_UNSIGNED_TRAILER),
        ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ("X-Amz-Decoded-Content-Length", str(len(body))),
    ]
    return raw.request_bytes("PUT", f"/{bucket}/{number}", headers) + sent


@pytest.mark.timeout(600)
def test_a_hundred_uploads_of_one_chunk_each_hold_none_of_them_whole(lab):
    """All of them are under way at the same time: none is finished before every one lacks only its
    last bytes."""
    proxy = lab.proxy(DISABLE_DATABASE="true", TEE_MEMORY_BYTES="0", TEE_SPOOL_BYTES="0")
    bucket = lab.bucket("chunks")
    body = PIECE * (CHUNK_BYTES // len(PIECE))
    connections = [raw.Connection(proxy.address, timeout=600) for _ in range(CHUNKS)]
    uploads = [memoryview(one_chunk(bucket, number, body)) for number in range(CHUNKS)]
    tail = 10
    with selectors.DefaultSelector() as selector:
        for number, connection in enumerate(connections):
            connection.socket.setblocking(False)
            selector.register(connection.socket, selectors.EVENT_WRITE, number)
        sent = [0] * CHUNKS
        while selector.get_map():
            for each, _ in selector.select():
                number = each.data
                left = uploads[number][sent[number] : -tail]
                sent[number] += each.fileobj.send(left[: len(PIECE)])
                if sent[number] == len(uploads[number]) - tail:
                    selector.unregister(each.fileobj)
    assert not lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"], "none has ended yet"
    for connection, upload in zip(connections, uploads, strict=True):
        connection.socket.settimeout(600)
        connection.send(upload[-tail:])
    assert [connection.read_response().status for connection in connections] == [200] * CHUNKS
    for connection in connections:
        connection.socket.close()
    peak = proxy.process.resident_peak_bytes()
    print(
        f"{CHUNKS} uploads of one chunk of {CHUNK_BYTES >> 20} MiB each at the same time: "
        f"peak resident memory {peak / (1 << 20):.1f} MiB"
    )
    assert CHUNKS * CHUNK_BYTES > 3 * CHUNKS_LIMIT_BYTES
    assert peak < CHUNKS_LIMIT_BYTES, f"{peak / (1 << 20):.1f} MiB"
    assert lab.s3_main.list_objects_v2(Bucket=bucket)["KeyCount"] == CHUNKS

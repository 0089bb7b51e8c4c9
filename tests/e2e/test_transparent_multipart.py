"""P1 for multipart uploads: parts of odd sizes, re-uploaded, copied, listed, aborted, wrong."""

import random

import pytest

from support.twin import run_twice

MIB = 1024 * 1024


def bytes_of(seed, size):
    return random.Random(seed).randbytes(size)


#: Three parts of odd sizes; only the last may be below 5 MiB.
ODD_PARTS = [bytes_of(1, 5 * MIB + 1), bytes_of(2, 6 * MIB - 7), bytes_of(3, 123_457)]


def begin(s, key, **parameters):
    answer = s.call("create_multipart_upload", status=200, Key=key, **parameters)
    return {"Key": key, "UploadId": answer["UploadId"]}


def send(s, upload, number, body):
    answer = s.call("upload_part", status=200, PartNumber=number, Body=body, **upload)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def complete(s, upload, parts, status=200):
    return s.call(
        "complete_multipart_upload", status=status, MultipartUpload={"Parts": parts}, **upload
    )


def three_parts_of_odd_sizes(s):
    upload = begin(s, "odd +%ü", ContentType="video/x-odd", Metadata={"made": "in parts"})
    parts = [send(s, upload, n, body) for n, body in enumerate(ODD_PARTS, start=1)]
    s.call("list_parts", status=200, **upload)
    s.call("list_multipart_uploads", status=200)
    complete(s, upload, parts)
    s.head(upload["Key"])
    s.get(upload["Key"])
    s.get(upload["Key"], status=206, Range=f"bytes={5 * MIB - 10}-{5 * MIB + 10}")
    s.get(upload["Key"], status=206, PartNumber=2)
    s.head(upload["Key"], status=206, PartNumber=3)
    s.call("list_objects_v2", status=200)


def one_small_part(s):
    upload = begin(s, "one")
    complete(s, upload, [send(s, upload, 1, b"only this")])
    s.get("one")


def gaps_and_reuploaded_parts(s):
    upload = begin(s, "gaps")
    send(s, upload, 7, b"thrown away")
    first = send(s, upload, 7, ODD_PARTS[0])
    last = send(s, upload, 9_999, b"end")
    complete(s, upload, [first, last])
    s.get("gaps")


def aborting(s):
    upload = begin(s, "aborted")
    send(s, upload, 1, b"x")
    s.call("abort_multipart_upload", status=204, **upload)
    s.call("list_parts", status=404, **upload)
    s.call("list_multipart_uploads", status=200)
    s.head("aborted", status=404)


def parts_copied_from_another_object(s):
    s.put("source +ä", ODD_PARTS[0] + ODD_PARTS[2])
    source = {"Bucket": s.bucket, "Key": "source +ä"}
    upload = begin(s, "assembled")
    etags = []
    for number, text in enumerate((f"bytes=0-{5 * MIB - 1}", "bytes=17-4711"), start=1):
        answer = s.call(
            "upload_part_copy",
            status=200,
            PartNumber=number,
            CopySource=source,
            CopySourceRange=text,
            **upload,
        )
        etags.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    complete(s, upload, etags)
    s.get("assembled")


def copying_a_multipart_object_makes_it_a_plain_one(s):
    upload = begin(s, "in-parts", ContentType="a/b")
    complete(s, upload, [send(s, upload, n, body) for n, body in enumerate(ODD_PARTS, start=1)])
    s.call(
        "copy_object", status=200, Key="plain", CopySource={"Bucket": s.bucket, "Key": "in-parts"}
    )
    s.head("plain")


def completing_wrongly(s):
    upload = begin(s, "wrong")
    first = send(s, upload, 1, b"below 5 MiB")
    second = send(s, upload, 2, b"y")
    complete(s, upload, [second, first], status=400)
    complete(s, upload, [{"PartNumber": 1, "ETag": '"0123"'}], status=400)
    complete(s, upload, [first, second], status=400)
    s.head("wrong", status=404)
    complete(s, upload, [second])
    s.get("wrong")
    # The upload is gone by now.
    send_again = {"PartNumber": 3, "Body": b"late"}
    s.call("upload_part", status=404, **send_again, **upload)


def overwriting_a_plain_object(s):
    s.put("both", b"plain", ContentType="text/plain")
    upload = begin(s, "both", ContentType="text/x-parts")
    complete(s, upload, [send(s, upload, 1, b"part")])
    s.head("both")
    s.put("both", b"plain again")
    s.head("both")


SCENARIOS = [
    three_parts_of_odd_sizes,
    one_small_part,
    gaps_and_reuploaded_parts,
    aborting,
    parts_copied_from_another_object,
    copying_a_multipart_object_makes_it_a_plain_one,
    completing_wrongly,
    overwriting_a_plain_object,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_the_answer_is_the_same_through_the_proxy(steady, scenario):
    lab, proxy, inventory = steady
    run_twice(lab, proxy, scenario, inventory)


def test_a_managed_transfer_uploads_and_downloads_in_parallel_parts(steady, tmp_path):
    lab, proxy, inventory = steady
    bucket = lab.bucket("transfer")
    client = lab.client(proxy)
    content = bytes_of(4, 20 * MIB + 3)
    before = tmp_path / "before"
    before.write_bytes(content)
    client.upload_file(str(before), bucket, "big", ExtraArgs={"ContentType": "x/y"})
    after = tmp_path / "after"
    client.download_file(bucket, "big", str(after))
    assert after.read_bytes() == content
    assert client.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-3"')
    lab.assert_converged(proxy, bucket, inventory=inventory)

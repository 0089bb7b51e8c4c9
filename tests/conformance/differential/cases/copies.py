"""Server-side copies, whole and by part; multipart uploads."""

import hashlib

from ..side import element

PART = b"p" * (5 << 20)


def copies(s):
    s.make_bucket()
    etag = s.put(
        "source", "src", b"source", headers=[("Content-Type", "text/a"), ("x-amz-meta-m", "1")]
    ).header("etag")
    source = ("x-amz-copy-source", f"/{s.bucket}/src")
    s.put("copy", "dst", headers=[source])
    s.get("copy", "dst")
    s.put("source without slash", "dst2", headers=[("x-amz-copy-source", f"{s.bucket}/src")])
    s.put(
        "replace metadata",
        "dst3",
        headers=[
            source,
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-meta-n", "2"),
            ("Content-Type", "text/b"),
        ],
    )
    s.head("replaced metadata", "dst3")
    s.put("onto itself, unchanged", "src", headers=[source])
    s.put(
        "onto itself, replaced",
        "src",
        headers=[source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-z", "9")],
    )
    s.put("if-match, right", "dst4", headers=[source, ("x-amz-copy-source-if-match", etag)])
    s.put("if-match, wrong", "dst5", headers=[source, ("x-amz-copy-source-if-match", '"0"')])
    s.put(
        "if-none-match, same", "dst5", headers=[source, ("x-amz-copy-source-if-none-match", etag)]
    )
    s.put("missing source", "dst6", headers=[("x-amz-copy-source", f"/{s.bucket}/nope")])
    s.put("missing source bucket", "dst6", headers=[("x-amz-copy-source", f"/{s.bucket}-nope/src")])
    s.put("malformed source", "dst6", headers=[("x-amz-copy-source", "nothing")])
    s.put("unknown directive", "dst7", headers=[source, ("x-amz-metadata-directive", "MAYBE")])
    s.put("key with characters", "a%20b%2Bc%25", b"odd")
    s.put("encoded source", "dst8", headers=[("x-amz-copy-source", f"/{s.bucket}/a%20b%2Bc%25")])
    s.get("of an encoded source", "dst8")
    s.put("unencoded UTF-8 key", "%C3%BC", b"umlaut")
    s.put("unencoded UTF-8 source", "dst9", headers=[("x-amz-copy-source", f"/{s.bucket}/\u00fc")])


def _complete(parts):
    body = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    return f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()


def multipart(s):
    s.make_bucket()
    created = s.post(
        "create",
        "big",
        query="?uploads",
        headers=[("Content-Type", "text/big"), ("x-amz-meta-m", "1")],
    )
    upload = element(created, "UploadId")
    parts = []
    for number, body in ((1, PART), (2, PART[:-1] + b"q"), (4, b"tail")):
        part = s.put(f"part {number}", "big", body, query=f"?partNumber={number}&uploadId={upload}")
        parts.append((number, part.header("etag")))
    s.put("part again", "big", b"TAIL", query=f"?partNumber=4&uploadId={upload}")
    parts[2] = (4, '"' + hashlib.md5(b"TAIL").hexdigest() + '"')
    s.put("part 0", "big", b"x", query=f"?partNumber=0&uploadId={upload}")
    s.put("part 10001", "big", b"x", query=f"?partNumber=10001&uploadId={upload}")
    s.put("part without number", "big", b"x", query=f"?uploadId={upload}")
    s.put("part of no upload", "big", b"x", query="?partNumber=1&uploadId=2~nonsense")
    s.get("list parts", "big", query=f"?uploadId={upload}")
    s.get("list parts by page", "big", query=f"?uploadId={upload}&max-parts=1&part-number-marker=1")
    s.get("list parts of no upload", "big", query="?uploadId=2~nonsense")
    s.get("list uploads", "", query="?uploads")
    s.get(
        "list uploads, encoded",
        "",
        query="?uploads=&encoding-type=url&prefix=b&delimiter=%2F&max-uploads=1",
    )
    s.get("before completion", "big")
    s.post(
        "complete with a wrong ETag", "big", _complete([(1, '"0"')]), query=f"?uploadId={upload}"
    )
    s.post("complete out of order", "big", _complete(parts[::-1]), query=f"?uploadId={upload}")
    s.post(
        "complete without parts", "big", b"<CompleteMultipartUpload/>", query=f"?uploadId={upload}"
    )
    s.post("complete with nonsense", "big", b"not xml", query=f"?uploadId={upload}")
    s.post("complete", "big", _complete(parts), query=f"?uploadId={upload}")
    s.head("completed", "big")
    s.head("part 1 of it", "big", query="?partNumber=1")
    s.get(
        "range over the border of parts",
        "big",
        headers=[("Range", f"bytes={len(PART) - 5}-{len(PART) + 4}")],
    )
    s.post("complete again", "big", _complete(parts), query=f"?uploadId={upload}")
    s.post("complete without a document", "big", query=f"?uploadId={upload}")
    # Too small a part that is not the last.
    small = element(s.post("create another", "small", query="?uploads="), "UploadId")
    etags = [
        s.put(
            f"small part {n}", "small", b"tiny", query=f"?partNumber={n}&uploadId={small}"
        ).header("etag")
        for n in (1, 2)
    ]
    s.post(
        "complete with small parts",
        "small",
        _complete(list(enumerate(etags, 1))),
        query=f"?uploadId={small}",
    )
    s.delete("abort", "small", query=f"?uploadId={small}")
    s.delete("abort again", "small", query=f"?uploadId={small}")
    s.get("list uploads, none", "", query="?uploads")
    # Parts copied from an object.
    copied = element(s.post("create for copies", "copied", query="?uploads"), "UploadId")
    source = ("x-amz-copy-source", f"/{s.bucket}/big")
    etags = []
    for number, span in ((1, f"bytes=0-{len(PART) - 1}"), (2, "bytes=5-14")):
        part = s.put(
            f"part {number} copied",
            "copied",
            headers=[source, ("x-amz-copy-source-range", span)],
            query=f"?partNumber={number}&uploadId={copied}",
        )
        etags.append((number, element(part, "ETag")))
    s.put(
        "part copied of nothing",
        "copied",
        headers=[("x-amz-copy-source", f"/{s.bucket}/nope")],
        query=f"?partNumber=3&uploadId={copied}",
    )
    s.put(
        "part copied past the end",
        "copied",
        headers=[source, ("x-amz-copy-source-range", "bytes=1-99999999")],
        query=f"?partNumber=3&uploadId={copied}",
    )
    s.post("complete the copies", "copied", _complete(etags), query=f"?uploadId={copied}")
    s.head("of copied parts", "copied")


FAMILIES = [("copies", copies), ("multipart", multipart)]

"""How requests travel: payload modes, keys in every spelling, virtual hosts, odd requests."""

import hashlib
from functools import wraps

from support import sigv4

from ..side import ANONYMOUS

DATA = bytes(range(256)) * 300  # more than one 64 KiB chunk


def _framed(value, make):
    """A `payload` for Side.send: `make(signer)` returns the framed body."""

    @wraps(make)
    def frame(signer):
        return make(signer)

    frame.payload = value
    return frame


def payloads(s):
    s.make_bucket()
    decoded = ("x-amz-decoded-content-length", str(len(DATA)))
    chunked = ("Content-Encoding", "aws-chunked")
    trailer = ("x-amz-trailer", "x-amz-checksum-crc32")
    checksum = ("x-amz-checksum-crc32", sigv4.crc32(DATA))

    s.put("hex", "hex", DATA)
    s.put("wrong hex", "wrong", DATA, payload=hashlib.sha256(b"other").hexdigest())
    s.head("not stored", "wrong")
    s.put("nonsense as hash", "wrong", DATA, payload="nonsense", differs="payload value")
    s.put("UNSIGNED-PAYLOAD", "unsigned", DATA, payload=sigv4.UNSIGNED)
    s.get("UNSIGNED-PAYLOAD", "unsigned", payload=sigv4.UNSIGNED)
    signed = _framed(
        sigv4.STREAMING_SIGNED, lambda signer: sigv4.signed_chunks(signer, DATA, 65536)
    )
    s.put("signed chunks", "chunks", headers=[decoded, chunked], payload=signed)
    s.get("signed chunks", "chunks", differs="aws-chunked stored")
    s.put("signed chunks without aws-chunked", "chunks2", headers=[decoded], payload=signed)
    s.get("signed chunks without aws-chunked", "chunks2")
    s.put(
        "signed chunks of gzip",
        "gzip",
        headers=[decoded, ("Content-Encoding", "aws-chunked,gzip")],
        payload=signed,
    )
    s.head("signed chunks of gzip", "gzip", differs="aws-chunked stored")
    s.head("Content-Encoding of signed chunks", "chunks", differs="aws-chunked stored")
    empty = _framed(sigv4.STREAMING_SIGNED, lambda signer: sigv4.signed_chunks(signer, b"", 65536))
    s.put(
        "signed chunks of nothing",
        "nothing",
        headers=[("x-amz-decoded-content-length", "0"), chunked],
        payload=empty,
        differs="chunks of nothing",
    )
    s.put(
        "signed chunks without decoded length",
        "nolength",
        headers=[chunked],
        payload=signed,
        differs="decoded length",
    )
    short = _framed(
        sigv4.STREAMING_SIGNED, lambda signer: sigv4.signed_chunks(signer, DATA[:-1], 65536)
    )
    s.put(
        "signed chunks, one byte short",
        "short",
        headers=[decoded, chunked],
        payload=short,
        differs="chunk errors",
    )
    s.head("one byte short", "short")
    broken = _framed(
        sigv4.STREAMING_SIGNED,
        lambda signer: sigv4.signed_chunks(signer, DATA, 65536).replace(
            b"chunk-signature=", b"chunk-signature=0", 1
        ),
    )
    s.put(
        "malformed chunk header",
        "broken",
        headers=[decoded, chunked],
        payload=broken,
        differs="chunk errors",
    )
    s.head("malformed chunk header", "broken")
    unsigned_trailer = _framed(
        sigv4.STREAMING_UNSIGNED_TRAILER, lambda _: sigv4.unsigned_chunks(DATA, 65536, checksum)
    )
    s.put(
        "unsigned chunks with trailer",
        "trailer",
        headers=[decoded, chunked, trailer],
        payload=unsigned_trailer,
    )
    s.get("unsigned chunks with trailer", "trailer")
    signed_trailer = _framed(
        sigv4.STREAMING_SIGNED_TRAILER,
        lambda signer: sigv4.signed_chunks(signer, DATA, 65536, checksum),
    )
    s.put(
        "signed chunks with trailer",
        "trailer2",
        headers=[decoded, chunked, trailer],
        payload=signed_trailer,
    )
    bad_trailer = _framed(
        sigv4.STREAMING_UNSIGNED_TRAILER,
        lambda _: sigv4.unsigned_chunks(
            DATA, 65536, ("x-amz-checksum-crc32", sigv4.crc32(b"other"))
        ),
    )
    s.put(
        "wrong checksum in the trailer",
        "bad",
        headers=[decoded, chunked, trailer],
        payload=bad_trailer,
        differs="chunk errors",
    )
    s.head("wrong checksum in the trailer", "bad")
    s.put(
        "checksum header",
        "sum",
        DATA,
        headers=[checksum, ("x-amz-sdk-checksum-algorithm", "CRC32")],
    )
    s.head("checksum header", "sum", headers=[("x-amz-checksum-mode", "ENABLED")])
    s.get(
        "streaming value on GET",
        "hex",
        payload=sigv4.STREAMING_SIGNED,
        differs="streaming elsewhere",
    )
    tagging = b"<Tagging><TagSet/></Tagging>"
    s.put(
        "streaming value on tagging",
        "hex",
        tagging,
        query="?tagging",
        payload=sigv4.STREAMING_UNSIGNED_TRAILER,
        differs="streaming elsewhere",
    )


KEYS = (
    "plain",
    "a//b",
    "/leading",
    "trailing/",
    "dot/./dot",
    "dot/../dot",
    "..",
    "a%20space",
    "a+plus",
    "a%2Bplus",
    "a%2Fslash",
    "percent%25",
    "percent%2525",
    "tilde~",
    "%7Etilde",
    "!*'()",
    "%21%2A%27%28%29",
    ",:@=$&;",
    "%C3%BC",
    "%c3%bc-lower-case",
    "%E2%98%83",
    "%F0%9F%98%80",
    "e%CC%81",
    "%0A",
    "%7F",
    "x%3Cy%3E%26z",
    "question%3Fmark",
    "hash%23mark",
    "back%5Cslash",
    "%22quoted%22",
    "k" * 1024,
)


def keys(s):
    s.make_bucket()
    for number, key in enumerate(KEYS):
        shown = key if len(key) < 40 else f"{len(key)} bytes"
        s.put(f"put {shown}", key, f"content {number}".encode())
        s.get(f"get {shown}", key)
    s.put("put 1025 bytes", "k" * 1025, b"x", differs="illegal key")
    s.get("list of all", "", query="?encoding-type=url")
    s.get("list of all, not encoded", "")
    for title, target in (
        ("NUL", "nul%00"),
        ("not UTF-8", "%FF%FE"),
        ("half an escape", "half%2"),
        ("no escape", "no%zz"),
    ):
        s.send(f"put {title}", "PUT", s.path(target), body=b"x", differs="illegal key")
    for title, target in (
        ("raw UTF-8", "\u00fc"),
        ("raw special characters", "|^{}[]\\"),
    ):
        s.get(f"get {title}", target)


def queries(s):
    s.make_bucket()
    s.put("an object", "k", b"x")
    for title, target in (
        ("trailing question mark", "k?"),
        ("equals in a value", "k?response-content-type=a=b"),
        ("lower-case escapes", "k?response-content-type=text%2fa"),
        ("plus in a value", "k?response-content-type=a+b"),
        ("parameter without value", "k?acl="),
        ("two subresources", "k?acl&tagging"),
    ):
        s.get(title, "", query=f"/{target}")
    s.get("trailing ampersand", "k", query="?x-id=GetObject&")


def hosts(s):
    s.make_bucket()
    host = f"{s.bucket}.s3.localhost"
    s.send("virtual-hosted PUT", "PUT", "/k", body=b"virtual", host=host)
    s.send("virtual-hosted GET", "GET", "/k", host=host)
    s.send("virtual-hosted list", "GET", "/?list-type=2", host=host)
    s.send("virtual-hosted HEAD of the bucket", "HEAD", "/", host=host)
    s.send("virtual-hosted, missing bucket", "GET", "/k", host="no-such-bucket-at-all.s3.localhost")
    s.get("path-style", "k", host="s3.localhost")


def requests(s):
    s.make_bucket()
    s.put("an object", "k", b"x")
    s.send("PUT without length", "PUT", s.path("nolength"), length=False)
    headers = s.signer().headers("PUT", s.path("te"), [("Host", s.host)], sigv4.UNSIGNED)
    headers.append(("Transfer-Encoding", "chunked"))
    s.send_raw(
        "transfer-encoding: chunked",
        "PUT",
        s.path("te"),
        headers,
        b"5\r\nhello\r\n0\r\n\r\n",
        differs="closed early",
    )
    s.get("transfer-encoding: chunked", "te")
    s.put(
        "Expect: 100-continue", "expect", b"expected", unsigned_headers=[("Expect", "100-continue")]
    )
    s.get("Expect: 100-continue", "expect")
    s.get("GET with Content-Length: 0", "k", unsigned_headers=[("Content-Length", "0")])
    s.get("Connection: close", "k", unsigned_headers=[("Connection", "close")])
    s.put("body of a copy", "copy", b"ignored?", headers=[("x-amz-copy-source", f"/{s.bucket}/k")])
    s.get("Accept-Encoding", "k", unsigned_headers=[("Accept-Encoding", "gzip, zstd")])
    s.post("POST to a key", "k", b"x")
    s.send("DELETE of the service", "DELETE", "/")
    s.send(
        "POST to the service",
        "POST",
        "/",
        body=b"Action=Nothing",
        payload=ANONYMOUS,
        differs="anonymous",
    )


FAMILIES = [
    ("payloads", payloads),
    ("keys", keys),
    ("queries", queries),
    ("hosts", hosts),
    ("requests", requests),
]

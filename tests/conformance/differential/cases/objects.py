"""Objects: put, get, head, delete, ranges, conditions, response overrides."""

from ..side import ANONYMOUS

BODY = bytes(range(256)) * 16


def objects(s):
    s.make_bucket()
    s.put("empty", "empty")
    s.get("empty", "empty")
    s.head("empty", "empty")
    s.put("one byte", "one", b"x")
    s.put("4 KiB", "body", BODY)
    s.get("4 KiB", "body")
    s.head("4 KiB", "body")
    s.put("overwrite", "one", b"yy")
    s.get("overwritten", "one")
    s.put(
        "content headers and metadata",
        "full",
        b"hello",
        headers=[
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Language", "de"),
            ("Content-Disposition", 'attachment; filename="a b.txt"'),
            ("Cache-Control", "max-age=60, public"),
            ("Expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
            ("x-amz-meta-plain", "value"),
            ("x-amz-meta-spaces", "a  b   c"),
            ("X-Amz-Meta-Case", "MiXed"),
        ],
    )
    s.get("content headers and metadata", "full", headers=[("Accept-Encoding", "gzip")])
    s.head("content headers and metadata", "full")
    s.put(
        "150 metadata headers",
        "many",
        b"m",
        headers=[(f"x-amz-meta-n{n}", "v") for n in range(150)],
    )
    s.head("150 metadata headers", "many")
    s.put("UTF-8 metadata", "utf8", b"u", headers=[("x-amz-meta-name", "K\u00e4se")])
    s.head("UTF-8 metadata", "utf8")
    s.put("Latin-1 metadata", "latin1", b"l", headers=[("x-amz-meta-name", "K\udce4se")])
    s.head("Latin-1 metadata", "latin1")
    s.put("storage class", "class", b"c", headers=[("x-amz-storage-class", "STANDARD")])
    s.put("unknown storage class", "class", b"c", headers=[("x-amz-storage-class", "NO_SUCH")])
    s.put(
        "good Content-MD5", "md5", b"hello", headers=[("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==")]
    )
    s.put("bad Content-MD5", "md5", b"other", headers=[("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==")])
    s.put("malformed Content-MD5", "md5", b"other", headers=[("Content-MD5", "no")])
    s.get("after a refused overwrite", "md5")
    s.put("unknown x-amz header", "unknown", b"u", headers=[("x-amz-invented-2031", "yes")])
    s.put("x-id in the query", "xid", b"u", query="?x-id=PutObject")
    s.get("x-id in the query", "xid", query="?x-id=GetObject")
    s.put(
        "SSE-C without key",
        "ssec",
        b"u",
        headers=[("x-amz-server-side-encryption-customer-algorithm", "AES256")],
    )
    key = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        (
            "x-amz-server-side-encryption-customer-key",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
        ("x-amz-server-side-encryption-customer-key-MD5", "KYvwGXoFFJ42a2u2GDWhwQ=="),
    ]
    s.put("SSE-C", "ssec", b"secret", headers=key)
    s.get("SSE-C without key", "ssec")
    s.get("SSE-C with key", "ssec", headers=key)
    s.head("SSE-C with key", "ssec", headers=key)
    # Nobody but the client can read it, so the mirror cannot have it: see docs/compatibility.md.
    s.delete("SSE-C", "ssec")
    s.delete("an object", "one")
    s.get("deleted", "one")
    s.head("deleted", "one")
    s.delete("what is not there", "never-was")
    s.get("what is not there", "never-was")
    s.head("what is not there", "never-was")
    s.send(
        "OPTIONS without CORS rules",
        "OPTIONS",
        s.path("body"),
        [("Origin", "http://a.example"), ("Access-Control-Request-Method", "GET")],
        payload=ANONYMOUS,
    )


def ranges(s):
    s.make_bucket()
    s.put("4 KiB", "body", BODY)
    for title, value in (
        ("first byte", "bytes=0-0"),
        ("middle", "bytes=100-299"),
        ("open end", "bytes=4000-"),
        ("suffix", "bytes=-10"),
        ("suffix longer than the object", "bytes=-99999"),
        ("end past the object", "bytes=4090-9999"),
        ("start past the object", "bytes=4096-"),
        ("several ranges", "bytes=0-1,10-11"),
        ("reversed", "bytes=9-3"),
        ("no range at all", "octets=1-2"),
    ):
        s.get(title, "body", headers=[("Range", value)])
    s.head("range of HEAD", "body", headers=[("Range", "bytes=0-9")])
    s.put("empty", "empty")
    s.get("range of nothing", "empty", headers=[("Range", "bytes=0-0")])


def conditions(s):
    s.make_bucket()
    etag = s.put("an object", "k", b"one").header("etag")
    past, future = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2038 00:00:00 GMT"
    for method in ("GET", "HEAD"):
        for title, name, value in (
            ("If-Match, right", "If-Match", etag),
            ("If-Match, wrong", "If-Match", '"00000000000000000000000000000000"'),
            ("If-None-Match, same", "If-None-Match", etag),
            ("If-None-Match, other", "If-None-Match", '"00000000000000000000000000000000"'),
            ("If-Modified-Since, past", "If-Modified-Since", past),
            ("If-Modified-Since, future", "If-Modified-Since", future),
            ("If-Unmodified-Since, past", "If-Unmodified-Since", past),
            ("If-Unmodified-Since, future", "If-Unmodified-Since", future),
        ):
            s.send(f"{method} {title}", method, s.path("k"), [(name, value)])
    s.get("two conditions", "k", headers=[("If-Match", etag), ("If-Unmodified-Since", past)])
    s.put("create only, exists", "k", b"two", headers=[("If-None-Match", "*")])
    s.put("create only, new", "new", b"two", headers=[("If-None-Match", "*")])
    s.put("If-Match, right", "k", b"three", headers=[("If-Match", etag)])
    s.put("If-Match, wrong now", "k", b"four", headers=[("If-Match", etag)])
    s.get("what stands", "k")


def overrides(s):
    s.make_bucket()
    s.put("an object", "k", b"one", headers=[("Content-Type", "text/plain")])
    query = (
        "?response-content-type=application%2Fx-a&response-content-language=fr"
        "&response-expires=Thu%2C%2001%20Dec%202033%2016%3A00%3A00%20GMT"
        "&response-cache-control=no-cache&response-content-disposition=inline"
        "&response-content-encoding=identity"
    )
    s.get("response-* overrides", "k", query=query)
    s.get(
        "response-* overrides, anonymous", "k", query=query, payload=ANONYMOUS, differs="anonymous"
    )
    s.get(
        "attributes",
        "k",
        query="?attributes",
        headers=[("x-amz-object-attributes", "ETag,ObjectSize")],
    )
    s.get("torrent", "k", query="?torrent")
    s.get("an unknown subresource", "k", query="?invented-2031")
    s.put("an unknown subresource", "k2", b"data", query="?invented-2031=1")
    s.delete("an unknown subresource", "k2", query="?invented-2031")
    s.post("restore", "k", b"<RestoreRequest><Days>1</Days></RestoreRequest>", query="?restore")
    s.send("an unknown method", "PATCH", s.path("k"), body=b"x")


FAMILIES = [
    ("objects", objects),
    ("ranges", ranges),
    ("conditions", conditions),
    ("overrides", overrides),
]

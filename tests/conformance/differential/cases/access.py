"""Who may: presigned URLs, form uploads, wrong and missing signatures."""

from dataclasses import replace
from datetime import timedelta

from .. import query_auth
from ..side import ANONYMOUS


def presigned(s):
    s.make_bucket()
    s.put("an object", "k", b"one")

    def send(title, method, target, headers=(), body=b"", *, differs=None, **options):
        url = query_auth.presigned(s, method, target, **options)
        sent = [("Host", options.get("host") or s.host), *headers]
        if body or method == "PUT":
            sent.append(("Content-Length", str(len(body))))
        s.send_raw(title, method, url, sent, body, differs=differs)

    send("GET", "GET", s.path("k"))
    send("HEAD", "HEAD", s.path("k"))
    send(
        "GET with overrides",
        "GET",
        s.path("k") + "?response-content-type=text%2Fz&response-content-disposition=inline",
    )
    send("GET of a range", "GET", s.path("k"), [("Range", "bytes=1-1")])
    send("GET of a key with characters", "GET", s.path("no%20such%2Bkey"))
    send("PUT", "PUT", s.path("p"), body=b"presigned")
    send("PUT with Content-Type", "PUT", s.path("p"), [("Content-Type", "text/p")], b"presigned")
    send("list", "GET", s.path() + "?list-type=2&prefix=p")
    send("DELETE", "DELETE", s.path("p"))
    send("x-id", "GET", s.path("k") + "?x-id=GetObject")
    send("at the limit of age", "GET", s.path("k"), expires=604800)
    send("expired", "GET", s.path("k"), age=timedelta(hours=1), expires=60, differs="expiry")
    send("valid for too long", "GET", s.path("k"), expires=604801, differs="expiry,presign limits")
    s.send_raw(
        "SigV2 GET",
        "GET",
        query_auth.presigned_v2(s, "GET", s.path("k")),
        [("Host", s.host)],
        differs="SigV2",
    )
    s.send_raw(
        "SigV2 expired",
        "GET",
        query_auth.presigned_v2(s, "GET", s.path("k"), expires=1000000000),
        [("Host", s.host)],
        differs="expiry,SigV2",
    )
    url = query_auth.presigned(s, "GET", s.path("k"))
    s.send_raw(
        "wrong signature", "GET", url[:-4] + "0000", [("Host", s.host)], differs="unverified"
    )


def forms(s):
    s.make_bucket()
    kind, body = query_auth.form(s, s.bucket, "form", b"from a form")
    headers = [("Host", s.host), ("Content-Type", kind), ("Content-Length", str(len(body)))]
    s.send_raw("form upload", "POST", s.path(), headers, body, differs="form answer")
    s.get("what it made", "form")


def identities(s):
    s.make_bucket()
    s.put("an object", "k", b"one")
    s.get("anonymous", "k", payload=ANONYMOUS, differs="anonymous")
    s.put("anonymous PUT", "anon", b"x", payload=ANONYMOUS, differs="anonymous")
    s.send("anonymous list of buckets", "GET", "/", payload=ANONYMOUS, differs="anonymous")
    s.send_raw(
        "SigV2", "GET", s.path("k"), query_auth.headers_v2(s, "GET", s.path("k")), differs="SigV2"
    )

    def as_somebody(title, access_key, secret_key):
        somebody = replace(
            s, credentials=replace(s.credentials, access_key=access_key, secret_key=secret_key)
        )
        s.get(title, "k", signer=somebody.signer(), differs="unverified")

    as_somebody("wrong secret", s.credentials.access_key, "wrong")
    as_somebody("unknown access key", "NOSUCHKEY00000000000", s.credentials.secret_key)
    s.get(
        "nonsense as Authorization",
        "k",
        payload=ANONYMOUS,
        unsigned_headers=[("Authorization", "nonsense")],
        differs="unverified",
    )
    s.get(
        "a header that is not signed",
        "k",
        unsigned_headers=[("x-amz-expected-bucket-owner", "main")],
        differs="unsigned header",
    )
    s.get(
        "session token of nobody",
        "k",
        headers=[("x-amz-security-token", "nonsense")],
        differs="unverified",
    )


FAMILIES = [("presigned", presigned), ("forms", forms), ("identities", identities)]

"""Buckets: making, listing, settings, deleting; deletes of many keys."""

from urllib.parse import quote

from .attributes import md5


def buckets(s):
    s.head("missing", "")
    s.get("missing", "")
    s.delete("missing", "")
    s.put("key of a missing bucket", "k", b"x")
    s.make_bucket()
    s.put("again", "")
    s.head("there", "")
    s.get("location", "", query="?location")
    s.send("bad name", "PUT", "/Bad_Name!")
    s.send("short name", "PUT", "/a")
    s.send(
        "unknown location",
        "PUT",
        f"/{s.bucket_named('mars')}",
        body=(
            b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint>"
            b"</CreateBucketConfiguration>"
        ),
    )
    s.put("an object", "k", b"x")
    s.delete("not empty", "")
    s.delete("the object", "k")
    s.delete("empty", "")
    s.head("gone", "")


def settings(s):
    s.make_bucket()
    documents = {
        "cors": (
            b"<CORSConfiguration><CORSRule><AllowedOrigin>http://a.example</AllowedOrigin>"
            b"<AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>"
            b"</CORSConfiguration>"
        ),
        "lifecycle": (
            b"<LifecycleConfiguration><Rule><ID>r</ID><Prefix>tmp/</Prefix>"
            b"<Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
            b"</LifecycleConfiguration>"
        ),
        "policy": (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",'
            '"Action":"s3:GetObject",'
            f'"Resource":"arn:aws:s3:::{s.bucket}/open/*"}}]}}'
        ).encode(),
        "encryption": (
            b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
            b"</Rule></ServerSideEncryptionConfiguration>"
        ),
        "website": (
            b"<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix>"
            b"</IndexDocument></WebsiteConfiguration>"
        ),
        "notification": b"<NotificationConfiguration/>",
        "requestPayment": (
            b"<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"
        ),
        "logging": b"<BucketLoggingStatus/>",
        "publicAccessBlock": (
            b"<PublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls>"
            b"</PublicAccessBlockConfiguration>"
        ),
        "replication": b"<ReplicationConfiguration/>",
        "ownershipControls": (
            b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership>"
            b"</Rule></OwnershipControls>"
        ),
        "accelerate": (
            b"<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>"
        ),
    }
    for name, document in documents.items():
        s.get(f"{name}, none", "", query=f"?{name}")
        s.put(name, "", document, query=f"?{name}", headers=[md5(document)])
        s.get(name, "", query=f"?{name}")
        if name == "cors":
            s.put("an object", "open/k", b"x")
            origin = ("Origin", "http://a.example")
            s.get("with an origin", "open/k", headers=[origin])
            s.send(
                "preflight",
                "OPTIONS",
                s.path("open/k"),
                [origin, ("Access-Control-Request-Method", "GET")],
                payload="anonymous",
            )
            s.send(
                "preflight refused",
                "OPTIONS",
                s.path("open/k"),
                [origin, ("Access-Control-Request-Method", "PUT")],
                payload="anonymous",
            )
        if name == "policy":
            s.get("policy status", "", query="?policyStatus")
            s.get("allowed to everybody", "open/k", payload="anonymous")
            s.put("malformed policy", "", b"{", query="?policy")
        if name == "lifecycle":
            s.put("an object that expires", "tmp/k", b"x")
            s.head("an object that expires", "tmp/k")
            s.put("malformed lifecycle", "", b"<Life", query="?lifecycle")
        s.delete(name, "", query=f"?{name}")
    s.get("an unknown setting", "", query="?invented-2031")
    s.put("an unknown setting", "", b"<X/>", query="?invented-2031")


def lists(s):
    s.make_bucket()
    for key in ("a", "a/1", "a/2", "a/b/3", "b", "c%20d", "%C3%BC", "z%2Bz", "x%26y%3Cz%3E", "%01"):
        s.put(f"key {key}", key, key.encode())
    for title, query in (
        ("v1", ""),
        ("v1 with a slash", "/"),
        ("v1 by page", "?max-keys=2"),
        ("v1 marker", "?marker=a%2F1&max-keys=2"),
        ("v1 delimiter", "?delimiter=%2F"),
        ("v1 delimiter and prefix", "?delimiter=%2F&prefix=a%2F"),
        ("v1 raw slash", "?delimiter=/&prefix=a/"),
        ("v1 encoded", "?encoding-type=url"),
        ("v1 encoded with delimiter", "?encoding-type=url&delimiter=%2F&max-keys=3"),
        ("v2", "?list-type=2"),
        ("v2 by page", "?list-type=2&max-keys=3"),
        ("v2 start-after", "?list-type=2&start-after=b"),
        ("v2 with owner", "?list-type=2&fetch-owner=true&max-keys=1"),
        ("v2 encoded", "?list-type=2&encoding-type=url&prefix=&delimiter="),
        ("v2 space as plus", "?list-type=2&prefix=c+d"),
        ("v2 space as %20", "?list-type=2&prefix=c%20d"),
        ("v2 UTF-8 prefix", "?list-type=2&prefix=%C3%BC"),
        ("v2 unordered parameters", "?prefix=a&list-type=2&delimiter=%2F"),
        ("v2 x-id", "?list-type=2&x-id=ListObjectsV2"),
        ("max-keys 0", "?max-keys=0"),
        ("max-keys too many", "?max-keys=100000"),
        ("max-keys nonsense", "?max-keys=abc"),
        ("max-keys negative", "?max-keys=-1"),
        ("unknown encoding", "?encoding-type=base64"),
        ("versions", "?versions"),
        ("versions, delimiter", "?versions&delimiter=%2F"),
        ("bad token", "?list-type=2&continuation-token=nonsense"),
    ):
        s.send(title, "GET", s.path() + query)
    s.get("parameter twice", "", query="?prefix=a&prefix=b", differs="repeated parameter")
    token = s.send("v2 first page", "GET", s.path() + "?list-type=2&max-keys=4").body.decode()
    token = token.partition("<NextContinuationToken>")[2].partition("<")[0]
    s.send(
        "v2 second page",
        "GET",
        s.path() + f"?list-type=2&max-keys=4&continuation-token={quote(token, safe='')}",
    )


def deletes(s):
    s.make_bucket()
    for key in ("a", "b", "c", "d%20e", "x%26y"):
        s.put(f"key {key}", key, b"x")

    def delete(title, document, **options):
        s.post(title, "", document, query="?delete", **options)

    one = b"<Delete><Object><Key>a</Key></Object><Object><Key>never</Key></Object></Delete>"
    delete("with Content-MD5", one, headers=[md5(one)])
    delete("without Content-MD5", b"<Delete><Object><Key>b</Key></Object></Delete>")
    quiet = b"<Delete><Quiet>true</Quiet><Object><Key>c</Key></Object></Delete>"
    delete("quiet", quiet, headers=[md5(quiet)])
    odd = (
        b'<?xml version="1.0"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Object><Key>d e</Key></Object><Object><Key>x&amp;y</Key></Object></Delete>"
    )
    delete("odd keys", odd, headers=[md5(odd)])
    delete("wrong Content-MD5", one, headers=[md5(b"other")])
    delete("no keys", b"<Delete/>", differs="document")
    delete("malformed", b"<Delete><Obj", differs="document")
    delete("empty", b"", differs="document")
    many = (
        b"<Delete>"
        + b"".join(b"<Object><Key>k%d</Key></Object>" % n for n in range(1001))
        + b"</Delete>"
    )
    delete("1001 keys", many, headers=[md5(many)], differs="document")
    s.send("list after it", "GET", s.path())


FAMILIES = [("buckets", buckets), ("settings", settings), ("lists", lists), ("deletes", deletes)]

"""P1 for keys: any sequence of UTF-8 bytes is a key, and names the same object on every way.

Keys go through boto3, which encodes them, and through bare sockets, which do not tidy anything.
"""

import pytest
from botocore.exceptions import ClientError

from support import raw, sigv4
from support.twin import run_twice

KEYS = {
    "plain": "plain",
    "space": "a b",
    "two-spaces": "a  b ",
    "plus": "a+b",
    "percent": "100%",
    "percent-hex": "a%2Fb%20c",
    "slash-slash": "a//b",
    "leading-slash": "/a",
    "leading-slashes": "//a",
    "trailing-slash": "dir/",
    "dot": "./a/./b",
    "dot-dot": "a/../b",
    "dot-dot-first": "../a",
    "unicode": "grün/日本語/🦀",
    "decomposed": "gru\u0308n",
    "reserved": "a!b*c'd(e)f,g:h@i=j$k&l;m",
    "query-like": "a?b=c&d#e",
    "brackets": 'a[b]{c}<d>"e"|f^g`h\\i',
    "tilde": "~user/-._",
    "subresource-like": "?acl",
    "newline-and-tab": "a\nb\tc\r",
    "1024-bytes": "k" * 1024,
    "1024-bytes-utf-8": "ü" * 512,
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_a_key_names_the_same_object_through_the_proxy(steady, key):
    def scenario(s):
        s.put(key, key.encode(), ContentType="text/x-key", Metadata={"a": "b"})
        s.get(key)
        s.head(key)
        # Everything of a key is in a listing only when the listing is encoded.
        s.call("list_objects_v2", status=200, EncodingType="url")
        source = {"Bucket": s.bucket, "Key": key}
        s.call("copy_object", status=200, Key="copy", CopySource=source)
        s.get("copy")
        s.call("delete_objects", status=200, Delete={"Objects": [{"Key": "copy"}]})
        s.put("other" + key[5:], b"gone soon")
        s.call("delete_object", status=204, Key="other" + key[5:])

    lab, proxy, inventory = steady
    run_twice(lab, proxy, scenario, inventory)


def test_a_key_of_1025_bytes_is_refused_as_directly(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("toolong")
    for client in (lab.s3_main, lab.client(proxy)):
        with pytest.raises(ClientError, match="KeyTooLongError") as refusal:
            client.put_object(Bucket=bucket, Key="k" * 1025, Body=b"x")
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    proxy.wait_drained()
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket)


#: What stands in the request line after the bucket, and the key it means.
RAW_TARGETS = {
    "unencoded-reserved": ("/a!b*c'd(e),f:g@h=i$j&k;l", "a!b*c'd(e),f:g@h=i$j&k;l"),
    "plus-is-a-plus": ("/a+b", "a+b"),
    "encoded-slash": ("/a%2Fb", "a/b"),
    "lower-case-hex": ("/gr%c3%bcn", "grün"),
    "needlessly-encoded": ("/%61%62%63", "abc"),
    "double-encoded": ("/a%2520b", "a%20b"),
    "slashes": ("//a//b/", "/a//b/"),
    "dot-segments": ("/a/./b/../c", "a/./b/../c"),
    "encoded-dots": ("/%2e%2e/a", "../a"),
    "raw-utf-8": ("/grün".encode(), "grün"),
    "pipes-and-brackets": ("/a|b^c[d]e", "a|b^c[d]e"),
    "x-id": ("/with-id?x-id=PutObject", "with-id"),
}


@pytest.mark.parametrize("target, key", RAW_TARGETS.values(), ids=RAW_TARGETS.keys())
def test_a_path_as_written_by_any_client_means_the_same_key(steady, target, key):
    lab, proxy, inventory = steady
    bucket = lab.bucket("rawkey")
    path = f"/{bucket}".encode() + raw.as_bytes(target)
    body = b"by raw socket"
    headers = [("Host", "s3.example"), ("Content-Length", str(len(body)))]
    answer = raw.exchange(proxy.address, "PUT", path, headers, body)
    assert answer.status == 200, answer
    listed = lab.s3_main.list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [entry["Key"] for entry in listed] == [key]
    reading = raw.exchange(
        proxy.address, "GET", path.replace(b"PutObject", b"GetObject"), headers[:1]
    )
    assert (reading.status, reading.body) == (200, body)
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_query_values_survive_whatever_their_encoding(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("query")
    for key in ("a+b/1", "a b/2", "a%b/3", "ü/4"):
        lab.s3_main.put_object(Bucket=bucket, Key=key, Body=b"x")
    prefixes = ["a%2Bb%2F", "a%20b/", "a+b/", "a%25b%2f", "%C3%BC/", "ü/".encode()]
    for prefix in prefixes:
        query = b"list-type=2&prefix=" + raw.as_bytes(prefix) + b"&max-keys=7&encoding-type=url"
        target = f"/{bucket}?".encode() + query
        proxied = raw.exchange(proxy.address, "GET", target, [("Host", "h")])
        # Directly the same prefix, in the one encoding that a signature allows.
        decoded = sigv4.unquote_to_bytes(raw.as_bytes(prefix).replace(b"+", b"%20"))
        signer = sigv4.Signer(lab.main.credentials.access_key, lab.main.credentials.secret_key)
        straight = (
            f"/{bucket}?encoding-type=url&list-type=2&max-keys=7"
            f"&prefix={sigv4.quote(decoded, safe='-_.~')}"
        )
        host = f"{lab.main.host}:{lab.main.port}"
        headers = signer.headers("GET", straight, [("host", host)], sigv4.EMPTY_SHA256)
        direct = raw.exchange(lab.main.address, "GET", straight, headers)
        assert (proxied.status, proxied.body) == (direct.status, direct.body) == (200, direct.body)
        assert direct.body.count(b"<Contents>") == 1, direct.body


@pytest.mark.parametrize("target", ["/{}/%zz", "/{}/a%", "/{}/%FF%FE"])
def test_an_undecodable_path_is_refused_and_stores_nothing(steady, target):
    lab, proxy, _ = steady
    bucket = lab.bucket("badpath")
    answer = raw.exchange(
        proxy.address,
        "PUT",
        target.format(bucket),
        [("Host", "h"), ("Content-Length", "1")],
        b"x",
    )
    assert answer.status == 400, answer
    assert answer.error_code in ("InvalidURI", "InvalidArgument", "InvalidRequest"), answer
    assert "Contents" not in lab.s3_main.list_objects_v2(Bucket=bucket)

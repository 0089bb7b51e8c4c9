"""Both addressing styles: the bucket in the path, always; in the host name, with PROXY_DOMAIN."""

import socket

import pytest

from support import raw, s3
from support.twin import run_twice

DOMAIN = "s3.proxy.test"
SECOND_DOMAIN = "files.example.test"


@pytest.fixture
def proxy(lab):
    return lab.proxy(PROXY_DOMAIN=f"{DOMAIN},{SECOND_DOMAIN}")


@pytest.fixture
def names_resolve_to_loopback(monkeypatch):
    """Wildcard DNS for the two domains, in this process only."""
    real = socket.getaddrinfo

    def resolve(host, *arguments, **named):
        if host is not None and str(host).endswith((DOMAIN, SECOND_DOMAIN)):
            host = "127.0.0.1"
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def everyday_calls(s):
    s.put("a b+c%/ü//x", b"content", ContentType="text/plain", Metadata={"a": "b"})
    s.get("a b+c%/ü//x")
    s.head("a b+c%/ü//x")
    s.call("list_objects_v2", status=200, Prefix="a ")
    s.call("head_bucket", status=200)
    s.call("get_bucket_location", status=200)
    source = {"Bucket": s.bucket, "Key": "a b+c%/ü//x"}
    s.call("copy_object", status=200, Key="copy", CopySource=source)
    s.call("delete_objects", status=200, Delete={"Objects": [{"Key": "copy"}]})
    upload = {"Key": "parts"}
    upload["UploadId"] = s.call("create_multipart_upload", status=200, **upload)["UploadId"]
    part = s.call("upload_part", status=200, PartNumber=1, Body=b"x", **upload)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s.call("complete_multipart_upload", status=200, MultipartUpload=parts, **upload)
    s.get("parts")
    s.get("none", status=404)


@pytest.mark.parametrize("domain", [DOMAIN, SECOND_DOMAIN])
def test_virtual_hosted_style_gives_the_same_answers(
    lab, proxy, names_resolve_to_loopback, monkeypatch, domain
):
    monkeypatch.setattr(type(proxy), "endpoint", f"http://{domain}:{proxy.port}")
    run_twice(lab, proxy, everyday_calls, addressing="virtual")


def test_path_style_works_beside_it_by_name_and_by_address(lab, proxy):
    bucket = lab.bucket("styles")
    for number, host in enumerate((DOMAIN, f"{DOMAIN}:{proxy.port}", "127.0.0.1", "other.test")):
        headers = [("Host", host), ("Content-Length", "1")]
        answer = raw.exchange(proxy.address, "PUT", f"/{bucket}/{number}", headers, b"x")
        assert answer.status == 200, (host, answer)
    assert set(s3.every_key(lab.s3_main, bucket)) == {"0", "1", "2", "3"}
    lab.assert_converged(proxy, bucket)


@pytest.mark.parametrize("host", ["{}.{}", "{}.{}:80", "{}.{}.", "{}.{}".upper()])
def test_the_host_header_is_read_as_a_host_name(lab, proxy, host):
    """With or without port, in any case, perhaps with the root's dot."""
    bucket = lab.bucket("hosts")
    name = host.format(bucket, DOMAIN.upper() if host.isupper() else DOMAIN)
    headers = [("Host", name), ("Content-Length", "1")]
    answer = raw.exchange(proxy.address, "PUT", "/key", headers, b"x")
    assert answer.status == 200, (name, answer)
    assert set(s3.every_key(lab.s3_main, bucket)) == {"key"}
    answer = raw.exchange(proxy.address, "GET", "/", headers[:1])
    assert b"<Key>key</Key>" in answer.body, answer


def test_a_bucket_name_with_dots_is_found_in_the_host_name(lab, proxy):
    lab.s3_main.create_bucket(Bucket="with.dots.inside")
    headers = [("Host", f"with.dots.inside.{DOMAIN}"), ("Content-Length", "1")]
    answer = raw.exchange(proxy.address, "PUT", "/key", headers, b"x")
    assert answer.status == 200, answer
    assert set(s3.every_key(lab.s3_main, "with.dots.inside")) == {"key"}


def test_the_bare_domain_lists_buckets(lab, proxy):
    lab.bucket("listed")
    answer = raw.exchange(proxy.address, "GET", "/", [("Host", DOMAIN)])
    assert answer.status == 200 and b"<ListAllMyBucketsResult" in answer.body, answer


def test_without_a_domain_every_host_name_is_path_style(lab):
    plain = lab.proxy()
    bucket = lab.bucket("plainhost")
    lab.s3_main.put_object(Bucket=bucket, Key="key", Body=b"x")
    headers = [("Host", f"{bucket}.{DOMAIN}")]
    assert raw.exchange(plain.address, "GET", f"/{bucket}/key", headers).body == b"x"

"""Uploads by HTML form (POST Object): presigned by boto3, sent as browsers and libraries do."""

import hashlib
import json
import os
from collections import namedtuple
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from support import raw, s3
from support.raw import Connection, ConnectionEnded, request_bytes

Keys = namedtuple("Keys", "access_key secret_key")
FORMS = ("FORMS", "forms-secret-0123456789")
MIB = 1024 * 1024


def presigned(client, bucket, key="up/${filename}", fields=None, conditions=(), **more):
    """URL and fields of a form whose policy allows exactly `fields` and `conditions`."""
    fields = dict(fields or {})
    rules = [{name: value} for name, value in fields.items()] + list(conditions)
    post = client.generate_presigned_post(bucket, key, Fields=fields, Conditions=rules, **more)
    return post["url"], post["fields"]


def send(url, fields, content, filename="photo.png", after=(), **headers):
    """Fields first, the file behind them, then what a form may have behind its file."""
    parts = [*fields.items(), ("file", (filename, content, "image/x-browser")), *after]
    return urllib3.request(
        "POST", url, fields=parts, headers=headers, retries=False, redirect=False, timeout=30
    )


def code(answer):
    return answer.data.decode().partition("<Code>")[2].partition("</Code>")[0]


def keys(lab, bucket):
    return set(s3.every_key(lab.s3_main, bucket))


@pytest.fixture
def verified(lab, tmp_path):
    """A proxy that verifies clients, one of which may write below `up/`."""
    bucket = lab.bucket("forms")
    file = tmp_path / "clients.json"
    rule = {"bucket": bucket, "prefixes": ["up/"], "access": "read-write"}
    client = {"access_key_id": FORMS[0], "secret_access_key": FORMS[1], "buckets": [rule]}
    file.write_text(json.dumps([client]))
    proxy = lab.proxy(inventory={"DISABLE_DATABASE": "true"}, CLIENT_CREDENTIALS_FILE=str(file))
    signer = lab.client(proxy, credentials=Keys(*FORMS), signature_version="s3v4")
    return lab, proxy, bucket, signer


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize("size", [0, 1, 70 * 1024, 20 * MIB])
def test_a_form_stores_the_file_with_its_headers_and_is_mirrored(steady, version, size):
    lab, proxy, inventory = steady
    bucket = lab.bucket("form")
    fields = {"Content-Type": "image/png", "x-amz-meta-owner": "ü", "Cache-Control": "no-cache"}
    tags = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag></TagSet></Tagging>"
    client = lab.client(proxy, signature_version=version)
    url, fields = presigned(client, bucket, fields={**fields, "tagging": tags})
    content = os.urandom(size)
    answer = send(url, fields, content, filename="C:\\pictures\\ü.png")
    assert (answer.status, answer.data) == (204, b""), answer.data
    md5 = hashlib.md5(content).hexdigest()
    assert answer.headers["ETag"] == f'"{md5}"'
    assert answer.headers["Location"] == f"{proxy.endpoint}/{bucket}/up/%C3%BC.png"
    stored = lab.s3_main.get_object(Bucket=bucket, Key="up/ü.png")
    assert stored["Body"].read() == content
    assert (stored["ContentType"], stored["CacheControl"]) == ("image/png", "no-cache")
    tagging = lab.s3_main.get_object_tagging(Bucket=bucket, Key="up/ü.png")["TagSet"]
    assert tagging == [{"Key": "a b", "Value": "1"}]
    lab.assert_converged(proxy, bucket, inventory=inventory)
    lines = [line for line in proxy.log_lines() if line["message"] == "request"]
    lines = [line for line in lines if line["bucket"] == bucket]
    assert [(line["operation"], line["key"], line["status"]) for line in lines] == [
        ("PostObject", "up/ü.png", 204)
    ]
    assert (lines[0]["size"], lines[0]["mirror_status"]) == (size, "pending")


def test_a_form_chooses_how_success_is_told(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("form")
    client = lab.client(proxy)

    def answer(**wish):
        return send(*presigned(client, bucket, fields=wish), b"x", filename="a&b")

    assert answer(success_action_status="200").status == 200
    created = answer(success_action_status="201")
    text = created.data.decode()
    assert (created.status, created.headers["Content-Type"]) == (201, "application/xml")
    assert f"<Bucket>{bucket}</Bucket><Key>up/a&amp;b</Key><ETag>" in text, text
    assert f"<Location>{proxy.endpoint}/{bucket}/up/a%26b</Location>" in text
    moved = answer(success_action_redirect="https://app.example/done?page=1")
    assert (moved.status, moved.data) == (303, b"")
    target = urlsplit(moved.headers["Location"])
    assert (target.netloc, target.path) == ("app.example", "/done")
    asked = parse_qs(target.query)
    assert (asked["page"], asked["bucket"], asked["key"]) == (["1"], [bucket], ["up/a&b"])
    assert asked["etag"] == ['"9dd4e461268c8034f5c8564e155c67a6"']
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_fields_behind_the_file_do_no_harm_to_a_form_of_ordinary_size(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("form")
    content = os.urandom(900 * 1024)
    answer = send(*presigned(lab.client(proxy), bucket), content, after=[("submit", "Upload")])
    assert answer.status == 204, answer.data
    assert lab.s3_main.get_object(Bucket=bucket, Key="up/photo.png")["Body"].read() == content
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_large_form_whose_file_is_not_last_is_refused_and_has_no_effect(steady):
    lab, proxy, inventory = steady
    bucket = lab.bucket("form")
    lab.s3_main.put_object(Bucket=bucket, Key="up/photo.png", Body=b"before")
    url, fields = presigned(lab.client(proxy), bucket)
    answer = send(url, fields, os.urandom(3 * MIB), after=[("submit", "Upload")])
    assert (answer.status, code(answer)) == (400, "MalformedPOSTRequest")
    stored = lab.s3_main.get_object(Bucket=bucket, Key="up/photo.png")["Body"].read()
    assert stored == b"before"
    proxy.wait_drained()
    assert send(url, fields, b"again").status == 204
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_a_form_that_breaks_off_stores_nothing(steady):
    lab, proxy, _ = steady
    bucket = lab.bucket("form")
    head = (
        b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="n"\r\n\r\n'
    )
    headers = [
        ("Host", "h"),
        ("Content-Type", "multipart/form-data; boundary=B"),
        ("Content-Length", str(4 * MIB)),
    ]
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("POST", f"/{bucket}", headers, head + bytes(2 * MIB)))
    proxy.wait_drained()
    assert keys(lab, bucket) == set()


@pytest.mark.parametrize(
    "body, expected",
    [
        (b"no form at all", (400, "IncompleteBody")),
        (b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--B--\r\n', (400, "InvalidArgument")),
        (b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--B--\r\n', (400, "InvalidArgument")),
        (b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n", (400, "MalformedPOSTRequest")),
        (b"x" * 30_000, (400, "MaxPostPreDataLengthExceeded")),
    ],
)
def test_broken_forms_are_told_what_is_wrong(steady, body, expected):
    _, proxy, _ = steady
    headers = [
        ("Host", "h"),
        ("Content-Type", "multipart/form-data; boundary=B"),
        ("Content-Length", str(len(body))),
    ]
    answer = raw.exchange(proxy.address, "POST", "/some-bucket", headers, body)
    assert (answer.status, answer.error_code) == expected, answer


def test_a_post_to_a_bucket_that_is_no_form_is_refused(steady):
    _, proxy, _ = steady
    headers = [("Host", "h"), ("Content-Type", "text/plain"), ("Content-Length", "1")]
    answer = raw.exchange(proxy.address, "POST", "/some-bucket", headers, b"x")
    assert (answer.status, answer.error_code) == (412, "PreconditionFailed")


def test_mains_own_refusal_reaches_the_browser(steady):
    lab, proxy, _ = steady
    answer = send(*presigned(lab.client(proxy), "no-such-bucket-anywhere"), b"x")
    assert (answer.status, code(answer)) == (404, "NoSuchBucket")


def test_a_verified_form_is_held_to_its_policy(verified):
    lab, proxy, bucket, signer = verified
    limits = [["content-length-range", 5, 2 * MIB]]
    url, fields = presigned(signer, bucket, conditions=limits)
    assert send(url, fields, b"12345").status == 204
    for content, expected in [(b"1234", "EntityTooSmall"), (bytes(2 * MIB + 1), "EntityTooLarge")]:
        answer = send(url, fields, content, filename="other")
        assert (answer.status, code(answer)) == (400, expected)
    refused = {
        "another key": {**fields, "key": "up2/${filename}"},
        "a field that was not signed": {**fields, "x-amz-meta-a": "1"},
        "a signature that is not the policy's": {**fields, "x-amz-signature": "0" * 64},
        "no policy": {"key": "up/k"},
    }
    for what, changed in refused.items():
        answer = send(url, changed, b"12345", filename="other")
        assert answer.status == 403, f"{what}: {answer.data}"
    beyond, fields_beyond = presigned(signer, bucket, key="elsewhere/k")
    assert code(send(beyond, fields_beyond, b"x")) == "AccessDenied"
    stranger = lab.client(
        proxy, credentials=Keys(FORMS[0], "wrong-secret-0123456"), signature_version="s3v4"
    )
    assert code(send(*presigned(stranger, bucket), b"x")) == "SignatureDoesNotMatch"
    late = presigned(signer, bucket, ExpiresIn=-5)
    assert code(send(*late, b"x")) == "AccessDenied"
    assert keys(lab, bucket) == {"up/photo.png"}
    lab.assert_converged(proxy, bucket)
    assert FORMS[1] not in proxy.process.stdout()


def test_an_early_refusal_reaches_a_client_that_waits_for_100_continue(verified):
    _, proxy, bucket, _ = verified
    head = b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'
    headers = [
        ("Host", "h"),
        ("Content-Type", "multipart/form-data; boundary=B"),
        ("Content-Length", str(100 * MIB)),
        ("Expect", "100-continue"),
    ]
    with Connection(proxy.address) as connection:
        connection.send(request_bytes("POST", f"/{bucket}", headers))
        assert connection.read_head()[0] == 100
        connection.send(head + b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n')
        try:
            answer = connection.read_response()
        except ConnectionEnded as ended:
            pytest.fail(f"no answer: {ended}")
    assert (answer.status, answer.error_code) == (403, "AccessDenied")

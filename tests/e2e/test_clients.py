"""CLIENT_CREDENTIALS_FILE and ALLOWED_BUCKETS: who may come, and what they may do."""

import json
from collections import namedtuple

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
import urllib3
from botocore.exceptions import ClientError

from support import s3
from support.http_fault import HttpFaultProxy
from support.poll import until

Keys = namedtuple("Keys", "access_key secret_key")
READER = ("READER", "reader-secret-0123456789")
WRITER = ("WRITER", "writer-secret-0123456789")
LATER = ("LATER", "later-secret-0123456789")


def grants(key, bucket, access, **more):
    rule = {"bucket": bucket, "access": access, **more}
    return {"access_key_id": key[0], "secret_access_key": key[1], "buckets": [rule]}


@pytest.fixture
def guarded(lab, tmp_path):
    bucket, other = lab.bucket("guarded"), lab.bucket("other")
    file = tmp_path / "clients.json"
    clients = [grants(READER, bucket, "read"), grants(WRITER, bucket, "read-write", prefixes=["in/"])]
    file.write_text(json.dumps(clients))
    proxy = lab.proxy(
        inventory={"DISABLE_DATABASE": "true"}, CLIENT_CREDENTIALS_FILE=str(file)
    )
    return lab, proxy, bucket, other, file, clients


def http_put(url, body, headers=None):
    return urllib3.request("PUT", url, body=body, headers=headers, retries=False, timeout=10)


def as_client(lab, proxy, key):
    return lab.client(proxy, credentials=Keys(*key))


def code(failure):
    return failure.value.response["Error"]["Code"]


def test_a_client_does_what_it_was_granted_and_nothing_else(guarded):
    lab, proxy, bucket, other, _, _ = guarded
    writer, reader = as_client(lab, proxy, WRITER), as_client(lab, proxy, READER)
    writer.put_object(Bucket=bucket, Key="in/k ü+", Body=b"1" * 100_000)
    assert reader.get_object(Bucket=bucket, Key="in/k ü+")["Body"].read() == b"1" * 100_000
    refused = [
        lambda: reader.put_object(Bucket=bucket, Key="in/k", Body=b"2"),
        lambda: reader.delete_object(Bucket=bucket, Key="in/k ü+"),
        lambda: writer.put_object(Bucket=bucket, Key="out", Body=b"2"),
        lambda: writer.put_object(Bucket=other, Key="in/k", Body=b"2"),
        lambda: writer.copy_object(Bucket=bucket, Key="in/c", CopySource=f"{other}/secret"),
        lambda: writer.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": "in/k ü+"}, {"Key": "out"}]}
        ),
        lambda: reader.list_buckets(),
    ]
    for attempt in refused:
        with pytest.raises(ClientError) as failure:
            attempt()
        assert code(failure) == "AccessDenied"
    assert lab.s3_main.head_object(Bucket=bucket, Key="in/k ü+")
    lab.assert_converged(proxy, bucket)


@pytest.mark.parametrize(
    "key, expected",
    [
        (("NOBODY", "whatever-secret-0123"), "InvalidAccessKeyId"),
        ((WRITER[0], "wrong-secret-0123456789"), "SignatureDoesNotMatch"),
    ],
)
def test_a_wrong_key_is_refused_with_the_code_sdks_know(guarded, key, expected):
    lab, proxy, bucket, *_ = guarded
    with pytest.raises(ClientError) as failure:
        as_client(lab, proxy, key).put_object(Bucket=bucket, Key="in/k", Body=b"2")
    assert code(failure) == expected
    with pytest.raises(ClientError):
        lab.s3_main.head_object(Bucket=bucket, Key="in/k")


def test_nobody_comes_in_without_a_signature(guarded):
    _, proxy, bucket, *_ = guarded
    answer = http_put(f"{proxy.endpoint}/{bucket}/in/k", b"1")
    assert answer.status == 403 and b"<Code>AccessDenied</Code>" in answer.data


def test_a_header_added_to_a_signed_request_is_refused(guarded):
    _, proxy, bucket, other, *_ = guarded
    credentials = botocore.credentials.Credentials(*WRITER)
    request = botocore.awsrequest.AWSRequest("PUT", f"{proxy.endpoint}/{bucket}/in/k", data=b"1")
    botocore.auth.S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    headers = dict(request.headers)
    headers["x-amz-copy-source"] = f"{other}/secret"
    answer = http_put(request.url, b"1", headers)
    assert answer.status == 403 and b"HeadersNotSigned" in answer.data


def test_presigned_urls_work_until_they_expire(guarded):
    lab, proxy, bucket, *_ = guarded
    writer = lab.client(proxy, credentials=Keys(*WRITER), signature_version="s3v4")
    url = writer.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "in/presigned"}, ExpiresIn=60
    )
    assert http_put(url, b"by url").status == 200
    assert lab.s3_main.get_object(Bucket=bucket, Key="in/presigned")["Body"].read() == b"by url"
    short = writer.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "in/presigned"}, ExpiresIn=1
    )
    until(lambda: b"Request has expired" in http_put(short, b"late").data, "it expires", 10)


def test_the_file_is_read_again_when_it_changes_and_a_bad_one_is_not_taken(guarded):
    lab, proxy, bucket, _, file, clients = guarded
    later = as_client(lab, proxy, LATER)
    with pytest.raises(ClientError):
        later.put_object(Bucket=bucket, Key="k", Body=b"1")
    file.write_text("{ not json")
    until(
        lambda: "the old client credentials stay in force" in proxy.process.stdout(),
        "the bad file is noticed",
        20,
    )
    as_client(lab, proxy, WRITER).put_object(Bucket=bucket, Key="in/k", Body=b"1")
    file.write_text(json.dumps([*clients, grants(LATER, bucket, "write")]))

    def accepted():
        try:
            return later.put_object(Bucket=bucket, Key="k", Body=b"1")
        except ClientError:
            return None

    until(accepted, "the new client is known", 20)


def test_allowed_buckets_bound_what_anybody_can_reach(lab):
    mine, theirs = lab.bucket("team-a"), lab.bucket("private")
    proxy = lab.proxy(inventory={"DISABLE_DATABASE": "true"}, ALLOWED_BUCKETS="team-*, shared")
    lab.s3_main.put_object(Bucket=theirs, Key="k", Body=b"secret")
    client = lab.client(proxy)
    client.put_object(Bucket=mine, Key="k", Body=b"1")
    for attempt in (
        lambda: client.get_object(Bucket=theirs, Key="k"),
        lambda: client.copy_object(Bucket=mine, Key="c", CopySource=f"{theirs}/k"),
        lambda: client.list_buckets(),
    ):
        with pytest.raises(ClientError) as failure:
            attempt()
        assert code(failure) == "AccessDenied"
    assert s3.every_key(lab.s3_main, mine).keys() == {"k"}


def test_everybody_reads_what_the_file_makes_public_and_nothing_more(guarded):
    lab, proxy, bucket, other, file, clients = guarded
    for name in (bucket, other):
        lab.s3_main.put_object(Bucket=name, Key="pub/k", Body=b"content")
        lab.s3_main.put_object(Bucket=name, Key="k", Body=b"content")
    nobody = lab.client(proxy, anonymous=True)
    with pytest.raises(ClientError) as failure:
        nobody.get_object(Bucket=bucket, Key="pub/k")
    assert code(failure) == "AccessDenied", "off unless it is switched on"

    rule = {"bucket": bucket, "prefixes": ["pub/"], "access": "read"}
    file.write_text(json.dumps([*clients, {"anonymous": True, "buckets": [rule]}]))
    url = f"{proxy.endpoint}/{bucket}/pub/k"
    until(lambda: urllib3.request("GET", url).status == 200, "the file to be read again", 15)
    assert nobody.get_object(Bucket=bucket, Key="pub/k")["Body"].read() == b"content"
    assert nobody.head_object(Bucket=bucket, Key="pub/k")["ContentLength"] == 7
    for attempt in [
        lambda: nobody.get_object(Bucket=bucket, Key="k"),
        lambda: nobody.get_object(Bucket=other, Key="pub/k"),
        lambda: nobody.get_object_tagging(Bucket=bucket, Key="pub/k"),
        lambda: nobody.list_objects_v2(Bucket=bucket, Prefix="pub/"),
        lambda: nobody.put_object(Bucket=bucket, Key="pub/new", Body=b"x"),
        lambda: nobody.delete_object(Bucket=bucket, Key="pub/k"),
    ]:
        with pytest.raises(ClientError) as failure:
            attempt()
        assert code(failure) == "AccessDenied"
    as_page = urllib3.request("GET", url + "?response-content-type=text/html")
    assert (as_page.status, b"InvalidRequest" in as_page.data) == (400, True)
    # A wrong signature is not the same as none.
    wrong = lab.client(proxy, credentials=Keys(READER[0], "wrong-secret-0123456789"))
    with pytest.raises(ClientError) as failure:
        wrong.get_object(Bucket=bucket, Key="pub/k")
    assert code(failure) == "SignatureDoesNotMatch"


def test_a_preflight_needs_no_signature_and_is_answered_by_main(lab, tmp_path):
    bucket = lab.bucket("cors")
    file = tmp_path / "clients.json"
    file.write_text(json.dumps([grants(READER, bucket, "read")]))
    allowed = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n"
    relay = lab.closing(
        HttpFaultProxy(lab.main.address, lambda r: allowed if r.method == "OPTIONS" else None)
    )
    proxy = lab.proxy(main_endpoint=relay.endpoint, CLIENT_CREDENTIALS_FILE=str(file))
    client = lab.client(proxy, credentials=Keys(*READER), signature_version="s3v4")
    presigned = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    for url in (f"{proxy.endpoint}/{bucket}/k", presigned):
        answer = urllib3.request("OPTIONS", url, headers=asked)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
    preflights = [request for request in relay.requests if request.method == "OPTIONS"]
    assert len(preflights) == 2
    for request in preflights:
        assert ("origin", "https://app.example") in request.headers
        assert READER[0] not in str(request)

"""TLS on the S3 port, and upstreams with an authority of their own."""

import socket
import ssl

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from support import s3
from support.authority import Authority
from support.poll import until


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture
def guarded(lab, authority, tmp_path):
    """(proxy with TLS, certificate file, key file)"""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.issue("first", certificate, key)
    proxy = lab.proxy(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key)
    return proxy, certificate, key


def client(proxy, trust):
    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"https://localhost:{proxy.port}",
        region_name="us-east-1",
        aws_access_key_id=s3.DUMMY[0],
        aws_secret_access_key=s3.DUMMY[1],
        verify=str(trust),
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def handshake(proxy, authority, **versions):
    context = ssl.create_default_context(cafile=authority.file)
    for name, version in versions.items():
        setattr(context, name, version)
    plain = socket.create_connection(proxy.address, timeout=5)
    return context.wrap_socket(plain, server_hostname="localhost")


def name_of(connection):
    subject = dict(pair[0] for pair in connection.getpeercert()["subject"])
    return subject["commonName"]


def test_a_client_writes_and_reads_over_tls(lab, guarded, authority):
    proxy, _, _ = guarded
    bucket = lab.bucket("tls")
    body = b"0123456789" * 700_000
    trusted = client(proxy, authority.file)
    trusted.put_object(Bucket=bucket, Key="k", Body=body)
    assert trusted.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    lab.assert_converged(proxy, bucket, inventory=lab.sqlite(proxy))


def test_a_client_that_does_not_know_the_authority_refuses(guarded, tmp_path):
    proxy, _, _ = guarded
    stranger = Authority(tmp_path / "stranger")
    with pytest.raises(SSLError):
        client(proxy, stranger.file).list_buckets()


def test_tls_1_2_is_the_oldest_version(guarded, authority):
    proxy, _, _ = guarded
    newest, oldest = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    for version in (oldest, newest):
        with handshake(
            proxy, authority, minimum_version=version, maximum_version=version
        ) as connection:
            assert connection.version() == {oldest: "TLSv1.2", newest: "TLSv1.3"}[version]
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, OSError)):
        handshake(
            proxy,
            authority,
            minimum_version=ssl.TLSVersion.TLSv1,
            maximum_version=ssl.TLSVersion.TLSv1_1,
        )


def test_a_renewed_certificate_is_served_and_standing_connections_stay(guarded, authority):
    proxy, certificate, key = guarded

    def ask(connection):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"</ListAllMyBucketsResult>" not in answer:
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")

    def serves(name):
        with handshake(proxy, authority) as fresh:
            return name_of(fresh) == name

    with handshake(proxy, authority) as standing:
        assert name_of(standing) == "first"
        ask(standing)
        authority.issue("second", certificate, key)
        until(lambda: serves("second"), "the renewed certificate", 15)
        ask(standing)
        # A pair that does not fit changes nothing.
        certificate.write_text("no certificate at all")
        until(
            lambda: "stays in force" in proxy.process.stdout(), "the log to tell of the fault", 15
        )
        assert serves("second")
        authority.issue("third", certificate, key)
        until(lambda: serves("third"), "the mended certificate", 15)
        ask(standing)


def test_a_proxy_with_a_missing_key_file_says_so(lab, guarded):
    proxy = lab.proxy(start=False, TLS_CERT_FILE=guarded[1])
    proxy.process.spawn()
    assert proxy.process.wait(20) == 64
    assert "TLS_KEY_FILE" in proxy.process.stderr()


def test_an_upstream_is_trusted_by_an_authority_of_its_own(lab, guarded, authority):
    main, _, _ = guarded
    bucket = lab.bucket("upstream")
    endpoint = f"https://localhost:{main.port}"
    proxy = lab.proxy(main_endpoint=endpoint, MAIN_CA_FILE=authority.file)
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    lab.assert_converged(proxy, bucket)
    doubtful = lab.proxy(main_endpoint=endpoint)
    with pytest.raises(doubtful_error(lab, doubtful)):
        lab.client(doubtful).get_object(Bucket=bucket, Key="k")


def doubtful_error(lab, proxy):
    return lab.client(proxy).exceptions.ClientError

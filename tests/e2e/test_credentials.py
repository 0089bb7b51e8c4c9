"""Where the proxy's own keys come from: files, and temporary credentials that end within seconds.

The stand-ins and the store that checks what they handed out are in `support.identity`.
"""

import threading
import time

import pytest

from support.identity import CheckingStore, Cloud, Issuer
from support.poll import until

SECONDS = 5
ROLE = "arn:aws:iam::123456789012:role/mirror"


class Traffic:
    """Two clients that write and read without a pause; `faults` is what went wrong."""

    def __init__(self, lab, proxy):
        self.faults, self.done = [], 0
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, args=(lab.client(proxy), n))
            for n in range(2)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, client, number):
        while not self.stop.wait(0.01):
            try:
                body = str(self.done).encode()
                client.put_object(Bucket="creds", Key=f"k{number}", Body=body)
                got = client.get_object(Bucket="creds", Key=f"k{number}")["Body"].read()
                assert got == body
                self.done += 1
            except Exception as error:  # noqa: BLE001 - judged by the test
                self.faults.append(repr(error))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def container(issuer, tmp_path):
    token = tmp_path / "container-token"
    token.write_text("pod-identity")
    cloud = Cloud(issuer, container_token="pod-identity")
    return cloud, {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": cloud.endpoint + "/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
    }


def web_identity(issuer, tmp_path):
    token = tmp_path / "web-token"
    token.write_text("of.the.cluster")
    cloud = Cloud(issuer, web_token="of.the.cluster")
    return cloud, {
        "AWS_ENDPOINT_URL_STS": cloud.endpoint,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_ARN": ROLE,
    }


def imds(issuer, _):
    cloud = Cloud(issuer)
    return cloud, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.endpoint}


def assumed_role(issuer, _):
    cloud = Cloud(issuer, external_id="partner-7", base_key="AKIABASE")
    return cloud, {
        "AWS_ENDPOINT_URL_STS": cloud.endpoint,
        "MAIN_ACCESS_KEY": "AKIABASE",
        "MAIN_SECRET_KEY": "base-secret-base-secret",
        "MAIN_ROLE_ARN": ROLE,
        "MAIN_EXTERNAL_ID": "partner-7",
    }


def proxy_with(lab, store, settings):
    """A proxy whose main is the checking store; the mirror is the laboratory's own."""
    proxy = lab.proxy(main_endpoint=store.endpoint, start=False)
    for name in ("MAIN_ACCESS_KEY", "MAIN_SECRET_KEY"):
        proxy.process.environment.pop(name)
    # Profile files of whoever runs the tests are none of theirs.
    nowhere = str(lab.directory / "nowhere")
    proxy.process.environment |= {
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        **settings,
    }
    return proxy.start()


@pytest.mark.parametrize("source", [container, web_identity, imds, assumed_role])
def test_no_request_fails_while_credentials_end_and_are_renewed(lab, tmp_path, source):
    issuer = Issuer(SECONDS)
    cloud, settings = source(issuer, tmp_path)
    lab.closing(cloud)
    store = lab.closing(CheckingStore(issuer.sessions))
    proxy = proxy_with(lab, store, settings)
    traffic = Traffic(lab, proxy)
    try:
        until(
            lambda: len(store.used) >= 4 and traffic.done >= 100,
            lambda: f"four sessions, a hundred rounds: {store.used}, {traffic.done}",
            60,
        )
    finally:
        traffic.end()
    assert not traffic.faults, traffic.faults[:3]
    assert not store.refused, store.refused[:3]
    # Asked now and again, and not for every request: a round is two of them, and more to the
    # mirror's copy. On a slow machine a session has fewer rounds, but never as few as this.
    assert len(issuer.sessions) * 4 <= traffic.done, (len(issuer.sessions), traffic.done)
    proxy.wait_drained()
    assert lab.keys_on_mirror("creds") == {"k0", "k1"}
    output = proxy.process.stdout() + proxy.process.stderr()
    for secret, token, _ in issuer.sessions.values():
        assert secret not in output and token not in output


def test_the_mirrors_credentials_are_renewed_too_and_no_copy_fails(lab, tmp_path):
    issuer = Issuer(SECONDS)
    cloud = lab.closing(Cloud(issuer, external_id="partner-7", base_key="AKIABASE"))
    store = lab.closing(CheckingStore(issuer.sessions))
    bucket = lab.bucket("creds-of-the-mirror")
    proxy = lab.proxy(mirror_endpoint=store.endpoint, start=False)
    proxy.process.environment |= {
        "AWS_ENDPOINT_URL_STS": cloud.endpoint,
        "MIRROR_ACCESS_KEY": "AKIABASE",
        "MIRROR_SECRET_KEY": "base-secret-base-secret",
        "MIRROR_ROLE_ARN": ROLE,
        "MIRROR_EXTERNAL_ID": "partner-7",
    }
    proxy.start()
    client, bodies = lab.client(proxy), {}
    # Written now and again until the third session is in use.
    until(lambda: put_one(client, bucket, bodies) and len(store.used) >= 3, "three sessions", 40, 0.05)
    proxy.wait_drained()
    assert not store.refused, store.refused[:3]
    assert '"mirror_status":"retry"' not in proxy.process.stdout()
    assert {path: body for path, (body, _) in store.objects.items()} == bodies


def put_one(client, bucket, bodies):
    number = len(bodies)
    client.put_object(Bucket=bucket, Key=f"k{number}", Body=b"%d" % number)
    bodies[f"/{bucket}/k{number}"] = b"%d" % number
    return True


def test_a_source_that_is_sick_for_a_while_fails_no_request(lab, tmp_path):
    issuer = Issuer(12)
    cloud, settings = container(issuer, tmp_path)
    lab.closing(cloud)
    store = lab.closing(CheckingStore(issuer.sessions))
    proxy = proxy_with(lab, store, settings)
    traffic = Traffic(lab, proxy)
    try:
        until(lambda: store.used, "the first session")
        cloud.sick = True
        asked = len(cloud.asked)
        until(lambda: len(cloud.asked) > asked, "a renewal that is refused", 15)
        cloud.sick = False
        until(lambda: len(store.used) >= 2, "the next session", 15)
    finally:
        traffic.end()
    assert not traffic.faults, traffic.faults[:3]
    assert not store.refused, store.refused[:3]


def test_keys_in_files_are_read_again_when_they_change(lab, tmp_path):
    access, secret = tmp_path / "access", tmp_path / "secret"
    keys = {"FIRSTKEY": ("first-secret", None, None)}
    access.write_text("FIRSTKEY\n")
    secret.write_text("first-secret\n")
    store = lab.closing(CheckingStore(keys))
    proxy = proxy_with(
        lab, store, {"MAIN_ACCESS_KEY_FILE": str(access), "MAIN_SECRET_KEY_FILE": str(secret)}
    )
    traffic = Traffic(lab, proxy)
    try:
        until(lambda: store.used == ["FIRSTKEY"], "the first key")
        keys["SECONDKEY"] = ("second-secret", None, None)
        for path, text in ((secret, "second-secret"), (access, "SECONDKEY")):
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(path)
        until(lambda: store.used == ["FIRSTKEY", "SECONDKEY"], "the second key", 15)
        # The old key ends once nobody can use it any more: what was signed with it is through.
        time.sleep(0.5)
        del keys["FIRSTKEY"]
        done = traffic.done
        until(lambda: traffic.done > done + 20, "more requests")
    finally:
        traffic.end()
    mixed = [fault for fault in store.refused if "signature" not in fault]
    assert not mixed, mixed[:3]
    # While one file is new and the other old the pair does not fit; nobody can know that.
    assert len(traffic.faults) == len(store.refused) or not traffic.faults, traffic.faults[:3]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MAIN_ACCESS_KEY_FILE": "/x"}, "MAIN_SECRET_KEY_FILE"),
        ({"MIRROR_EXTERNAL_ID": "x"}, "MIRROR_ROLE_ARN"),
        ({"MIRROR_ROLE_ARN": "hunter2"}, "MIRROR_ROLE_ARN"),
    ],
)
def test_half_of_an_identity_is_a_fault(lab, settings, named):
    proxy = lab.proxy(start=False, **settings)
    if "ACCESS_KEY_FILE" in "".join(settings):
        for name in ("MAIN_ACCESS_KEY", "MAIN_SECRET_KEY"):
            proxy.process.environment.pop(name)
    proxy.process.spawn()
    assert proxy.process.wait(20) == 64
    assert named in proxy.process.stderr() and "hunter2" not in proxy.process.stderr()

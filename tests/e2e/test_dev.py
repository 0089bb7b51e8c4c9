"""The README's first command, as a user sees it: two stores, the proxy, lines ready to paste."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import s3
from support.inventory import SqliteInventory
from support.process import Process, accepts, base_environment, binary
from support.proxy import Proxy

S3_PORT = 8080
ADMIN_PORT = 9090


class Dev(Proxy):
    """`s3-mirror dev`: the same admin port, on its fixed addresses."""

    def __init__(self, directory, data_dir=None):
        self.host, self.port, self.admin_port = "127.0.0.1", S3_PORT, ADMIN_PORT
        self.data_dir = data_dir or directory / "dev-data"
        arguments = [binary(), "dev"]
        if data_dir is None:
            arguments += ["--data-dir", self.data_dir]
        self.process = Process("dev", arguments, directory / "logs", cwd=directory)


@pytest.fixture
def dev(tmp_path):
    for port in (S3_PORT, ADMIN_PORT):
        assert not accepts(port), f"port {port} is in use; `s3-mirror dev` needs it for this test"
    running = Dev(tmp_path).start()
    yield running
    try:
        if running.process.running:
            assert running.stop() == 0
    finally:
        running.process.forget()


def printed(dev):
    return dev.process.stdout() + dev.process.stderr()


def store_clients(dev):
    """Clients for the two stores, from what `dev` tells its user about them."""
    text = printed(dev)
    endpoints = [
        url
        for url in dict.fromkeys(re.findall(r"http://127\.0\.0\.1:\d+", text))
        if not url.endswith((f":{S3_PORT}", f":{ADMIN_PORT}"))
    ]
    assert len(endpoints) == 2, f"main's and the mirror's address are not told:\n{text}"
    return endpoints


def test_an_object_put_through_dev_is_mirrored_and_inventoried(dev):
    client = s3.client(dev.endpoint)
    client.create_bucket(Bucket="demo")
    client.put_object(Bucket="demo", Key="hello.txt", Body=b"hello", ContentType="text/plain")
    assert client.get_object(Bucket="demo", Key="hello.txt")["Body"].read() == b"hello"
    dev.wait_drained()
    (row,) = SqliteInventory(dev.data_dir).rows("demo")
    assert (row["path"], row["size"], row["is_backed_up"]) == ("hello.txt", 5, True)


def test_objects_survive_a_restart_of_dev(dev):
    client = s3.client(dev.endpoint)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="k", Body=b"still here")
    dev.wait_drained()
    assert dev.stop() == 0
    dev.start()
    assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"still here"
    dev.kill()
    dev.start()
    assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"still here"
    (row,) = SqliteInventory(dev.data_dir).rows("kept")
    assert row["is_backed_up"]


def paste(dev, directory, program):
    """Runs every printed line that starts with `program`, in order, in one shell."""
    lines = [line.strip().removeprefix("$ ") for line in printed(dev).splitlines()]
    lines = [line for line in lines if line.startswith(program + " ")]
    assert lines, f"no {program} line to paste:\n{printed(dev)}"
    # The reader stands in a clone, so there is a README.md, and has boto3 and curl.
    (directory / "README.md").write_text("a readme\n")
    environment = base_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    curl = 'curl() { command curl --fail --silent --show-error "$@"; }'
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", curl, *lines])],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
    dev.wait_drained()
    return done.stdout


def test_the_printed_lines_work_as_pasted(dev, tmp_path):
    for program in ("curl", "python3"):
        paste(dev, tmp_path, program)
    keys = s3.every_key(s3.client(dev.endpoint), "demo")
    assert len(keys) >= 2, keys


def test_dev_tells_where_to_look(dev):
    text = printed(dev)
    assert re.search(r"^\W*aws .*--endpoint-url", text, re.MULTILINE), text
    assert f"127.0.0.1:{ADMIN_PORT}" in text
    assert str(dev.data_dir) in text
    assert len(store_clients(dev)) == 2


def test_a_port_in_use_is_said_plainly(dev, tmp_path):
    second = Process("second", [binary(), "dev", "--data-dir", tmp_path / "two"], tmp_path)
    try:
        assert second.spawn().wait(20) > 0
        said = second.stdout() + second.stderr()
        assert re.search(r"127\.0\.0\.1:\d+.* in use", said), said
        assert "panicked" not in said, said
    finally:
        second.forget()

"""Services of compose files and containers of manifests, run as processes of this machine.

Commands and variables are those of the files. Only what a container engine would arrange is
translated: addresses of services, ports, and the place of the data directory.
"""

import json
import os
import shutil
import subprocess
import urllib.request

import boto3
from botocore.config import Config
from deploylib.render import REPOSITORY
from support.poll import until
from support.process import Process, accepts, base_environment, binary, free_port


class Machine:
    """Started processes, and where each `service:port` of the files is found here."""

    def __init__(self, directory):
        self.directory = directory
        self.addresses = {}
        self.processes = []

    def close(self):
        """Stops the newest first; what does not stop is killed and reported."""
        for process in reversed(self.processes):
            process.stop()
            process.forget()

    def place(self, service, port, address=None):
        """Decides where `service:port` is."""
        self.addresses[f"{service}:{port}"] = address or f"127.0.0.1:{free_port()}"
        return self.addresses[f"{service}:{port}"]

    def translate(self, text, service):
        """`text` with addresses and the data directory of `service` as they are here."""
        for name, address in self.addresses.items():
            host, port = name.split(":")
            text = text.replace(name, address)
            if host == service:
                for own in ("0.0.0.0", "127.0.0.1", "localhost"):
                    text = text.replace(f"{own}:{port}", address)
        return str(self.directory / service / "data") if text == "/data" else text

    def start(self, service, command, environment, ready):
        """Runs the image's binary with a container's command and variables."""
        (self.directory / service / "data").mkdir(parents=True, exist_ok=True)
        arguments = [binary(), *(self.translate(word, service) for word in command)]
        variables = {name: self.translate(value, service) for name, value in environment.items()}
        process = Process(service, arguments, self.directory / service, variables)
        self.processes.append(process)
        process.spawn().wait_ready(ready, f"{service} to answer")
        return process

    def start_store(self, service, command):
        address = self.place(service, 9000)
        port = int(address.split(":")[1])
        return self.start(service, command, {}, lambda: accepts(port))

    def start_proxy(self, service, command, environment):
        self.place(service, 8080)
        admin = self.place(service, 9090)
        return self.start(service, command, environment, lambda: get(f"http://{admin}/readyz")[0] == 200)

    def url(self, service, port):
        return f"http://{self.addresses[f'{service}:{port}']}"


def get(url):
    """(status, text); status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_drained(admin_url):
    """Waits until the proxy owes nothing to the mirror and the inventory."""

    def drained():
        status = json.loads(get(f"{admin_url}/api/v1/status")[1])
        return (
            status["mirror"]["pending_operations"] == 0
            and status["inventory"]["pending_rows"] == 0
            and status["unsettled_intents"] == 0
        )

    until(drained, lambda: get(f"{admin_url}/api/v1/status")[1], 60)


def s3(endpoint, access_key="any", secret_key="any", verify=None):
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", config=config,
        aws_access_key_id=access_key, aws_secret_access_key=secret_key, verify=verify,
    )


def run(arguments, environment, cwd):
    """Runs a client to its end; its output, standard error included."""
    result = subprocess.run(
        [str(word) for word in arguments], cwd=cwd, env={**base_environment(), **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=150, check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_client(*arguments, environment):
    """A command of the test client."""
    return run(["node", "index.js", *arguments], environment, REPOSITORY / "test-client")


test_client.__test__ = False


def build_go(directory, source):
    """A Go program, built in the module of the tools."""
    program = directory / "go-program"
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    subprocess.run(
        ["go", "build", "-o", program, source], cwd=REPOSITORY / "tests/deploy/tools",
        env=environment, check=True, timeout=170,
    )
    return program


def build_go_example(directory):
    """The Go example as a program."""
    return build_go(directory, REPOSITORY / "examples/applications/go/main.go")


def place_node_example(directory):
    """The Node.js example beside the test client's packages."""
    shutil.copy(REPOSITORY / "examples/applications/node.mjs", directory)
    (directory / "node_modules").symlink_to(REPOSITORY / "test-client/node_modules")
    return directory / "node.mjs"

"""Further S3 servers, each a process of this run with data of its own, gone when the run ends.

They are tools of the tests: separate programs, spoken to over HTTP, no part of the proxy.
"""

import contextlib
import os
import secrets
from pathlib import Path

import paths
from support.process import Process, accepts, free_port
from support.stores import Credentials

REGION = "us-east-1"


class Program:
    """One server on loopback."""

    #: Settings of the proxy in front of it.
    settings = {}
    #: Seconds until it answers.
    patience = 60

    def __init__(self, name, directory, logs):
        self.name = f"{self.kind}-{name}"
        self.directory = Path(directory) / self.name
        self.directory.mkdir()
        self.port = free_port()
        # Letters and digits only: some servers take nothing else.
        self.credentials = Credentials(f"KEY{secrets.token_hex(8)}", secrets.token_hex(20))
        arguments, environment = self.command()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **environment}
        self.process = Process(self.name, arguments, logs, environment)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process.spawn()
        self.process.wait_ready(
            lambda: accepts(self.port), f"a listener on {self.endpoint}", self.patience
        )

    @contextlib.contextmanager
    def running(self):
        self.start()
        try:
            yield self
        finally:
            with contextlib.suppress(Exception):
                self.process.stop()
            self.process.forget()


class Garage(Program):
    kind = "garage"
    settings = {"MAIN_QUIRKS": "garage", "MIRROR_QUIRKS": "garage"}

    def command(self):
        configuration = self.directory / "garage.toml"
        configuration.write_text(
            f"""
metadata_dir = "{self.directory}/meta"
data_dir = "{self.directory}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{free_port()}"
rpc_secret = "{secrets.token_hex(32)}"

[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{self.port}"
root_domain = ".s3.localhost"
"""
        )
        environment = {
            "GARAGE_DEFAULT_ACCESS_KEY": self.credentials.access_key,
            "GARAGE_DEFAULT_SECRET_KEY": self.credentials.secret_key,
            "GARAGE_DEFAULT_BUCKET": "made-at-the-start",
        }
        program = os.environ.get("GARAGE_BIN") or paths.CACHE / "garage" / "bin" / "garage"
        arguments = [program, "-c", configuration, "server", "--single-node", "--default-bucket"]
        return arguments, environment


class Minio(Program):
    kind = "minio"
    settings = {"MAIN_QUIRKS": "minio", "MIRROR_QUIRKS": "minio"}

    def command(self):
        environment = {
            "MINIO_ROOT_USER": self.credentials.access_key,
            "MINIO_ROOT_PASSWORD": self.credentials.secret_key,
            "MINIO_DOMAIN": "s3.localhost",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        program = os.environ.get("MINIO_BIN") or paths.CACHE / "bin" / "minio"
        address = f"127.0.0.1:{self.port}"
        return [program, "server", "--quiet", "--address", address, self.directory], environment


class Moto(Program):
    """Verifies no signatures: what it refuses is about requests alone."""

    kind = "moto"

    def command(self):
        program = paths.CACHE / "moto" / "bin" / "moto_server"
        return [program, "-H", "127.0.0.1", "-p", self.port], {}


SERVERS = {each.kind: each for each in (Garage, Minio, Moto)}

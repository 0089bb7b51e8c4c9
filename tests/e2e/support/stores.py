"""The two S3 stores, each a process of its own (`s3-mirror store`)."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from .process import Process, accepts, binary, free_port

REGION = "us-east-1"


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str

    @staticmethod
    def random(prefix):
        """Fresh for every run: a secret found in any output can only have come from this run."""
        return Credentials(f"{prefix}{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))


class Store:
    """An S3 store with its data in `data_dir`; stopping and starting it again keeps the objects."""

    def __init__(self, name, directory, logs):
        self.name = name
        self.credentials = Credentials.random(f"{name.upper()}KEY")
        self.port = free_port()
        self.host = "127.0.0.1"
        self.data_dir = Path(directory) / name
        self.process = Process(
            f"store-{name}",
            [
                binary(),
                "store",
                "--listen",
                f"{self.host}:{self.port}",
                "--data-dir",
                self.data_dir,
                # One word each: a random secret may begin with a hyphen.
                f"--access-key={self.credentials.access_key}",
                f"--secret-key={self.credentials.secret_key}",
            ],
            logs,
        )

    @property
    def endpoint(self):
        return f"http://{self.host}:{self.port}"

    @property
    def address(self):
        return (self.host, self.port)

    def start(self):
        self.process.spawn()
        self.process.wait_ready(lambda: accepts(self.port), f"a listener on {self.endpoint}")
        return self

    def stop(self):
        return self.process.stop()

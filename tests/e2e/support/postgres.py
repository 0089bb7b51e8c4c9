"""A throw-away PostgreSQL cluster: password authentication, one database per test."""

import itertools
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg

from . import watchdog
from .process import Process, free_port, run_to_end

_numbers = itertools.count(1)


def server_binaries():
    """The directory of `initdb` and `postgres`: PG_BIN_DIR, PATH, then Debian's versioned place."""
    candidates = [Path(os.environ["PG_BIN_DIR"])] if os.environ.get("PG_BIN_DIR") else []
    candidates += [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    for directory in candidates:
        if (directory / "initdb").is_file() and (directory / "postgres").is_file():
            return directory
    raise FileNotFoundError(
        "no PostgreSQL server found: apt-get install postgresql, or set PG_BIN_DIR"
    )


class Cluster:
    """The server; it can be stopped, started and paused like any other process of the suite."""

    def __init__(self, logs):
        self.host = "127.0.0.1"
        self.port = free_port()
        self.user = "s3mirror"
        self.password = secrets.token_urlsafe(24)
        self.binaries = server_binaries()
        # Not below pytest's own directories: those are closed to the server's user.
        self.root = Path(tempfile.mkdtemp(prefix="s3-mirror-pg-"))
        watchdog.add_directory(self.root)
        self.data = self.root / "data"
        self.logs = Path(logs)
        self.process = None

    @property
    def address(self):
        return (self.host, self.port)

    def start(self):
        """Initialises the cluster at the first call."""
        if self.process is None:
            self._initialise()
        self.process.spawn()
        pid_file = self.data / "postmaster.pid"

        def ready():
            try:
                lines = pid_file.read_text().splitlines()
            except OSError:
                return False
            return len(lines) >= 8 and lines[7].strip() == "ready"

        self.process.wait_ready(ready, "PostgreSQL to be ready")
        return self

    def _initialise(self):
        # The server refuses to run as root, so as root it runs as the packaged user, or nobody.
        identity = {}
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.root, account.pw_uid, account.pw_gid)
        password_file = self.root / "password"
        password_file.write_text(self.password + "\n")
        if identity:
            os.chown(password_file, identity["user"], identity["group"])
        initdb = Process(
            "initdb",
            [
                self.binaries / "initdb",
                f"--pgdata={self.data}",
                f"--username={self.user}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
            self.logs,
            **identity,
        ).spawn()
        assert initdb.wait(60) == 0, initdb.output_tail()
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.root),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            # A time zone far from UTC: a timestamp that is not UTC by intention shows.
            "timezone": "Pacific/Auckland",
        }
        arguments = [self.binaries / "postgres", "-D", self.data, "-p", self.port]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        self.process = Process("postgres", arguments, self.logs, **identity)

    def stop(self):
        """Fast shutdown: open sessions are ended, what is committed stays."""
        if self.process.running:
            self.process.signal(signal.SIGINT)
            self.process.wait(30)

    def close(self):
        if self.process is not None and self.process.running:
            self.process.resume()
            self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def connect(self, database, **options):
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
            **options,
        )

    def create_database(self):
        name = f"inventory_{next(_numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return name

    def environment(self, database, address=None):
        """The proxy's settings for `database`, perhaps by way of a relay at `address`."""
        host, port = address or self.address
        return {"POSTGRES_URL": f"postgres://{self.user}:{self.password}@{host}:{port}/{database}"}

    def query(self, database, sql, parameters=None):
        """Rows as dictionaries."""
        with self.connect(database, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(sql, parameters).fetchall()


def version_banner():
    code, out, err = run_to_end([server_binaries() / "postgres", "--version"])
    assert code == 0, err
    return out.strip()

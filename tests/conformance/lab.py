"""The servers of a run: main and mirror of one kind, and the proxy."""

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import paths
import servers
from support.process import accepts
from support.proxy import Proxy, environment
from support.stores import Credentials, Store

#: The base domain of virtual-hosted-style requests, at the gateway and at the proxy.
DOMAIN = "s3.localhost"


@dataclass(frozen=True)
class Server:
    """An S3 server that somebody else started."""

    name: str
    endpoint: str
    credentials: Credentials

    @property
    def address(self):
        parts = urlsplit(self.endpoint)
        return (parts.hostname, parts.port)


def gateway(name):
    """The RGW instance that scripts/rgw/up.sh made."""
    root = Path(os.environ.get("RGW_ROOT") or paths.REPOSITORY / ".cache" / "rgw")
    file = root / name / "endpoint.env"
    if not file.is_file():
        raise SystemExit(f"{file} is missing: run scripts/rgw/up.sh")
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    server = Server(
        f"rgw-{name}",
        values["RGW_ENDPOINT"],
        Credentials(values["RGW_ACCESS_KEY"], values["RGW_SECRET_KEY"]),
    )
    if not accepts(server.address[1]):
        raise SystemExit(f"{server.endpoint} does not answer: run scripts/rgw/up.sh")
    return server


@dataclass
class Lab:
    main: object
    mirror: object
    proxy: Proxy


@contextlib.contextmanager
def lab(server="rgw", clients=(), **settings):
    """A proxy between a fresh or running main and mirror; everything started here ends here.

    `server` is `rgw`, `store` or one of `servers.SERVERS`. With `clients` (key pairs) the proxy verifies who comes.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        logs = directory / "logs"
        if server == "rgw":
            main, mirror = gateway("main"), gateway("mirror")
        elif server in servers.SERVERS:
            program = servers.SERVERS[server]
            main, mirror = (program(name, directory, logs) for name in ("main", "mirror"))
            for each in (main, mirror):
                stack.enter_context(each.running())
            settings = {**program.settings, **settings}
        else:
            main, mirror = Store("main", directory, logs), Store("mirror", directory, logs)
            for store in (main, mirror):
                store.start()
                stack.callback(store.process.forget)
        if clients:
            known = [
                {
                    "access_key_id": client.access_key,
                    "secret_access_key": client.secret_key,
                    "buckets": [{"bucket": "*", "access": "read-write"}],
                }
                for client in clients
            ]
            file = directory / "clients.json"
            file.write_text(json.dumps(known))
            settings["CLIENT_CREDENTIALS_FILE"] = str(file)
        proxy = Proxy(directory, logs, environment(main, mirror, PROXY_DOMAIN=DOMAIN, **settings))
        stack.callback(proxy.process.forget)
        proxy.start()
        try:
            yield Lab(main, mirror, proxy)
        finally:
            with contextlib.suppress(Exception):
                proxy.stop()

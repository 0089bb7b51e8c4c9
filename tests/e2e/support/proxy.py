"""The proxy under test: its environment, its start and stop, and what its admin port says."""

import json
import urllib.error
import urllib.request

from .poll import until
from .process import Process, binary, free_port


def gauges(status):
    """The figures of /api/v1/status that are 0 when every change has arrived everywhere."""
    return {
        "mirror.pending_operations": status["mirror"]["pending_operations"],
        "mirror.pending_bytes": status["mirror"]["pending_bytes"],
        "mirror.oldest_pending_seconds": status["mirror"]["oldest_pending_seconds"],
        "mirror.parked": status["mirror"]["parked"],
        "inventory.pending_rows": status["inventory"]["pending_rows"],
        "unsettled_intents": status["unsettled_intents"],
    }


def environment(main, mirror, *, main_endpoint=None, mirror_endpoint=None, inventory=None, **extra):
    """A complete configuration; `inventory` is a dictionary of settings, None means SQLite."""
    return {
        "MAIN_S3_ENDPOINT": main_endpoint or main.endpoint,
        "MAIN_ACCESS_KEY": main.credentials.access_key,
        "MAIN_SECRET_KEY": main.credentials.secret_key,
        "MIRROR_S3_ENDPOINT": mirror_endpoint or mirror.endpoint,
        "MIRROR_ACCESS_KEY": mirror.credentials.access_key,
        "MIRROR_SECRET_KEY": mirror.credentials.secret_key,
        **(inventory or {}),
        **{name: str(value) for name, value in extra.items()},
    }


class Proxy:
    """One `s3-mirror serve` with a DATA_DIR that outlives its restarts."""

    def __init__(self, directory, logs, settings, name="proxy"):
        self.host = "127.0.0.1"
        self.port = free_port()
        self.admin_port = free_port()
        self.data_dir = directory / f"{name}-data"
        self.settings = {
            "LISTEN_ADDR": f"{self.host}:{self.port}",
            "ADMIN_ADDR": f"{self.host}:{self.admin_port}",
            "DATA_DIR": str(self.data_dir),
            **settings,
        }
        self.process = Process(name, [binary(), "serve"], logs, self.settings)

    @property
    def endpoint(self):
        return f"http://{self.host}:{self.port}"

    @property
    def address(self):
        return (self.host, self.port)

    def start(self, timeout=30.0):
        self.process.spawn()
        self.process.wait_ready(self.is_ready, "/readyz to answer 200", timeout)
        return self

    def kill(self):
        return self.process.kill()

    def stop(self, timeout=40.0):
        return self.process.stop(timeout)

    def admin(self, path, timeout=5.0):
        """(status, content type, body text) of a GET on the admin port."""
        url = f"http://{self.host}:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                return (
                    response.status,
                    response.headers.get("Content-Type", ""),
                    response.read().decode("utf-8"),
                )
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Content-Type", ""), error.read().decode("utf-8")

    def is_ready(self):
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def status(self):
        code, _, body = self.admin("/api/v1/status")
        assert code == 200, f"/api/v1/status answered {code}: {body}"
        return json.loads(body)

    def metrics(self):
        """{name: {labels as written: value}} of the Prometheus text exposition."""
        code, _, body = self.admin("/metrics")
        assert code == 200, f"/metrics answered {code}: {body}"
        return parse_metrics(body)

    def wait_drained(self, timeout=30.0):
        """Waits until nothing is unsettled, pending or parked."""
        seen = {}

        def drained():
            seen.clear()
            seen.update(gauges(self.status()))
            return all(value == 0 for value in seen.values())

        until(drained, lambda: f"an empty backlog, last seen {seen}", timeout, 0.03)

    def log_lines(self):
        """Every line of stdout, parsed; a line that is not a JSON object is a failure."""
        lines = []
        for text in self.process.stdout().splitlines():
            try:
                line = json.loads(text)
            except ValueError as error:
                raise AssertionError(f"a log line that is not JSON: {text!r}") from error
            assert isinstance(line, dict), text
            lines.append(line)
        return lines


def parse_metrics(text):
    samples = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        series, value = line.rsplit(" ", 1)
        name, brace, labels = series.partition("{")
        samples.setdefault(name, {})[brace + labels] = float(value)
    return samples

"""Processes of the suite: start, stop, kill -9, pause; their output kept in a file per start."""

import os
import random
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from . import watchdog
from .poll import until

REPOSITORY = Path(__file__).resolve().parents[3]

#: Every Process made, for the failure report; fixtures forget theirs when they end.
REGISTRY = []

_handed_out = set()
_port_lock = threading.Lock()
_random = random.SystemRandom()


def binary():
    """The program under test: S3_MIRROR_BIN, or the debug build of this checkout."""
    path = Path(os.environ.get("S3_MIRROR_BIN") or REPOSITORY / "target" / "debug" / "s3-mirror")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `cargo build`, or scripts/test")
    return str(path)


def free_port():
    """A loopback port that nothing listens on, never the same one twice in a run.

    Below those that the system gives to outgoing connections, so that none of them takes a port
    while its server is stopped. Runs beside one another have ranges of their own (`E2E_PORTS`).
    """
    low, high = os.environ.get("E2E_PORTS", "10000-31999").split("-")
    with _port_lock:
        while True:
            port = _random.randint(int(low), int(high))
            if port in _handed_out:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            _handed_out.add(port)
            return port


def accepts(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def base_environment():
    """What a child may inherit: nothing that could configure the product or an AWS client."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "RUST_BACKTRACE", "LLVM_PROFILE_FILE")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Process:
    """One child process that can be started again and again; stdout and stderr go to files.

    The files are `<name>.<n>.out` and `.err` in `directory`, n counting the starts.
    """

    def __init__(self, name, arguments, directory, environment=None, **popen):
        self.name = name
        self.arguments = [str(argument) for argument in arguments]
        self.directory = Path(directory)
        self.environment = dict(environment or {})
        self.starts = 0
        self.popen_options = popen
        self._popen = None
        REGISTRY.append(self)

    @property
    def pid(self):
        return self._popen.pid

    @property
    def running(self):
        return self._popen is not None and self._popen.poll() is None

    @property
    def out_path(self):
        return self.directory / f"{self.name}.{self.starts}.out"

    @property
    def err_path(self):
        return self.directory / f"{self.name}.{self.starts}.err"

    def spawn(self):
        """Starts the child without waiting for anything."""
        assert not self.running, f"{self.name} is already running"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self._popen = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**base_environment(), **self.environment},
                **self.popen_options,
            )
        watchdog.add(self._popen.pid)
        return self

    def wait_ready(self, ready, what, timeout=30.0):
        """Waits for `ready()`; a child that ends meanwhile is reported with its own words."""

        def check():
            if not self.running:
                raise AssertionError(
                    f"{self.name} ended with exit code {self._popen.returncode} before {what}\n"
                    + self.output_tail()
                )
            return ready()

        until(check, lambda: f"{self.name}: {what}\n{self.output_tail()}", timeout)

    def signal(self, number):
        self._popen.send_signal(number)

    def pause(self):
        """SIGSTOP: the process is there, its sockets accept, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL, at once."""
        if self.running:
            self._popen.kill()
        return self._reap(10)

    def terminate(self):
        """SIGTERM, without waiting."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout=40.0):
        """Waits for the child to end by itself and returns its exit code (negative: the signal)."""
        try:
            return self._reap(timeout)
        except subprocess.TimeoutExpired as expired:
            raise AssertionError(
                f"{self.name} still runs after {timeout:g} s\n{self.output_tail()}"
            ) from expired

    def stop(self, timeout=40.0):
        """SIGTERM and wait; whatever does not end by then is killed and reported."""
        if not self.running:
            return self._popen.returncode if self._popen else None
        self.terminate()
        try:
            return self._reap(timeout)
        except subprocess.TimeoutExpired as expired:
            self.kill()
            raise AssertionError(
                f"{self.name} ignored SIGTERM for {timeout:g} s\n{self.output_tail()}"
            ) from expired

    def _reap(self, timeout):
        if self._popen is None:
            return None
        code = self._popen.wait(timeout)
        watchdog.remove(self._popen.pid)
        return code

    def forget(self):
        """Makes sure it is gone and takes it out of the failure report."""
        self.kill()
        if self in REGISTRY:
            REGISTRY.remove(self)

    def stdout(self):
        """Everything this child wrote to stdout over all its starts."""
        return self._all("out")

    def stderr(self):
        return self._all("err")

    def _all(self, kind):
        texts = []
        for start in range(1, self.starts + 1):
            path = self.directory / f"{self.name}.{start}.{kind}"
            texts.append(path.read_bytes().decode("utf-8", "replace"))
        return "".join(texts)

    def output_tail(self, lines=40):
        """The end of the last start's output, for messages."""
        parts = []
        for path in (self.out_path, self.err_path):
            if path.is_file():
                text = path.read_bytes().decode("utf-8", "replace").splitlines()[-lines:]
                if text:
                    shown = [line[:500] for line in text]
                    parts.append(f"--- {path.name}\n" + "\n".join(shown))
        return "\n".join(parts) or "(no output)"

    def resident_peak_bytes(self):
        """The kernel's own high-water mark of resident memory (VmHWM) of the running child."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM in /proc: this figure needs Linux")


def run_to_end(arguments, environment=None, timeout=30.0):
    """Runs a command that is expected to end by itself; returns (exit code, stdout, stderr)."""
    started = time.monotonic()
    result = subprocess.run(
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**base_environment(), **(environment or {})},
        timeout=timeout,
        check=False,
    )
    assert time.monotonic() - started < timeout
    return (
        result.returncode,
        result.stdout.decode("utf-8", "replace"),
        result.stderr.decode("utf-8", "replace"),
    )

"""The operator's commands against a running proxy."""

import json

from .process import binary, run_to_end

TOKEN = "a-token-for-tests-0123456789"


def settings():
    return {"ADMIN_TOKEN": TOKEN}


def command(proxy, *arguments, timeout=120.0, environment=None):
    """(exit code, stdout, stderr) of `s3-mirror <arguments>` talking to `proxy`."""
    return run_to_end(
        [binary(), *arguments],
        environment={
            "ADMIN_ADDR": f"{proxy.host}:{proxy.admin_port}",
            "ADMIN_TOKEN": TOKEN,
            **(environment or {}),
        },
        timeout=timeout,
    )


def job(proxy, *arguments, code=0, timeout=120.0):
    """Runs a job to its end, expects this exit code, and returns its last state."""
    got, out, err = command(proxy, *arguments, "--json", timeout=timeout)
    lines = [json.loads(line) for line in out.splitlines()]
    last = lines[-1] if lines else {}
    assert got == code, f"exit code {got}, expected {code}\n{last}\n{err}"
    return last


def report_of(proxy, view):
    return json.loads((proxy.data_dir / "reports" / view["report"]).read_text())

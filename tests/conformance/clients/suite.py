"""Real clients, each a process of its own, against the proxy; then main and mirror are compared."""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import paths
from convergence import DRAIN_SECONDS
from lab import lab
from support import s3
from support.compare import describe
from support.poll import TimedOut
from support.process import base_environment
from support.stores import Credentials

from . import job

HERE = Path(__file__).resolve().parent
CLIENT_SECONDS = 300
BUCKET = "clients"

DUMMY, ANONYMOUS, VERIFIED = "dummy", "anonymous", "verified"
MODES = (DUMMY, ANONYMOUS, VERIFIED)
#: What clients sign with where signatures are not verified, and where they are.
KEYS = {
    DUMMY: Credentials("ANYKEYATALL000000001", "any-secret-at-all-will-do-0000000000001"),
    ANONYMOUS: None,
    VERIFIED: Credentials("CONFORMANCECLIENT001", "conformance-client-secret-on-loopback-0001"),
}


#: What docs/configuration.md tells to set for each kind of server: this gateway knows no trailers,
#: without which half of the SDKs of today cannot upload to it.
CEPH = {"MAIN_QUIRKS": "ceph", "MIRROR_QUIRKS": "ceph"}
SETTINGS = {"store": {}, "rgw": CEPH}


@dataclass(frozen=True)
class Client:
    """A program that follows job.py."""

    name: str
    command: tuple
    anonymous: bool = True
    #: Does it send the metadata of job.METADATA?
    metadata: bool = True
    content_type: bool = True
    #: Does it take any key (the case job.KEYS_CASE)?
    keys: bool = False

    @property
    def cases(self):
        return [*job.CASES, job.KEYS_CASE] if self.keys else list(job.CASES)


def _python(script, *arguments):
    return (sys.executable, str(HERE / script), *arguments)


_JS = ("node", str(HERE / "js" / "clients.js"))
_GO = (str(paths.CACHE / "bin" / "go-clients"),)
_JAVA_BUILT = HERE / "java" / "target"
_JAVA = ("java", "-cp", f"{_JAVA_BUILT / 'classes'}:{_JAVA_BUILT / 'dependency'}/*", "Clients")
_RUST = (str(HERE / "rust" / "target" / "debug" / "rust-client"),)

#: In the order of the table. s3fs needs a kernel with FUSE.
CLIENTS = (
    Client("boto3", _python("with_boto3.py"), keys=True),
    Client("aws-cli v1", _python("with_commands.py", "aws")),
    Client("aws-cli v2.9", _python("with_commands.py", "aws2")),
    Client("aws-cli v2", _python("with_commands.py", "aws2-new")),
    Client("AWS SDK for JavaScript v3", (*_JS, "aws"), keys=True),
    Client("AWS SDK for Go v2", (*_GO, "aws"), keys=True),
    Client("AWS SDK for Java v2", (*_JAVA, "sync"), keys=True),
    Client("AWS SDK for Java v2, asynchronous", (*_JAVA, "async"), keys=True),
    # Without keys its signer panics as soon as it sends a file over http.
    Client("AWS SDK for Rust", _RUST, anonymous=False, keys=True),
    Client("rclone", _python("with_commands.py", "rclone"), metadata=False),
    Client("s3cmd", _python("with_commands.py", "s3cmd"), anonymous=False),
    Client(
        "s3fs",
        _python("with_commands.py", "s3fs"),
        anonymous=False,
        metadata=False,
        content_type=False,
    ),
    Client("minio-py", _python("with_minio_py.py"), keys=True),
    Client("minio-js", (*_JS, "minio"), keys=True),
    Client("minio-go", (*_GO, "minio"), keys=True),
    Client("curl", _python("with_commands.py", "curl")),
)


@dataclass
class Result:
    """One case of one client in one mode against one kind of main."""

    server: str
    client: str
    mode: str
    case: str
    #: What went wrong; empty if nothing did.
    faults: list
    #: It goes wrong without the proxy too, so it is neither passed nor failed.
    directly_too: bool = False


def run(only=None, servers=("store", "rgw")):
    """Runs all clients (or those named) in front of each kind of server; a list of results."""
    chosen = [client for client in CLIENTS if not only or client.name in only]
    if not os.path.exists("/dev/fuse"):
        chosen = [client for client in chosen if client.name != "s3fs"]
    results = []
    with tempfile.TemporaryDirectory(prefix="conformance-clients-") as directory:
        inputs = Path(directory) / "in"
        inputs.mkdir()
        _make_inputs(inputs)
        for server in servers:
            for modes in ((DUMMY, ANONYMOUS), (VERIFIED,)):
                known = [KEYS[VERIFIED]] if VERIFIED in modes else []
                with lab(server, known, **SETTINGS.get(server, {})) as running:
                    results += _run_lab(running, server, chosen, modes, inputs, Path(directory))
    for client in chosen:
        own = [result for result in results if result.client == client.name]
        if all(result.faults for result in own):
            # A client that can do nothing anywhere proves nothing: its installation is broken.
            for result in own:
                result.directly_too = False
    return results


def _make_inputs(directory):
    # The same bytes in every run, and no two cases alike.
    noise = random.Random(3)
    for case, (size, _) in job.CASES.items():
        (directory / case).write_bytes(noise.randbytes(size))
    (directory / "keys.json").write_text(json.dumps(job.KEYS))


def _run_lab(running, server, chosen, modes, inputs, directory):
    main = s3.client(running.main.endpoint, running.main.credentials)
    mirror = s3.client(running.mirror.endpoint, running.mirror.credentials)
    _fresh_bucket(main)
    results, failures = [], {}
    for client in chosen:
        for mode in modes:
            if mode == ANONYMOUS and not client.anonymous:
                continue
            prefix = f"{client.name.replace(' ', '-')}/{mode}"
            outputs = directory / "out" / server / prefix
            outputs.mkdir(parents=True)
            print(f"{server}, {mode}: {client.name}", file=sys.stderr, flush=True)
            failures[client, mode] = _call(
                running.proxy.endpoint, client, KEYS[mode], prefix, inputs, outputs
            )
            for case in client.cases:
                results.append(Result(server, client.name, mode, case, []))
    try:
        running.proxy.wait_drained(DRAIN_SECONDS)
    except TimedOut as error:
        print(f"MIRROR ({server}) {error}")
    direct = _directly(running, chosen, failures, inputs, directory / "direct" / server)
    by_name = {client.name: client for client in chosen}
    for result in results:
        client = by_name[result.client]
        error = failures[client, result.mode].get(result.case, "it said nothing about this case")
        if error is not None:
            result.faults.append(error)
            without_proxy = direct.get(client, {}).get(result.case)
            if result.case == job.KEYS_CASE:
                result.directly_too = without_proxy == error
            else:
                result.directly_too = without_proxy is not None
            continue
        key = f"{client.name.replace(' ', '-')}/{result.mode}/{result.case}"
        if result.case == job.KEYS_CASE:
            for name in job.KEYS:
                result.faults += _key_faults(f"{key}/{name}", name.encode(), main, mirror)
            continue
        output = directory / "out" / server / key
        result.faults += _faults(client, key, inputs / result.case, output, main, mirror)
    if any(result.faults and not result.directly_too for result in results):
        print(running.proxy.process.output_tail(), file=sys.stderr)
    return results


def _directly(running, chosen, failures, inputs, directory):
    """{client: {case: error or None}} without the proxy, for clients some case of which failed."""
    answers = {}
    for client in chosen:
        if any(
            error for (who, _), said in failures.items() if who == client for error in said.values()
        ):
            outputs = directory / client.name.replace(" ", "-")
            outputs.mkdir(parents=True, exist_ok=True)
            answers[client] = _call(
                running.main.endpoint,
                client,
                running.main.credentials,
                f"direct/{outputs.name}",
                inputs,
                outputs,
            )
    return answers


def _fresh_bucket(s3_client):
    for bucket in s3_client.list_buckets()["Buckets"]:
        if bucket["Name"] == BUCKET:
            for key in s3.every_key(s3_client, BUCKET):
                s3_client.delete_object(Bucket=BUCKET, Key=key)
            return
    s3_client.create_bucket(Bucket=BUCKET)


def _call(endpoint, client, keys, prefix, inputs, outputs):
    """Runs the client once for all cases; returns {case: error text or None}."""
    environment = {
        **base_environment(),
        "ENDPOINT": endpoint,
        "BUCKET": BUCKET,
        "PREFIX": prefix,
        "IN": str(inputs),
        "OUT": str(outputs),
        # No configuration of this machine's user may get in.
        "HOME": str(outputs),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    if keys:
        environment |= {"ACCESS_KEY": keys.access_key, "SECRET_KEY": keys.secret_key}
    try:
        ended = subprocess.run(
            client.command,
            env=environment,
            capture_output=True,
            timeout=CLIENT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(client.cases, f"not done after {CLIENT_SECONDS} s")
    except OSError as error:
        return dict.fromkeys(client.cases, f"cannot be started: {error}")
    said = {}
    for line in ended.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith("{"):
            answer = json.loads(line)
            said[answer["case"]] = answer["error"]
    if not said:
        tail = ended.stderr.decode("utf-8", "replace")[-400:]
        return dict.fromkeys(client.cases, f"ended with {ended.returncode}: {tail}")
    return said


def _key_faults(key, data, main, mirror):
    """What is wrong with one small object under an odd key."""
    ours, theirs = describe(main, BUCKET, key), describe(mirror, BUCKET, key)
    if ours is None or ours["sha256"] != hashlib.sha256(data).hexdigest():
        return [f"not on main, or other bytes: {key!r}"]
    return [] if ours == theirs else [f"not the same on the mirror: {key!r}"]


def _faults(client, key, source, output, main, mirror):
    """What is wrong with one uploaded object."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    faults = []
    if not output.is_file() or hashlib.sha256(output.read_bytes()).hexdigest() != digest:
        faults.append("what the client downloaded is not what it uploaded")
    ours, theirs = describe(main, BUCKET, key), describe(mirror, BUCKET, key)
    if ours is None:
        return [*faults, "not on main"]
    if ours["sha256"] != digest:
        faults.append("other bytes on main")
    if ours["ContentEncoding"]:
        faults.append(f"Content-Encoding {ours['ContentEncoding']!r} on main")
    # s3cmd adds the character set of what it reads from a stream.
    if client.content_type and not ours["ContentType"].startswith(job.CONTENT_TYPE):
        faults.append(f"Content-Type {ours['ContentType']!r} on main")
    if client.metadata and not job.METADATA.items() <= ours["Metadata"].items():
        faults.append(f"metadata {ours['Metadata']!r} on main")
    if theirs is None:
        return [*faults, "not on the mirror"]
    for field, value in ours.items():
        if theirs[field] != value:
            faults.append(f"{field}: main {value!r}, mirror {theirs[field]!r}")
    return faults

"""Clients that are command lines: aws, rclone, s3cmd, s3fs, curl. The first argument says which."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from job import CONTENT_TYPE, METADATA, Job

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import paths

COMMAND_SECONDS = 60
job = Job()
name = sys.argv[1]
((meta_name, meta_value),) = METADATA.items()


def call(arguments, source=None, target=None, environment=None):
    """Runs one command, its input or output a file; its words go into the error."""
    with (
        open(source or os.devnull, "rb") as stdin,
        open(target or os.devnull, "wb") as stdout,
    ):
        # Standard input is a pipe, not a file, so that nobody can look up its length.
        feeder = subprocess.Popen(["cat"], stdin=stdin, stdout=subprocess.PIPE)
        try:
            result = subprocess.run(
                arguments,
                stdin=feeder.stdout,
                stdout=stdout if target else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            said = (expired.stderr or b"").decode("utf-8", "replace")[-300:]
            raise RuntimeError(f"not done after {COMMAND_SECONDS} s {said}") from None
        finally:
            feeder.stdout.close()
            feeder.wait()
    if result.returncode:
        raise RuntimeError(result.stderr.decode("utf-8", "replace")[-500:])


def aws(case, program="aws"):
    environment = {
        "AWS_ACCESS_KEY_ID": job.access_key or "",
        "AWS_SECRET_ACCESS_KEY": job.secret_key or "",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [program, "--endpoint-url", job.endpoint]
    if job.anonymous:
        command.append("--no-sign-request")
    url = f"s3://{job.bucket}/{job.key(case)}"
    extra = ["--content-type", CONTENT_TYPE, "--metadata", f"{meta_name}={meta_value}"]
    if case == "stream":
        call([*command, "s3", "cp", "-", url, *extra], job.source(case), environment=environment)
    else:
        call([*command, "s3", "cp", job.source(case), url, *extra], environment=environment)
    call([*command, "s3", "cp", url, job.target(case)], environment=environment)


def aws2(case, program="/usr/bin/aws"):
    """Version 2 as the distribution has it; version 1 lies earlier in the PATH."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    if not said.stdout.startswith("aws-cli/2."):
        raise RuntimeError(f"not version 2: {said.stdout.strip()}")
    aws(case, program)


def aws2_new(case):
    """The version of today, whose transfers are those of the common runtime (CRT)."""
    aws2(case, str(paths.CACHE / "aws-cli" / "dist" / "aws"))


def rclone(case):
    options = ["provider=Other", f"endpoint={job.endpoint}", "region=us-east-1"]
    environment = {"RCLONE_CONFIG": "/dev/null"}
    for option in options:
        key, _, value = option.partition("=")
        environment[f"RCLONE_S3_{key.upper()}"] = value
    if not job.anonymous:
        environment["RCLONE_S3_ACCESS_KEY_ID"] = job.access_key
        environment["RCLONE_S3_SECRET_ACCESS_KEY"] = job.secret_key
    url = f":s3:{job.bucket}/{job.key(case)}"
    command = ["rclone", "--retries", "1", "--low-level-retries", "1"]
    command += ["--header-upload", f"Content-Type: {CONTENT_TYPE}"]
    if case == "20MiB":
        command += ["--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M"]
    if case == "stream":
        call([*command, "rcat", url], job.source(case), environment=environment)
    else:
        call([*command, "copyto", job.source(case), url], environment=environment)
    call([*command, "copyto", url, job.target(case)], environment=environment)


def s3cmd(case):
    host = urlsplit(job.endpoint).netloc
    command = ["s3cmd", "--config", "/dev/null", "--no-ssl", "--host", host, "--host-bucket", host]
    command += ["--access_key", job.access_key, "--secret_key", job.secret_key]
    url = f"s3://{job.bucket}/{job.key(case)}"
    extra = ["--mime-type", CONTENT_TYPE, "--add-header", f"x-amz-meta-{meta_name}:{meta_value}"]
    if case == "stream":
        call([*command, *extra, "put", "-", url], job.source(case))
    else:
        call([*command, *extra, "put", job.source(case), url])
    call([*command, "--force", "get", url, job.target(case)])


def s3fs(case):
    """A file system: the upload happens when the file is closed."""
    keys = os.path.join(os.environ["OUT"], "s3fs-keys")
    with open(keys, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(f"{job.access_key}:{job.secret_key}")
    with tempfile.TemporaryDirectory() as directory:

        def mounted(action):
            call(
                ["s3fs", job.bucket, directory, "-o", f"url={job.endpoint}"]
                + ["-o", f"use_path_request_style,passwd_file={keys}"]
            )
            try:
                action(os.path.join(directory, job.key(case)))
            finally:
                call(["fusermount", "-u", directory])

        def upload(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(job.source(case), path)

        mounted(upload)
        mounted(lambda path: shutil.copyfile(path, job.target(case)))


def curl(case):
    command = ["curl", "-sS", "--fail-with-body", "-m", str(COMMAND_SECONDS)]
    if not job.anonymous:
        command += [
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "-u",
            f"{job.access_key}:{job.secret_key}",
        ]
        command += ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    url = f"{job.endpoint}/{job.bucket}/{job.key(case)}"
    headers = [f"Content-Type: {CONTENT_TYPE}", f"x-amz-meta-{meta_name}: {meta_value}"]
    extra = [part for header in headers for part in ("-H", header)]
    call([*command, *extra, "-T", job.source(case), url])
    call([*command, "-o", job.target(case), url])


CLIENTS = {
    "aws": aws,
    "aws2": aws2,
    "aws2-new": aws2_new,
    "rclone": rclone,
    "s3cmd": s3cmd,
    "s3fs": s3fs,
    "curl": curl,
}
job.run(CLIENTS[name])

"""The backup of examples/pod-identity/demo, run: its jobs' own commands and variables, a real
PostgreSQL, rclone, and keys for main that come from a role."""

import contextlib
import os
import re
import subprocess
import time

import pytest
from deploylib import local, render
from deploylib.manifests import containers, environment, pods
from deploylib.render import REPOSITORY
from support.identity import Cloud, Issuer
from support.postgres import Cluster
from support.process import base_environment

DEMO = REPOSITORY / "examples/pod-identity/demo"
ROLE = ("ASIAROLE", "role-secret")
TOKEN = "of the service account"


@pytest.fixture
def server(tmp_path):
    """What `database` is in the demonstration."""
    cluster = Cluster(tmp_path / "database")
    cluster.user, cluster.password = "postgres", "demo"
    cluster.start()
    yield cluster
    cluster.close()


def job(documents, name):
    """Runs the containers of a job one after the other, as their pod does; the last one's output."""
    [owner] = [doc for doc in documents.docs if doc["kind"] == "Job" and doc["metadata"]["name"] == name]
    [pod] = pods([owner])
    output = ""
    for container in containers(pod):
        variables = environment(container, documents.docs)
        [script] = container["args"]
        done = subprocess.run(
            [*container["command"], script.replace("/dump/", f"{documents.directory}/")],
            env={**base_environment(), **variables, **documents.here},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{container['name']}: {output}"
    return output


class OneRole(Issuer):
    """Hands out the keys that the store knows."""

    def session(self):
        return *ROLE, "session-token", time.time() + 3600


class Documents:
    def __init__(self, directory, here):
        self.docs = render.plain(*sorted(DEMO.glob("*.yaml")))
        self.directory = directory
        directory.mkdir()
        #: What the cluster's DNS and the cloud would be.
        self.here = here


def test_a_backup_is_restored_from_the_mirror(machine, server, tmp_path):
    keys = {"MAIN": ROLE, "MIRROR": ("mirror-access", "mirror-secret")}
    for side, (access, secret) in keys.items():
        machine.start_store(f"{side.lower()}-s3", [
            "store", "--listen", "0.0.0.0:9000", "--data-dir", "/data",
            "--access-key", access, "--secret-key", secret,
        ])  # fmt: skip
    main = local.s3(machine.url("main-s3", 9000), *keys["MAIN"])
    main.create_bucket(Bucket="my-backups")

    proxy = render.kustomize("examples/pod-identity")
    [container] = [c for pod in pods(proxy) for c in containers(pod)]
    variables = environment(container, proxy)
    variables |= {f"{side}_S3_ENDPOINT": machine.url(f"{side.lower()}-s3", 9000) for side in keys}
    variables["MIRROR_ACCESS_KEY"], variables["MIRROR_SECRET_KEY"] = keys["MIRROR"]
    # What the Pod Identity agent puts into the pods of the service account.
    with contextlib.closing(Cloud(OneRole(3600), container_token=TOKEN)) as agent:
        token = tmp_path / "token"
        token.write_text(TOKEN)
        variables |= {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{agent.endpoint}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        machine.start_proxy("s3-proxy", container["args"], variables)

        # The initialisation script of the image, run by the image's own user.
        docs = Documents(tmp_path / "dump", {
            "PATH": f"{server.binaries}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "RCLONE_CONFIG": str(tmp_path / "no-such-file"),
            "RCLONE_CONFIG_PROXY_ENDPOINT": machine.url("s3-proxy", 8080),
            "RCLONE_CONFIG_MIRROR_ENDPOINT": machine.url("mirror-s3", 9000),
            "RCLONE_CONFIG_MIRROR_ACCESS_KEY_ID": keys["MIRROR"][0],
            "RCLONE_CONFIG_MIRROR_SECRET_ACCESS_KEY": keys["MIRROR"][1],
        })
        sql = tmp_path / "shop.sql"
        sql.write_text(render.one(docs.docs, "ConfigMap", "database-init")["data"]["shop.sql"])
        psql = ["psql", "--set=ON_ERROR_STOP=1", "--dbname=postgres", f"--file={sql}"]
        local.run(psql, {**docs.here, "PGUSER": "postgres", "PGPASSWORD": "demo"}, tmp_path)

        job(docs, "backup")
        job(docs, "copy")
        # The day main is gone.
        [store] = [process for process in machine.processes if process.name == "main-s3"]
        local.wait_drained(machine.url("s3-proxy", 9090))
        store.stop()
        restored = job(docs, "restore")
    assert "/container" in agent.asked
    figures = re.findall(r"(?:original|restored): (100000\|\w+)", restored)
    assert len(figures) == 2 and figures[0] == figures[1], restored
    mirror = local.s3(machine.url("mirror-s3", 9000), *keys["MIRROR"])
    heads = [mirror.head_object(Bucket="my-backups", Key=f"backup{n}/shop.dump") for n in (1, 2)]
    assert heads[0]["ContentLength"] == heads[1]["ContentLength"] > 100_000


"""The laboratory of one test: stores, cluster, and the proxies it starts; cleans up and checks."""

import itertools
import os
import random
from pathlib import Path

from . import compare, s3, secrets
from .inventory import PostgresInventory, SqliteInventory
from .proxy import Proxy, environment

_bucket_numbers = itertools.count(1)


class Lab:
    """Hands out buckets, databases and proxies; `close` ends what it started.

    At the end every proxy's whole output, and its journal, are searched for every secret it was
    given, and for signatures and keys of requests.
    """

    def __init__(self, main, mirror, cluster, directory):
        self.main = main
        self.mirror = mirror
        self.cluster = cluster
        self.directory = Path(directory)
        self.s3_main = s3.of_store(main)
        self.s3_mirror = s3.of_store(mirror)
        self._proxies = []
        self._closers = []

    def bucket(self, label="bucket"):
        """A bucket of its own on main; the mirror's is the proxy's business."""
        name = f"{label}-{next(_bucket_numbers):04d}"
        self.s3_main.create_bucket(Bucket=name)
        return name

    def postgres(self):
        return PostgresInventory(self.cluster, self.cluster.create_database())

    def proxy(self, inventory=None, name=None, data_dir_of=None, start=True, **options):
        """A proxy between this lab's stores; `inventory` is a dictionary of settings.

        `data_dir_of` is another proxy whose DATA_DIR it shall use.
        """
        name = name or f"proxy{len(self._proxies) + 1}"
        settings = environment(self.main, self.mirror, inventory=inventory, **options)
        proxy = Proxy(self.directory, self.directory / "logs", settings, name)
        if data_dir_of is not None:
            proxy.settings["DATA_DIR"] = proxy.process.environment["DATA_DIR"] = str(
                data_dir_of.data_dir
            )
            proxy.data_dir = data_dir_of.data_dir
        self._proxies.append(proxy)
        return proxy.start() if start else proxy

    def sqlite(self, proxy):
        return SqliteInventory(proxy.data_dir)

    def closing(self, thing):
        """`thing.close()` is called at the end; returns `thing`."""
        self._closers.append(thing)
        return thing

    def client(self, proxy, **options):
        return s3.client(proxy.endpoint, **options)

    def keys_on_mirror(self, bucket):
        """The mirror bucket's keys; none while the bucket itself is not there yet."""
        try:
            return set(s3.every_key(self.s3_mirror, bucket))
        except self.s3_mirror.exceptions.NoSuchBucket:
            return set()

    def assert_converged(self, proxy, *buckets, inventory=None, prefix="", timeout=30.0):
        """Waits for an empty backlog, then: mirror equals main, and inventory equals main."""
        proxy.wait_drained(timeout)
        for bucket in buckets:
            compare.fail_on(
                compare.mirror_differences(self.s3_main, self.s3_mirror, bucket, prefix + bucket),
                f"the mirror of {bucket} differs from main",
            )
            if inventory is not None:
                compare.fail_on(
                    compare.inventory_differences(self.s3_main, bucket, inventory.rows(bucket)),
                    f"the inventory of {bucket} differs from main",
                )

    def secrets(self):
        """What must never be seen in any output."""
        found = {
            "main's secret key": self.main.credentials.secret_key,
            "the mirror's secret key": self.mirror.credentials.secret_key,
            "the client's secret key": s3.DUMMY[1],
        }
        if self.cluster is not None:
            found["the database password"] = self.cluster.password
        return found

    def close(self):
        try:
            for proxy in self._proxies:
                if proxy.process.running:
                    code = proxy.stop()
                    assert code == 0, (
                        f"{proxy.process.name} ended with {code} on SIGTERM\n"
                        + proxy.process.output_tail()
                    )
            for proxy in self._proxies:
                output = proxy.process.stdout() + proxy.process.stderr()
                assert "panicked at" not in output, proxy.process.output_tail()
                secrets.fail_on_leaks(proxy, output, self.secrets())
        finally:
            for proxy in self._proxies:
                proxy.process.forget()
            for thing in reversed(self._closers):
                thing.close()


def seeded_random(label):
    """A generator whose seed is printed; E2E_SEED repeats a run."""
    seed = int(os.environ.get("E2E_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"{label}: repeat with E2E_SEED={seed}")
    return random.Random(seed)

"""One run: drivers, faults on both sides, SIGKILLs; then calm, and everything must be equal."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from support import compare
from support.poll import until

from driver import Driver, observe
from model import Key
from plan import Plan
from relay import Relay

#: The mirror's lost answers are looked at again after 30 s (docs/semantics.md, P4).
MIRROR_LATE_SECONDS = 30
#: Unknown outcomes on main are looked at again after 5 s, one minute and ten minutes (P3).
MAIN_RECHECK_SECONDS = (5, 60)
MIRROR_LATE_MAX = 20.0
MARGIN_SECONDS = 3
DRAIN_SECONDS = 120
NAMES = ("hot", "a b+c%", "ü/日本", "x//y", "dir/")


@dataclass
class Result:
    seed: int
    proxies: int
    seconds: float = 0.0
    operations: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    faults: dict = field(default_factory=dict)
    kills: int = 0
    keys: int = 0
    objects: int = 0
    lost: list = field(default_factory=list)

    def summary(self):
        faults = sum(counts.total() for counts in self.faults.values())
        return (
            f"seed {self.seed}: {self.proxies} proxy(s), {self.seconds:.0f} s, "
            f"{self.operations.total()} operations, {faults} faults, {self.kills} kills, "
            f"{self.keys} keys ({self.objects} objects left), lost: {len(self.lost)}"
        )

    def report(self):
        lines = [self.summary(), "answers: " + listed(self.answers)]
        lines.append("operations: " + listed(self.operations))
        lines += [f"faults at {side}: {listed(counts)}" for side, counts in self.faults.items()]
        return "\n".join(lines + self.lost)


def listed(counts):
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


class Killer(threading.Thread):
    """SIGKILL and restart at random moments, one proxy at a time."""

    def __init__(self, proxies, rng, stop):
        super().__init__(daemon=True)
        self.proxies, self.rng, self.stop = proxies, rng, stop
        self.kills = 0
        self.crash = None

    def run(self):
        try:
            while not self.stop.wait(self.rng.uniform(1.0, 6.0)):
                proxy = self.rng.choice(self.proxies)
                proxy.kill()
                self.kills += 1
                self.stop.wait(self.rng.choice((0, 0, 0.5, 1.5)))
                proxy.start()
        except Exception as error:  # noqa: BLE001 - raised again by the run
            self.crash = error


class Run:
    """`late_seconds`: how late an effect may come; what is beyond the promises is not asked."""

    def __init__(self, lab, seed, proxies=1, threads=4, late_seconds=3.0):
        self.lab, self.seed = lab, seed
        self.result = Result(seed, proxies)
        self.rng = random.Random(f"{seed}/run")
        self.late_seconds = late_seconds
        self.relays = []
        self.inventory = lab.postgres()
        self.buckets = [lab.bucket("faults"), lab.bucket("faults")]
        self.shared = [
            Key(self.buckets[n % 2], f"shared/{name}", shared=True) for n, name in enumerate(NAMES)
        ]
        self.own = [
            [Key(self.buckets[n % 2], f"w{thread}/{name}") for n, name in enumerate(NAMES)]
            for thread in range(threads)
        ]
        self.proxies = []
        for number in range(proxies):
            main, mirror = self.relay("main", number), self.relay("mirror", number)
            self.proxies.append(
                lab.proxy(
                    self.inventory.settings(),
                    main_endpoint=main.endpoint,
                    mirror_endpoint=mirror.endpoint,
                    # Small enough that some bodies are kept in memory, some in files, and some
                    # read back from main.
                    TEE_MEMORY_BYTES=self.rng.choice((0, 1 << 20, 64 << 20)),
                    TEE_SPOOL_BYTES=self.rng.choice((0, 4 << 20)),
                )
            )

    def relay(self, side, number):
        store = self.lab.main if side == "main" else self.lab.mirror
        # What lands later than the mirror is looked at again is beyond the promises.
        late = self.late_seconds if side == "main" else min(self.late_seconds, MIRROR_LATE_MAX)
        plan = Plan(self.seed, f"{side} of proxy {number + 1}", late)
        relay = self.lab.closing(Relay(store.address, plan))
        self.relays.append(relay)
        return relay

    def go(self, seconds):
        self.disturb(seconds)
        self.heal()
        self.judge()
        return self.result

    def disturb(self, seconds):
        print(f"fault run: seed {self.seed}, {len(self.proxies)} proxy(s), {seconds:.0f} s")
        self.began = time.monotonic()
        stop = threading.Event()
        endpoints = [proxy.endpoint for proxy in self.proxies]
        drivers = [
            Driver(endpoints, own, self.shared, random.Random(f"{self.seed}/driver {n}"), stop)
            for n, own in enumerate(self.own)
        ]
        killer = Killer(self.proxies, random.Random(f"{self.seed}/killer"), stop)
        workers = [*drivers, killer]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(worker.crash for worker in workers):
            time.sleep(0.1)
        stop.set()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive(), f"{worker} hangs"
            if worker.crash:
                raise worker.crash
        for driver in drivers:
            self.result.operations += driver.operations
            self.result.answers += driver.answers
        self.result.kills = killer.kills

        self.quieten()

    def quieten(self):
        """Faults off, late effects landed."""
        for relay in self.relays:
            relay.calm()
            self.result.faults[relay.plan.side] = relay.plan.counts
        until(lambda: all(relay.idle for relay in self.relays), "late effects to land", 60)
        self.quiet_since = time.monotonic()

    def heal(self):
        """Waits as long as the promises say that late effects may take to heal."""
        main = next(each for each in MAIN_RECHECK_SECONDS if each > self.late_seconds + 1)
        healing = max(MIRROR_LATE_SECONDS, main) + MARGIN_SECONDS
        time.sleep(max(0.0, self.quiet_since + healing - time.monotonic()))
        for proxy in self.proxies:
            self.wait_drained(proxy)

    @staticmethod
    def wait_drained(proxy):
        """A machine that is overloaded may answer late; that is not what this run is about."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            try:
                return proxy.wait_drained(max(1.0, deadline - time.monotonic()))
            except OSError:
                if time.monotonic() >= deadline:
                    raise

    def judge(self):
        lab, lost = self.lab, self.result.lost
        keys = [key for own in self.own for key in own]
        self.result.keys = len(keys) + len(self.shared)
        for key in keys:
            fault = key.fault(observe(lab.s3_main, key))
            lost += [fault] if fault else []
        for bucket in self.buckets:
            self.result.objects += len(compare.every_key(lab.s3_main, bucket))
            differences = compare.mirror_differences(lab.s3_main, lab.s3_mirror, bucket)
            lost += [f"{bucket}: mirror: {line}" for line in differences]
            rows = self.inventory.rows(bucket)
            differences = compare.inventory_differences(lab.s3_main, bucket, rows)
            lost += [f"{bucket}: inventory: {line}" for line in differences]
        self.result.seconds = time.monotonic() - self.began
        print(self.result.report())

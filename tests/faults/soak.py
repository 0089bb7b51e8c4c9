"""The long run: episodes of random operations, faults and SIGKILLs until the time is over.

Episodes take turns: one proxy, two proxies, and both again with effects up to 40 seconds late at
main and 20 at the mirror. Every episode ends calm and compares everything. Exit code 1 if anything
was lost.
"""

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import conftest  # noqa: F401 - puts the harness on the path

from support import process
from support.lab import Lab
from support.postgres import Cluster
from support.stores import Store

from run import Run, listed

#: (proxies, how late effects may be in seconds)
KINDS = ((1, 3.0), (2, 3.0), (1, 40.0), (2, 40.0))


class SoakLab(Lab):
    def abandon(self):
        """After a failure: ends what was started, and leaves the judging to the failure."""
        for proxy in self._proxies:
            proxy.process.forget()
        for thing in reversed(self._closers):
            with contextlib.suppress(TimeoutError):
                thing.close()


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="repeat the fault plans of an earlier run")
    parser.add_argument("--episode", type=float, default=90.0, help="seconds of faults in each")
    return parser.parse_args()


def episode(lab_parts, directory, seed, kind, seconds):
    proxies, late_seconds = kind
    lab = SoakLab(*lab_parts, directory)
    try:
        result = Run(lab, seed, proxies, late_seconds=late_seconds).go(seconds)
    except BaseException:
        lab.abandon()
        raise
    lab.close()
    return result


def main():
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"soak: {process.binary()}, {options.minutes:g} minutes, --seed {seed}", flush=True)
    results, started = [], time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="s3-mirror-soak-"))
    print(f"logs and data, kept if anything is lost: {directory}", flush=True)
    logs = directory / "logs"
    parts = []
    cluster = Cluster(logs)
    try:
        parts = [Store(side, directory, logs).start() for side in ("main", "mirror")]
        cluster.start()
        while time.monotonic() - started < options.minutes * 60:
            number = len(results)
            results.append(
                episode(
                    (*parts, cluster),
                    directory / f"episode{number}",
                    seed + number,
                    KINDS[number % len(KINDS)],
                    options.episode,
                )
            )
            sys.stdout.flush()
    finally:
        cluster.close()
        for store in parts:
            store.stop()
    lost = conclude(results, (time.monotonic() - started) / 60)
    if not lost:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if lost else 0


def conclude(results, minutes):
    operations, answers, faults = Counter(), Counter(), Counter()
    for result in results:
        operations += result.operations
        answers += result.answers
        for counts in result.faults.values():
            faults += counts
    lost = sum(len(result.lost) for result in results)
    print(f"\n{minutes:.0f} minutes, {len(results)} episodes")
    print("| | |\n|---|---|")
    uncertain = answers["no answer"] + answers["5xx or error in a 200"]
    for name, value in (
        ("operations", operations.total()),
        ("requests answered as done", answers["done"]),
        ("requests without a certain outcome", uncertain),
        ("faults", faults.total()),
        ("SIGKILLs", sum(result.kills for result in results)),
        ("keys compared", sum(result.keys for result in results)),
        ("lost or different", lost),
    ):
        print(f"| {name} | {value:,} |".replace(",", " "))
    print("\nfaults: " + listed(faults))
    print("operations: " + listed(operations))
    return lost


if __name__ == "__main__":
    sys.exit(main())

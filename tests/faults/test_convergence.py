"""P2-P8: random operations under random faults and SIGKILLs; when all is calm, all is equal.

`scripts/soak` is the same for as long as one likes. FAULT_SEED repeats a plan, FAULT_SECONDS sets
the length of the disturbed part. What is lost is judged alike by both.
"""

import os
import random

import pytest

from run import Run


def seed():
    return int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 32))


def seconds():
    return float(os.environ.get("FAULT_SECONDS") or 20)


@pytest.fixture(scope="module")
def runs(module_lab):
    """One proxy, then two on the same buckets; both heal at the same time."""
    made = {proxies: Run(module_lab, seed(), proxies) for proxies in (1, 2)}
    for run in made.values():
        run.disturb(seconds())
    return made


@pytest.mark.parametrize("proxies", [1, 2], ids=["one-proxy", "two-proxies"])
def test_after_any_faults_and_kills_mirror_and_inventory_equal_main(runs, proxies):
    run = runs[proxies]
    run.heal()
    run.judge()
    result = run.result
    assert not result.lost, result.report()
    # Otherwise the run has proved nothing.
    assert result.kills >= 2, result.report()
    assert sum(counts.total() for counts in result.faults.values()) >= 50, result.report()
    assert result.answers["done"] >= 100, result.report()

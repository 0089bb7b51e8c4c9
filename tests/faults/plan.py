"""What goes wrong, and when: a pure function of the seed, the side and the request's number.

Requests of one side are numbered as they come. Every twenty of them share a *weather*, which
decides how often and with what they are met. So a seed gives the same plan again; which request
is the n-th depends on the timing of the run, which no seed can hold.
"""

import random
from collections import Counter
from dataclasses import dataclass

BLOCK = 20

#: Faults of single requests, with their shares.
KINDS = {
    # Without effect at the store.
    "reset before the request body": 8,
    "reset within the request body": 6,
    "reset after the request body": 8,
    "500 InternalError": 8,
    "503 SlowDown": 8,
    "hang, then reset": 3,
    # With effect.
    "slow drip": 8,
    "reset after the response head": 6,
    "truncated response body": 8,
    "response lost after the effect": 12,
    "500 after the effect": 6,
    # With an effect that comes later than the failure.
    "reset, effect lands late": 10,
    "504, effect lands late": 6,
}
#: Only for requests whose answer can be a 200 that holds an error.
KINDS_OF_DOCUMENTS = {
    "200 with an error, no effect": 1,
    "200 with an error after the effect": 1,
}
WITHOUT_REQUEST = "connections refused"
WEATHERS = {"fair": 58, "storm": 24, "slowdown burst": 7, "error burst": 6, "refusing": 5}
#: Clients feel main's faults, and what fails at once is soon asked again.
WEATHERS_OF_MAIN = {"fair": 80, "storm": 14, "slowdown burst": 2, "error burst": 2, "refusing": 2}


@dataclass(frozen=True)
class Fault:
    kind: str
    seconds: float = 0.0

    def __str__(self):
        return f"{self.kind} ({self.seconds:.1f} s)" if self.seconds else self.kind


class Plan:
    """`choose` says what happens to the next request; nothing once `calm` was called."""

    def __init__(self, seed, side, late_seconds=3.0):
        self.seed = seed
        self.side = side
        self.late_seconds = late_seconds
        self.number = 0
        self.calmed = False
        self.counts = Counter()

    def calm(self):
        self.calmed = True

    def choose(self, request):
        number = self.number
        self.number += 1
        if self.calmed:
            return None
        fault = self.at(number, request)
        if fault is not None:
            self.counts[fault.kind] += 1
        return fault

    def weather(self, number):
        rng = random.Random(f"{self.seed}/{self.side}/weather/{number // BLOCK}")
        weathers = WEATHERS_OF_MAIN if self.side.startswith("main") else WEATHERS
        return rng.choices(*zip(*weathers.items(), strict=True))[0], rng

    def at(self, number, request):
        """The fault that request `number` meets, if any."""
        weather, block = self.weather(number)
        rng = random.Random(f"{self.seed}/{self.side}/{number}")
        if weather == "slowdown burst":
            return Fault("503 SlowDown")
        if weather == "error burst":
            return Fault("500 InternalError")
        if weather == "refusing":
            first = number % BLOCK == 0
            return Fault(WITHOUT_REQUEST, block.uniform(0.1, 2.0)) if first else None
        if request.judged_by_body and rng.random() < 0.25:
            return Fault(rng.choice(list(KINDS_OF_DOCUMENTS)))
        if rng.random() >= (0.04 if weather == "fair" else 0.45):
            return None
        kind = rng.choices(*zip(*KINDS.items(), strict=True))[0]
        if kind.endswith("lands late"):
            if not request.mutates:
                return Fault("response lost after the effect")
            return Fault(kind, rng.uniform(0.2, self.late_seconds))
        if kind == "hang, then reset":
            return Fault(kind, rng.uniform(0.5, 4.0))
        if kind == "slow drip":
            return Fault(kind, rng.uniform(0.2, 2.0))
        return Fault(kind)


class Script:
    """A plan for pointed tests: `rule(request)` returns a Fault, bytes to answer, or None."""

    def __init__(self, rule=lambda request: None):
        self.rule = rule
        self.counts = Counter()

    def calm(self):
        self.rule = lambda request: None

    def choose(self, request):
        return self.rule(request)

"""The stage of a pointed test: one proxy, and a scripted relay before each of its stores."""

from plan import Script
from relay import Relay


class Scene:
    """A proxy with a relay before each store; rules are set by the test."""

    def __init__(self, lab, **options):
        self.lab = lab
        self.main = lab.closing(Relay(lab.main.address, Script()))
        self.mirror = lab.closing(Relay(lab.mirror.address, Script()))
        self.inventory = lab.postgres()
        self.proxy = lab.proxy(
            self.inventory.settings(),
            main_endpoint=self.main.endpoint,
            mirror_endpoint=self.mirror.endpoint,
            **options,
        )
        self.bucket = lab.bucket("mode")
        self.client = lab.client(self.proxy)

    def put(self, key, body=b"x", **options):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **options)

    def is_backed_up(self, key):
        return any(
            row["is_backed_up"] for row in self.inventory.rows(self.bucket) if row["path"] == key
        )

    def writes_to_mirror(self, key):
        return [
            (method, target)
            for method, target in list(self.mirror.requests)
            if method in ("PUT", "POST", "DELETE") and target.partition("?")[0].endswith("/" + key)
        ]

    def assert_converged(self, timeout=60):
        self.main.calm()
        self.mirror.calm()
        self.lab.assert_converged(
            self.proxy, self.bucket, inventory=self.inventory, timeout=timeout
        )


def on(key, fault, method=None, times=None):
    """A rule: the first `times` requests about `key` meet `fault`."""
    met = []

    def rule(request):
        if not request.path.endswith("/" + key) or method not in (None, request.method):
            return None
        if times is not None and len(met) >= times:
            return None
        met.append(request)
        return fault(request) if callable(fault) else fault

    rule.met = met
    return rule

"""Runs every family on both sides and compares the answers."""

import secrets
from dataclasses import dataclass

from . import reasons
from .cases import access, attributes, buckets, copies, objects, transport
from .mask import Mask
from .side import Side

FAMILIES = [
    *objects.FAMILIES,
    *copies.FAMILIES,
    *attributes.FAMILIES,
    *buckets.FAMILIES,
    *access.FAMILIES,
    *transport.FAMILIES,
]


@dataclass
class Verdict:
    """One request, compared."""

    family: str
    title: str
    method: str
    #: {aspect: (direct, through the proxy)}, empty if the answers are equal.
    differences: dict
    #: Why they may differ; None: they must not.
    reason: str | None

    @property
    def passed(self):
        return not self.differences or self.reason is not None


def service(side):
    """The list of buckets, once both sides have made all of theirs."""
    side.send("list of buckets", "GET", "/")
    side.send("HEAD of the service", "HEAD", "/")


def run(lab):
    """Compares all families. Returns (verdicts, buckets that were written through the proxy)."""
    token = secrets.token_hex(3)
    direct = Side("a", lab.main.address, lab.main.credentials, token)
    # Any key pair will do at a proxy that does not verify; it must not be main's.
    proxied = Side("b", lab.proxy.address, lab.mirror.credentials, token)
    sides = (direct, proxied)
    for name, cases in [*FAMILIES, ("service", service)]:
        for side in sides:
            side.family = name
            cases(side)
    verdicts = []
    masks = [Mask(side) for side in sides]
    for pair in zip(direct.exchanges, proxied.exchanges, strict=True):
        verdicts.append(_compare(*pair, masks))
    return verdicts, [proxied.bucket_named(name) for name, _ in FAMILIES]


def _compare(direct, proxied, masks):
    assert (direct.family, direct.title) == (proxied.family, proxied.title)
    left, right = masks[0](direct), masks[1](proxied)
    differences = {
        aspect: (left.get(aspect, "absent"), right.get(aspect, "absent"))
        for aspect in sorted({*left, *right}, key=lambda aspect: (aspect != "status", aspect))
        if left.get(aspect) != right.get(aspect)
    }
    reason = reasons.of(direct, differences)
    return Verdict(direct.family, direct.title, direct.method, differences, reason)

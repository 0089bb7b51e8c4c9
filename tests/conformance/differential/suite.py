"""Runs every family on both sides and compares the answers."""

import re
import secrets
from dataclasses import dataclass

from support.stores import Credentials

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

#: The client that the proxy knows in verified mode; in open mode any key pair would do, only it
#: must not be one that main knows.
CLIENT = Credentials("CONFORMANCECLIENT001", "conformance-client-secret-on-loopback-0001")

_CODE = re.compile(r"<Code>([^<]*)</Code>")
#: What an error answered by the proxy itself may say in other words.
_WORDING = {
    "body",
    "header accept-ranges",
    "header content-type",
    "header content-length",
    # What a server puts on every answer of its own.
    "header server",
    "header strict-transport-security",
    "header vary",
    "header x-content-type-options",
    "header x-xss-protection",
}


@dataclass
class Verdict:
    """One request, compared."""

    mode: str
    family: str
    title: str
    method: str
    #: {aspect: (direct, through the proxy)}, empty if the answers are equal.
    differences: dict
    #: The name of the reason why they differ; None: there is none.
    reason: str | None
    #: Same status and S3 code, other words: an error that the proxy answers itself.
    worded: bool

    @property
    def passed(self):
        return not self.differences or self.worded or self.reason is not None


def service(side):
    """The list of buckets, once both sides have made all of theirs."""
    side.send("list of buckets", "GET", "/")
    side.send("HEAD of the service", "HEAD", "/")


def run(lab, mode, server="rgw"):
    """Compares all families. Returns (verdicts, buckets that were written through the proxy)."""
    token = secrets.token_hex(3)
    direct = Side("a", lab.main.address, lab.main.credentials, token)
    proxied = Side("b", lab.proxy.address, CLIENT, token)
    for name, cases in [*FAMILIES, ("service", service)]:
        for side in (direct, proxied):
            side.family = name
            cases(side)
    masks = [Mask(side, server != "garage") for side in (direct, proxied)]
    verdicts = [
        _compare(server, mode, *pair, masks)
        for pair in zip(direct.exchanges, proxied.exchanges, strict=True)
    ]
    return verdicts, [proxied.bucket_named(name) for name, _ in FAMILIES]


def _compare(server, mode, direct, proxied, masks):
    assert (direct.family, direct.title) == (proxied.family, proxied.title)
    left, right = masks[0](direct), masks[1](proxied)
    differences = {
        aspect: (left.get(aspect, "absent"), right.get(aspect, "absent"))
        for aspect in sorted({*left, *right}, key=lambda aspect: (aspect != "status", aspect))
        if left.get(aspect) != right.get(aspect)
    }
    codes = [_CODE.search(side.get("body", "")) for side in (left, right)]
    worded = (
        bool(differences)
        and differences.keys() <= _WORDING
        and all(codes)
        and codes[0][1] == codes[1][1]
    )
    reason = None
    if differences and not worded:
        reason = reasons.allowed(direct.differs, mode, differences)
        if reason is None:
            reason = reasons.of_server(server, direct.family, direct.title, differences)
    return Verdict(mode, direct.family, direct.title, direct.method, differences, reason, worded)


def unused_reasons(verdicts):
    """Reasons that explained nothing: the documentation must not keep them."""
    used = {verdict.reason for verdict in verdicts}
    return [
        name
        for name, reason in reasons.REASONS.items()
        if name not in used and not reason.sometimes
    ]

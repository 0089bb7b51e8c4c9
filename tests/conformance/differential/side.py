"""One side of the comparison: the server itself, or the same server behind the proxy.

A family of cases is a function of one side. It is run once per side, in a bucket of the side's own,
and every request it sends is recorded; the two records are compared request by request.
"""

import hashlib
from dataclasses import dataclass, field

from support import raw, sigv4

HEX = "hex"
ANONYMOUS = "anonymous"


@dataclass
class Exchange:
    """One request and what was answered."""

    family: str
    title: str
    method: str
    target: str
    response: raw.Response | None
    #: Names of reasons why the two sides may differ here.
    differs: tuple
    #: What happened instead of a response.
    failure: str | None = None


@dataclass
class Side:
    """Sends requests to one address, signed with one key pair."""

    name: str  # one letter, so that bucket names are equally long on both sides
    address: tuple
    credentials: object
    token: str
    exchanges: list = field(default_factory=list)
    family: str = ""

    @property
    def bucket(self):
        return self.bucket_named(self.family)

    def bucket_named(self, label):
        return f"cmp-{self.name}-{self.token}-{label}"

    @property
    def host(self):
        return f"{self.address[0]}:{self.address[1]}"

    def path(self, key=""):
        """Path of a key of this family's bucket; `key` is written as it is to appear."""
        return f"/{self.bucket}/{key}" if key else f"/{self.bucket}"

    def signer(self):
        return sigv4.Signer(self.credentials.access_key, self.credentials.secret_key)

    def send(
        self,
        title,
        method,
        target,
        headers=(),
        body=b"",
        *,
        payload=HEX,
        unsigned_headers=(),
        host=None,
        length=True,
        differs=None,
        signer=None,
    ):
        """Sends one request and records it. Returns the response (status 0 if there was none).

        `differs` names the reasons (see reasons.py) for which the answers may differ, separated by
        commas. `payload` is HEX, ANONYMOUS, any value of x-amz-content-sha256, or a function that
        gets the signer after it has signed and returns the body (signed chunks); then the value is
        its attribute `payload`.
        """
        host = host or self.host
        frame = callable(payload)
        value = payload.payload if frame else payload
        if value == HEX:
            value = hashlib.sha256(body).hexdigest()
        known = [("Host", host), *headers]
        signer = signer or self.signer()
        if payload == ANONYMOUS:
            sent = known
            differs = f"{differs or ''},refused"
        else:
            sent = signer.headers(method, target.rstrip("&"), known, value)
        if frame:
            body = payload(signer)
        sent = [*sent, *unsigned_headers]
        if length and (body or method in ("PUT", "POST")):
            sent.append(("Content-Length", str(len(body))))
        return self.send_raw(title, method, target, sent, body, differs=differs)

    def send_raw(self, title, method, target, headers, body=b"", *, differs=None):
        """Sends exactly this and records it."""
        try:
            response, failure = raw.exchange(self.address, method, target, headers, body), None
        except (raw.ConnectionEnded, OSError) as error:
            response, failure = None, type(error).__name__
        self.exchanges.append(
            Exchange(
                self.family,
                title,
                method,
                target,
                response,
                tuple(name.strip() for name in (differs or "").split(",") if name.strip()),
                failure,
            )
        )
        return response or raw.Response(0, "", [], b"")

    # Short words for what most cases are made of.

    def get(self, title, key, headers=(), query="", **options):
        return self.send(title, "GET", self.path(key) + query, headers, **options)

    def head(self, title, key, headers=(), query="", **options):
        return self.send(title, "HEAD", self.path(key) + query, headers, **options)

    def put(self, title, key, body=b"", headers=(), query="", **options):
        return self.send(title, "PUT", self.path(key) + query, headers, body, **options)

    def delete(self, title, key, headers=(), query="", **options):
        return self.send(title, "DELETE", self.path(key) + query, headers, **options)

    def post(self, title, key, body=b"", headers=(), query="", **options):
        return self.send(title, "POST", self.path(key) + query, headers, body, **options)

    def make_bucket(self, headers=()):
        """Makes this family's bucket."""
        return self.put("the family's bucket", "", headers=headers)


def element(response, name):
    """Text of the first element of that name in a response's body, empty if there is none."""
    text = response.body.decode("utf-8", "replace")
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]

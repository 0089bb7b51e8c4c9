"""AWS Signature Version 4 for S3, made by hand: headers, and the chunks of aws-chunked bodies.

Written from the published algorithm, so that what the tests send does not come out of the code
that is under test, nor out of a client library's idea of a tidy request.
"""

import base64
import hashlib
import hmac
import zlib
from datetime import datetime, timezone
from urllib.parse import quote, unquote_to_bytes

from .stores import REGION

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signer:
    """Signs requests for one key pair at one moment (the moment of construction)."""

    def __init__(self, access_key, secret_key, now=None):
        moment = now or datetime.now(timezone.utc)
        self.access_key = access_key
        self.timestamp = moment.strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.timestamp[:8]}/{REGION}/s3/aws4_request"
        key = _hmac(b"AWS4" + secret_key.encode(), self.timestamp[:8])
        for part in (REGION, "s3", "aws4_request"):
            key = _hmac(key, part)
        self.key = key

    def _sign(self, text):
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()

    def headers(self, method, target, headers, payload_hash):
        """`headers` plus x-amz-date, x-amz-content-sha256 and Authorization.

        All given headers are signed. The canonical path is the target's path decoded once and
        encoded again, which is what S3 does.
        """
        headers = [
            *headers,
            ("x-amz-date", self.timestamp),
            ("x-amz-content-sha256", payload_hash),
        ]
        canonical = {}
        for name, value in headers:
            canonical.setdefault(name.lower(), []).append(" ".join(value.split()))
        names = ";".join(sorted(canonical))
        lines = "".join(f"{name}:{','.join(canonical[name])}\n" for name in sorted(canonical))
        path, _, query = target.partition("?")
        request = "\n".join(
            [
                method,
                quote(unquote_to_bytes(path), safe="/-_.~"),
                canonical_query(query),
                lines,
                names,
                payload_hash,
            ]
        )
        digest = hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()
        self.seed = self._sign(f"AWS4-HMAC-SHA256\n{self.timestamp}\n{self.scope}\n{digest}")
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope}, "
            f"SignedHeaders={names}, Signature={self.seed}"
        )
        return [*headers, ("Authorization", authorization)]

    def chunk_signature(self, previous, data):
        return self._sign(
            f"AWS4-HMAC-SHA256-PAYLOAD\n{self.timestamp}\n{self.scope}\n{previous}\n"
            f"{EMPTY_SHA256}\n{hashlib.sha256(data).hexdigest()}"
        )

    def trailer_signature(self, previous, trailer):
        digest = hashlib.sha256(trailer.encode()).hexdigest()
        return self._sign(
            f"AWS4-HMAC-SHA256-TRAILER\n{self.timestamp}\n{self.scope}\n{previous}\n{digest}"
        )


def canonical_query(query):
    pairs = []
    for piece in query.split("&") if query else []:
        name, _, value = piece.partition("=")
        decoded = (unquote_to_bytes(part.replace("+", "%20")) for part in (name, value))
        pairs.append(tuple(quote(part, safe="-_.~") for part in decoded))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def crc32(data):
    """As the x-amz-checksum-crc32 header writes it."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def split(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def signed_chunks(signer, data, size, trailer=None):
    """The aws-chunked body of a signed streaming upload; `trailer` is (name, value) or None.

    To be called after `signer.headers(...)`, whose signature seeds the chain.
    """
    body, previous = b"", signer.seed
    for piece in [*split(data, size), b""]:
        previous = signer.chunk_signature(previous, piece)
        body += f"{len(piece):x};chunk-signature={previous}\r\n".encode()
        if piece:
            body += piece + b"\r\n"
    if trailer is None:
        return body + b"\r\n"
    line = f"{trailer[0]}:{trailer[1]}\n"
    signature = signer.trailer_signature(previous, line)
    return body + (
        f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()
    )


def unsigned_chunks(data, size, trailer=None):
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in split(data, size))
    body += b"0\r\n"
    if trailer is not None:
        body += f"{trailer[0]}:{trailer[1]}\r\n".encode()
    return body + b"\r\n"

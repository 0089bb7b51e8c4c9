"""Signatures that are not headers: presigned URLs of both versions, and POST policies."""

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from support import sigv4


def presigned(side, method, target, *, age=timedelta(), expires=300, extra=(), host=None):
    """`target` with a SigV4 signature in its query, made `age` ago."""
    moment = datetime.now(timezone.utc) - age
    signer = sigv4.Signer(side.credentials.access_key, side.credentials.secret_key, moment)
    path, _, query = target.partition("?")
    pairs = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{signer.access_key}/{signer.scope}"),
        ("X-Amz-Date", signer.timestamp),
        ("X-Amz-Expires", str(expires)),
        ("X-Amz-SignedHeaders", "host"),
        *extra,
    ]
    query += ("&" if query else "") + "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in pairs)
    request = "\n".join(
        [
            method,
            path,
            sigv4.canonical_query(query),
            f"host:{host or side.host}\n",
            "host",
            sigv4.UNSIGNED,
        ]
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{signer.timestamp}\n{signer.scope}\n{digest}"
    signature = hmac.new(signer.key, text.encode(), hashlib.sha256).hexdigest()
    return f"{path}?{query}&X-Amz-Signature={signature}"


def _v2(side, text):
    key = side.credentials.secret_key.encode()
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha1).digest()).decode()


def presigned_v2(side, method, path, expires=4102444800):
    """`path` with a SigV2 signature in its query."""
    signature = _v2(side, f"{method}\n\n\n{expires}\n{path}")
    key = quote(side.credentials.access_key, safe="")
    return f"{path}?AWSAccessKeyId={key}&Signature={quote(signature, safe='')}&Expires={expires}"


def headers_v2(side, method, path):
    """Host, Date and Authorization of a SigV2 request without any x-amz header."""
    date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    signature = _v2(side, f"{method}\n\n\n{date}\n{path}")
    return [
        ("Host", side.host),
        ("Date", date),
        ("Authorization", f"AWS {side.credentials.access_key}:{signature}"),
    ]


def form(side, bucket, key, data):
    """(content type, body) of a browser's form upload with a SigV4 policy."""
    signer = side.signer()
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "key": key,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{signer.access_key}/{signer.scope}",
        "x-amz-date": signer.timestamp,
    }
    conditions = [{"bucket": bucket}, *({name: value} for name, value in fields.items())]
    policy = json.dumps({"expiration": later, "conditions": conditions}).encode()
    fields["policy"] = base64.b64encode(policy).decode()
    fields["x-amz-signature"] = hmac.new(
        signer.key, fields["policy"].encode(), hashlib.sha256
    ).hexdigest()
    boundary = "----------------conformance"
    body = b""
    for name, value in fields.items():
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        ).encode()
    body += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    ).encode()
    body += data + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body

"""Stand-ins for where cloud credentials come from, and a store that checks what they gave.

`Issuer` invents sessions that end after a few seconds. `Cloud` hands them out the way STS, the
container endpoint of EKS Pod Identity and ECS, and IMDSv2 do. `CheckingStore` is an S3 in memory
that takes only what is signed with a session that has not ended, its token included.
"""

import hashlib
import json
import secrets
import threading
import time
from datetime import datetime, timezone
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from .sigv4 import Signer


class Issuer:
    """Sessions by access key ID: (secret, token, end)."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.sessions = {}

    def session(self):
        key = "ASIA" + secrets.token_hex(8).upper()
        self.sessions[key] = (
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(60),
            time.time() + self.seconds,
        )
        return key, *self.sessions[key]

    def as_json(self):
        key, secret, token, end = self.session()
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "Token": token,
                "Expiration": _iso(end),
                "LastUpdated": _iso(time.time()),
            }
        )

    def as_xml(self, action):
        key, secret, token, end = self.session()
        return (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
            "<AssumedRoleUser><AssumedRoleId>AROA:test</AssumedRoleId>"
            "<Arn>arn:aws:sts::123456789012:assumed-role/r/test</Arn></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken><Expiration>{_iso(end)}</Expiration></Credentials>"
            f"</{action}Result></{action}Response>"
        )


def _iso(moment):
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Server:
    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.host, self.port = self.server.server_address
        self.endpoint = f"http://{self.host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, body=b"", **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Cloud(_Server):
    """STS at `/`, the container endpoint at `/container`, IMDSv2 at `/latest`.

    `asked` gathers what was asked; a request without what it must carry is refused. `sick` makes
    every answer a 500.
    """

    def __init__(self, issuer, web_token="", container_token="", external_id=None, base_key=None):
        owner = self
        self.asked = []
        self.sick = False
        imds_tokens = set()

        class Handler(_Handler):
            def do_PUT(self):
                self.body()
                if self.path != "/latest/api/token" or owner.sick:
                    return self.answer(500 if owner.sick else 404)
                token = secrets.token_hex(8)
                imds_tokens.add(token)
                return self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds="21600")

            def do_GET(self):
                owner.asked.append(self.path)
                if owner.sick:
                    return self.answer(500)
                if self.path == "/container":
                    if self.headers.get("Authorization") != container_token:
                        return self.answer(401)
                    return self.answer(200, issuer.as_json(), Content_Type="application/json")
                if self.headers.get("x-aws-ec2-metadata-token") not in imds_tokens:
                    return self.answer(401)
                role = "/latest/meta-data/iam/security-credentials"
                if self.path.rstrip("/") == role:
                    return self.answer(200, "the-role")
                if self.path == role + "/the-role":
                    return self.answer(200, issuer.as_json(), Content_Type="application/json")
                return self.answer(404)

            def do_POST(self):
                form = {name: values[0] for name, values in parse_qs(self.body().decode()).items()}
                action = form["Action"]
                owner.asked.append(action)
                if owner.sick:
                    return self.answer(500)
                if action == "AssumeRoleWithWebIdentity":
                    good = form.get("WebIdentityToken") == web_token
                else:
                    signed_by = self.headers.get("Authorization", "")
                    good = form.get("ExternalId") == external_id and (
                        base_key is None or f"Credential={base_key}/" in signed_by
                    )
                good = good and form.get("RoleArn", "").startswith("arn:aws:iam::")
                if not good:
                    return self.answer(403, "<ErrorResponse><Error><Code>AccessDenied</Code>"
                                            "</Error></ErrorResponse>")
                return self.answer(200, issuer.as_xml(action), Content_Type="text/xml")

        super().__init__(Handler)


class CheckingStore(_Server):
    """An S3 in memory for PUT, GET, HEAD and DELETE of objects; every bucket exists.

    `keys` finds (secret, token or None, end) by access key ID. `used` lists the keys in order of
    their first use, `refused` why requests were refused.
    `is_secret`: objects are under a key that only their client has, so that nothing is told of them.
    """

    def __init__(self, keys):
        owner = self
        self.keys, self.objects = keys, {}
        self.used, self.refused = [], []
        self.is_secret = False

        class Handler(_Handler):
            def handle_any(self):
                body = self.body()
                fault = owner.fault(self)
                if fault:
                    owner.refused.append(fault)
                    return self.answer(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")
                path = unquote(self.path.partition("?")[0])
                if self.command in ("HEAD", "GET") and owner.is_secret:
                    return self.answer(400, "<Error><Code>InvalidRequest</Code></Error>")
                if self.command == "PUT":
                    owner.objects[path] = (body, self.headers.get("Content-Type"))
                    return self.answer(200, ETag=_etag(body), Date=formatdate(usegmt=True))
                if self.command == "DELETE":
                    owner.objects.pop(path, None)
                    return self.answer(204)
                if path.count("/") == 1:
                    return self.answer(200)
                if path not in owner.objects:
                    return self.answer(404, "<Error><Code>NoSuchKey</Code></Error>")
                body, kind = owner.objects[path]
                return self.answer(
                    200,
                    body,
                    ETag=_etag(body),
                    Content_Type=kind or "binary/octet-stream",
                    Content_Length=str(len(body)),
                    Last_Modified="Sat, 21 Nov 2026 06:41:17 GMT",
                )

            do_GET = do_PUT = do_HEAD = do_DELETE = handle_any

        super().__init__(Handler)

    def fault(self, request):
        """Why the signature is no good; None if it is."""
        words = request.headers.get("Authorization", "").replace(",", "").split()
        fields = dict(word.split("=", 1) for word in words[1:])
        key = fields.get("Credential", "").split("/")[0]
        if key not in self.keys:
            return f"unknown key {key}"
        secret, token, end = self.keys[key]
        if end is not None and time.time() >= end:
            return f"{key} ended {time.time() - end:.2f} seconds ago"
        if request.headers.get("x-amz-security-token") != token:
            return f"{key} came without its token"
        names = fields["SignedHeaders"].split(";")
        if token is not None and "x-amz-security-token" not in names:
            return "the token is not signed"
        skip = ("x-amz-date", "x-amz-content-sha256")
        headers = [(name, request.headers[name]) for name in names if name not in skip]
        moment = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        signer = Signer(key, secret, moment)
        signed = signer.headers(
            request.command, request.path, headers, request.headers["x-amz-content-sha256"]
        )
        if not signed[-1][1].endswith(fields["Signature"]):
            return f"the signature of {key} is wrong"
        if key not in self.used:
            self.used.append(key)
        return None


def _etag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'

"""Doing the same thing twice, directly against main and through the proxy, and comparing.

A scenario is a function that gets a `Side` and makes calls on it. It runs once per side, each side
with a bucket of its own. What main answered is recorded in a form without the things that differ
between any two runs: times, request ids, upload ids, the bucket's name and the endpoint.
"""

import hashlib
import re
from datetime import datetime

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

#: Headers that differ between any two requests, or belong to one connection only.
IGNORED_HEADERS = {
    "date",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amzn-requestid",
    "connection",
    "keep-alive",
    "transfer-encoding",
}
#: Fields and headers whose value is an identifier made up for each request or upload.
IDENTIFIERS = {"UploadId", "RequestId", "HostId", "NextUploadIdMarker", "UploadIdMarker"}


class Side:
    """One way to main: a boto3 client and a bucket; records every answer."""

    def __init__(self, client, bucket, endpoint):
        self.client = client
        self.bucket = bucket
        self.endpoint = endpoint
        self.record = []

    def call(self, operation, *, status, into_bucket=True, **parameters):
        """Calls a boto3 operation and records the answer, an error answer too.

        `status` is what S3 answers by its own documentation: both sides being equally wrong is a
        failure as well. Returns the parsed answer.
        """
        if into_bucket:
            parameters.setdefault("Bucket", self.bucket)
        try:
            answer = getattr(self.client, operation)(**parameters)
        except ClientError as error:
            answer = error.response
        metadata = answer["ResponseMetadata"]
        body = None
        if isinstance(answer.get("Body"), StreamingBody):
            body = answer["Body"].read()
            answer["Body"] = body
        self.record.append(
            {
                "operation": operation,
                "status": metadata["HTTPStatusCode"],
                "headers": self._headers(metadata["HTTPHeaders"]),
                "answer": {
                    name: self._plain(name, value)
                    for name, value in answer.items()
                    if name != "ResponseMetadata"
                },
            }
        )
        assert metadata["HTTPStatusCode"] == status, (
            f"{operation} through {self.endpoint}: {metadata['HTTPStatusCode']}, "
            f"not {status}: {answer.get('Error')}"
        )
        return answer

    def put(self, key, body=b"", **parameters):
        return self.call("put_object", status=200, Key=key, Body=body, **parameters)

    def get(self, key, status=200, **parameters):
        return self.call("get_object", status=status, Key=key, **parameters)

    def head(self, key, status=200, **parameters):
        return self.call("head_object", status=status, Key=key, **parameters)

    def _headers(self, headers):
        kept = {}
        is_xml = headers.get("content-type", "").startswith("application/xml")
        for name, value in headers.items():
            if name in IGNORED_HEADERS:
                continue
            if name == "last-modified":
                value = "<time>"
            if name == "content-length" and is_xml:
                # Identifiers inside the document may be of different length.
                value = "<length>"
            kept[name] = self._plain(name, value)
        return kept

    def _plain(self, name, value):
        if name in IDENTIFIERS:
            return f"<{name}>"
        if isinstance(value, dict):
            return {key: self._plain(key, each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._plain(name, each) for each in value]
        if isinstance(value, datetime):
            return "<time>"
        if isinstance(value, bytes) and len(value) > 200:
            return f"<{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}>"
        if isinstance(value, str):
            if name == "Location":
                # It names the endpoint that made it: main's, or the proxy's if rewritten.
                value = re.sub(r"^https?://[^/]+", "<endpoint>", value)
            return value.replace(self.endpoint, "<endpoint>").replace(self.bucket, "<bucket>")
        return value


def differences(direct, proxied):
    """Lines saying where two records differ."""
    lines = []
    if len(direct) != len(proxied):
        lines.append(f"{len(direct)} answers directly, {len(proxied)} through the proxy")
    for number, (ours, theirs) in enumerate(zip(direct, proxied, strict=False), start=1):
        for part in ("operation", "status"):
            if ours[part] != theirs[part]:
                lines.append(f"call {number}: {part} {ours[part]!r} became {theirs[part]!r}")
        for part in ("headers", "answer"):
            for name in sorted(ours[part].keys() | theirs[part].keys()):
                before = ours[part].get(name, "(absent)")
                after = theirs[part].get(name, "(absent)")
                if before != after:
                    lines.append(
                        f"call {number}, {ours['operation']}: {part} {name}: "
                        f"{before!r} directly, {after!r} through the proxy"
                    )
    return lines


def run_twice(lab, proxy, scenario, inventory=None, **client_options):
    """Runs `scenario` on both sides, compares the answers, then mirror and inventory with main."""
    direct = Side(lab.s3_main, lab.bucket("direct"), lab.main.endpoint)
    # The same length of name, so that lengths of answers can be compared.
    proxied = Side(lab.client(proxy, **client_options), lab.bucket("proxed"), proxy.endpoint)
    for side in (direct, proxied):
        scenario(side)
    lines = differences(direct.record, proxied.record)
    assert not lines, f"{len(lines)} difference(s)\n" + "\n".join(lines)
    assert direct.record, "the scenario made no call"
    lab.assert_converged(proxy, proxied.bucket, inventory=inventory)

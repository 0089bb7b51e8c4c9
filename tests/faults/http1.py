"""As much of HTTP/1.1 as a relay needs: whole messages, kept as the bytes they came as."""

import asyncio
from dataclasses import dataclass

HEAD_BYTES_MAX = 1 << 20


class Ended(Exception):
    """The peer ended the connection, in the middle of a message or between two."""


@dataclass(frozen=True)
class Request:
    """A request head; `raw` is what came, so that it passes with its signature intact."""

    method: str
    target: str
    headers: dict  # lower-case name: value; of repeated ones the last
    raw: bytes

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        return self.target.partition("?")[2]

    @property
    def mutates(self):
        return self.method in ("PUT", "POST", "DELETE")

    @property
    def judged_by_body(self):
        """Its answer can be a 200 that holds an error."""
        completes = self.method == "POST" and "uploadId=" in self.query
        return completes or (self.method == "PUT" and "x-amz-copy-source" in self.headers)

    @property
    def length(self):
        return int(self.headers.get("content-length", "0"))

    @property
    def expects_100(self):
        return self.headers.get("expect", "").lower() == "100-continue"


@dataclass(frozen=True)
class Response:
    status: int
    head: bytes
    body: bytes  # with its framing


def _fields(head):
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    return lines[0], headers


async def _until(reader, separator):
    try:
        return await reader.readuntil(separator)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Ended from error


async def read_exactly(reader, length):
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise Ended from error


async def read_request_head(reader):
    raw = await _until(reader, b"\r\n\r\n")
    first, headers = _fields(raw)
    method, target, _ = first.split(" ", 2)
    return Request(method, target, headers, raw)


async def read_body(reader, headers):
    """A body with its framing; by what its headers announce, none by default."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b""
        while True:
            line = await _until(reader, b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size:
                body += line + await read_exactly(reader, size + 2)
                continue
            body += line
            while line != b"\r\n":
                line = await _until(reader, b"\r\n")
                body += line
            return body
    return await read_exactly(reader, int(headers.get("content-length", "0")))


async def read_response(reader, method):
    while True:
        head = await _until(reader, b"\r\n\r\n")
        first, headers = _fields(head)
        status = int(first.split(" ", 2)[1])
        if status >= 200:
            break
    if method == "HEAD" or status in (204, 304):
        return Response(status, head, b"")
    if "content-length" in headers or "transfer-encoding" in headers:
        return Response(status, head, await read_body(reader, headers))
    return Response(status, head, await reader.read(-1))


async def exchange(address, request, body):
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address, limit=HEAD_BYTES_MAX)
    try:
        writer.write(request.raw + body)
        await writer.drain()
        return await read_response(reader, request.method)
    finally:
        writer.close()


def s3_error(status, code, method="GET"):
    """An S3 error answer, ready to be sent."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{code} by the fault plan</Message><RequestId>fault</RequestId></Error>"
    ).encode()
    return answer(status, code, body, method)


def answer(status, reason, body=b"", method="GET", headers=()):
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append("Content-Type: application/xml")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if method == "HEAD" else head + body

"""HTTP/1.1 over a bare socket: the request is exactly the bytes the test wrote.

Needed for what client libraries do not send or tidy away: odd paths, header case and count,
aws-chunked bodies with faults in them, `Expect: 100-continue` seen from the client's side.
"""

import socket
from dataclasses import dataclass, field


@dataclass
class Response:
    status: int
    reason: str
    headers: list  # (lower-case name, value), in order of arrival
    body: bytes
    interim: list = field(default_factory=list)  # statuses of the 1xx answers before it

    def header(self, name, default=None):
        values = [value for known, value in self.headers if known == name.lower()]
        return ", ".join(values) if values else default

    @property
    def error_code(self):
        """The S3 error code, or None when the body is not an S3 error."""
        text = self.body.decode("utf-8", "replace")
        if "<Error>" not in text or "<Code>" not in text:
            return None
        return text.partition("<Code>")[2].partition("</Code>")[0]


class ConnectionEnded(Exception):
    """The peer closed or reset before a whole response was there; `received` is what came."""

    def __init__(self, received):
        super().__init__(f"connection ended after {len(received)} bytes: {received[:300]!r}")
        self.received = received


class Connection:
    def __init__(self, address, timeout=20.0):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_response(self, head_only=False):
        """Reads one final response; interim answers (1xx) are collected in `interim`."""
        interim = []
        while True:
            status, reason, headers = self.read_head()
            if 100 <= status < 200:
                interim.append(status)
                continue
            response = Response(status, reason, headers, b"", interim)
            if not head_only and status not in (204, 304):
                response.body = self._read_body(response)
            return response

    def read_head(self):
        """(status, reason, headers) of the next answer, which may be an interim one."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, status, *reason = lines[0].split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        return int(status), " ".join(reason), headers

    def _read_body(self, response):
        if "chunked" in (response.header("transfer-encoding") or ""):
            body = b""
            while True:
                size = int(self._line().partition(b";")[0], 16)
                if size == 0:
                    while self._line():
                        pass
                    return body
                body += self._exactly(size)
                assert self._line() == b""
        length = response.header("content-length")
        if length is not None:
            return self._exactly(int(length))
        # Neither given: the body ends with the connection.
        while True:
            try:
                self._receive()
            except ConnectionEnded:
                body, self._buffer = self._buffer, b""
                return body

    def take(self, limit):
        """At least one byte and at most `limit` of what comes next, for bodies not to be kept."""
        if not self._buffer:
            self._receive()
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return data

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, count):
        while len(self._buffer) < count:
            self._receive()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _receive(self):
        try:
            data = self.socket.recv(256 * 1024)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionEnded(self._buffer)
        self._buffer += data


def request_bytes(method, target, headers, body=b""):
    """`headers` is a list of pairs, written as given; nothing is added."""
    lines = [f"{method} ".encode() + as_bytes(target) + b" HTTP/1.1"]
    for name, value in headers:
        lines.append(as_bytes(name) + b": " + as_bytes(value))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def as_bytes(text):
    """UTF-8; a lone surrogate stands for a byte that is none."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def exchange(address, method, target, headers, body=b""):
    """One request on its own connection; an early answer is read even if sending then fails."""
    with Connection(address) as connection:
        try:
            connection.send(request_bytes(method, target, headers, body))
        except ConnectionError:
            pass
        return connection.read_response(head_only=method == "HEAD")

"""An HTTP relay in front of a store that answers some requests itself, as a refusing vendor would.

Everything else passes verbatim, so that signatures stay valid; one upstream connection per request.
"""

import socketserver
import threading
from dataclasses import dataclass

from .raw import Connection, ConnectionEnded


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: list  # (lower-case name, value)


def error_document(code):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        f"<Message>{code} from the test</Message><RequestId>test</RequestId></Error>"
    ).encode()


def s3_error(status, reason, code):
    """The bytes of an S3 error answer."""
    body = error_document(code)
    return _head(status, reason, f"Content-Length: {len(body)}") + body


def s3_error_in_chunks(status, reason, code, more=b""):
    """The same as AWS sends it, and what follows in the document."""
    body = error_document(code) + more
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    return _head(status, reason, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"


def _head(status, reason, framing):
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\n{framing}\r\n\r\n".encode()


class HttpFaultProxy:
    """`rule(request)` returns the bytes of an answer, or None to pass the request on.

    `after(request)` is called when the store has answered and the client has not heard of it yet; an
    OSError that it raises closes the client's connection instead.
    """

    def __init__(self, upstream, rule, after=lambda request: None):
        self.upstream = upstream
        self.rule = rule
        self.after = after
        self.requests = []
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    while owner._one_request(self.request):
                        pass
                except (OSError, ConnectionEnded):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _one_request(self, client):
        head, rest = b"", b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return False
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        fields = dict(headers)
        assert "transfer-encoding" not in fields, "this relay knows lengths only"
        remaining = int(fields.get("content-length", "0")) - len(rest)
        request = Request(method, target, headers)
        self.requests.append(request)
        answer = self.rule(request)
        if answer is not None:
            while remaining > 0:
                data = client.recv(min(remaining, 65536))
                if not data:
                    return False
                remaining -= len(data)
            head_answer, _, body_answer = answer.partition(b"\r\n\r\n")
            client.sendall(head_answer + b"\r\n\r\n" + (b"" if method == "HEAD" else body_answer))
            return True
        with Connection(self.upstream) as far:
            far.send(head + b"\r\n\r\n" + rest)
            while remaining > 0:
                data = client.recv(min(remaining, 65536))
                if not data:
                    return False
                far.send(data)
                remaining -= len(data)
            response = far.read_response(head_only=method == "HEAD")
        self.after(request)
        kept = [
            (name, value)
            for name, value in response.headers
            if name not in ("transfer-encoding", "connection")
        ]
        if response.header("content-length") is None and response.status not in (204, 304):
            kept.append(("content-length", str(len(response.body))))
        text = f"HTTP/1.1 {response.status} {response.reason}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in kept)
        client.sendall(text.encode("latin-1") + b"\r\n" + response.body)
        return True

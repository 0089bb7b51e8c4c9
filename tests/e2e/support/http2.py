"""HTTP/2 over TLS, frame by frame: for what client libraries do not send, or tidy away."""

import socket
import ssl
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events

#: Type of a frame.
GOAWAY = 7


@dataclass
class Answer:
    """What has come of one response."""

    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    interim: list = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def error_code(self):
        text = self.body.decode("utf-8", "replace")
        return text.partition("<Code>")[2].partition("</Code>")[0] or None


class Http2:
    """One connection; `answers` holds what has come, by stream."""

    def __init__(self, proxy, authority, takes=True, timeout=30.0):
        context = ssl.create_default_context(cafile=authority.file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(proxy.address, timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.authority = f"localhost:{proxy.port}"
        self.answers = {}
        self.goaway = None
        self.closed = False
        # What a test sends is what it says, mistakes included.
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )  # fmt: skip
        self.h2 = h2.connection.H2Connection(config)
        # Does it make room for more of a response?
        self.takes = takes
        self._unread = b""
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def request(self, method, path, headers=(), end=True, authority=None):
        """Sends a head; yields the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [
            (":method", method),
            (":scheme", "https"),
            (":authority", authority or self.authority),
            (":path", path),
        ]
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=True):
        """Sends a body as the server makes room for it; stops when the answer has ended."""
        view = memoryview(data)
        while view:
            room = min(
                self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size
            )
            if room == 0:
                self.read()
                if self.answers[stream].reset is not None or self.closed:
                    return
                continue
            self.h2.send_data(stream, bytes(view[:room]))
            view = view[room:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def fill(self, stream):
        """Sends as much as the server has made room for without being read from."""
        sent = 0
        while (room := self.h2.local_flow_control_window(stream)) > 0:
            room = min(room, self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, bytes(room))
            self.flush()
            sent += room
        return sent

    def reset(self, stream, code=h2.errors.ErrorCodes.CANCEL):
        self.h2.reset_stream(stream, code)
        self.flush()

    def read(self):
        """Takes in what has come; waits for something to come."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        self._unread += data
        while len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            frame, self._unread = self._unread[:end], self._unread[end:]
            if frame[3] == GOAWAY:
                # The library takes nothing behind it, but streams go on.
                self.goaway = int.from_bytes(frame[13:17], "big")
                continue
            for event in self.h2.receive_data(frame):
                self._happened(event)
        self.flush()

    def _happened(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if answer is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = dict(event.headers)
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.takes:
                self.h2.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    def until(self, condition, what):
        """Reads until `condition()` holds."""
        while not condition():
            assert not self.closed, f"the connection ended before {what}: {self.answers}"
            self.read()

    def answer(self, stream):
        """The whole response, or what there is of it when the stream was reset."""
        answer = self.answers[stream]
        self.until(lambda: answer.ended or answer.reset is not None, f"answer {stream}")
        return answer

    def exchange(self, method, path, headers=(), body=b"", **options):
        """One request and its response."""
        stream = self.request(method, path, headers, end=not body, **options)
        if body:
            self.send(stream, body)
        return self.answer(stream)


def length(count):
    return ("content-length", str(count))

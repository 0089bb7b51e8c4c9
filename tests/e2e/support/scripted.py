"""A server whose every connection is one function: for a main that does what no store would."""

import socket
import socketserver
import threading


class ScriptedServer:
    """Hands each connection to `handle(socket)` once the head of a request has come, and nothing behind it."""

    def __init__(self, handle):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                head = b""
                while b"\r\n\r\n" not in head:
                    seen = self.request.recv(65536, socket.MSG_PEEK)
                    if not seen:
                        return
                    end = (head + seen).find(b"\r\n\r\n")
                    taken = len(seen) if end < 0 else end + 4 - len(head)
                    head += self.request.recv(taken)
                handle(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

"""A stand-in for RDS with IAM authentication, in front of a real PostgreSQL.

It speaks TLS, asks for a password in the clear as RDS does, and takes only what is a presigned
`connect` request: for this host, port and user, not expired, signed with a session that has not
ended, its session token included. What it takes is relayed to a server that asks nothing more.
"""

import hashlib
import hmac
import socket
import ssl
import struct
import threading
import time
from calendar import timegm
from urllib.parse import parse_qsl, quote

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
ASK_PASSWORD = b"R" + struct.pack("!ii", 8, 3)


class RdsGate:
    """`sessions` is that of an `Issuer`; `taken` lists the key of each login, `refused` why not."""

    def __init__(self, upstream, sessions, region, certificate, key):
        self.upstream, self.sessions, self.region = upstream, sessions, region
        self.taken, self.refused, self.tokens = [], [], []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Ends every connection that is open now."""
        for connection in list(self.open):
            _end(connection)

    def close(self):
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        self.open.add(connection)
        try:
            connection = self._login(connection)
        except (OSError, ConnectionError):
            _end(connection)

    def _login(self, plain):
        if _exactly(plain, 8) != SSL_REQUEST:
            self.refused.append("no TLS was asked for")
            return _end(plain)
        plain.sendall(b"S")
        client = self.context.wrap_socket(plain, server_side=True)
        self.open.discard(plain)
        self.open.add(client)
        length = _exactly(client, 4)
        startup = length + _exactly(client, struct.unpack("!i", length)[0] - 4)
        words = startup[8:].split(b"\0")
        user = dict(zip(words[::2], words[1::2], strict=False))[b"user"].decode()
        client.sendall(ASK_PASSWORD)
        kind, size = struct.unpack("!ci", _exactly(client, 5))
        password = _exactly(client, size - 4).rstrip(b"\0").decode()
        fault = "no password came" if kind != b"p" else self._fault(password, user)
        if fault:
            self.refused.append(fault)
            body = b"SFATAL\0C28P01\0MPAM authentication failed\0\0"
            client.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)
            return _end(client)
        server = socket.create_connection(self.upstream)
        self.open.add(server)
        server.sendall(startup)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        return _pump(server, client)

    def _fault(self, token, user):
        """Why the token is no good; None if it is."""
        self.tokens.append(token)
        address, _, query = token.partition("/?")
        if address != f"localhost:{self.port}":
            return f"signed for {address}"
        pairs = parse_qsl(query, strict_parsing=True)
        fields = dict(pairs)
        if (fields.get("Action"), fields.get("DBUser")) != ("connect", user):
            return "not a login of this user"
        key, *scope = fields["X-Amz-Credential"].split("/")
        if key not in self.sessions:
            return f"unknown key {key}"
        secret, session_token, end = self.sessions[key]
        if time.time() >= end:
            return f"{key} has ended"
        if fields.get("X-Amz-Security-Token") != session_token:
            return f"{key} came without its token"
        date = fields["X-Amz-Date"]
        age = time.time() - timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        if not -5 <= age < int(fields["X-Amz-Expires"]) <= 900:
            return f"a token of {age:.0f} seconds"
        if scope != [date[:8], self.region, "rds-db", "aws4_request"]:
            return f"signed for {scope}"
        signed = sorted((n, v) for n, v in pairs if n != "X-Amz-Signature")
        canonical = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in signed)
        empty = hashlib.sha256(b"").hexdigest()
        request = f"GET\n/\n{canonical}\nhost:{address}\n\nhost\n{empty}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{'/'.join(scope)}\n{digest}"
        material = b"AWS4" + secret.encode()
        for part in (*scope, text):
            material = hmac.new(material, part.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(material.hex(), fields["X-Amz-Signature"]):
            return f"the signature of {key} is wrong"
        self.taken.append(key)
        return None


def _exactly(connection, length):
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionError("it ended early")
        data += piece
    return data


def _pump(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
    except (OSError, ValueError):
        pass
    _end(source)
    _end(target)


def _end(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()

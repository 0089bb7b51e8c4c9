"""A receiver of events: a small web server that verifies each message and answers as it is told."""

import base64
import hashlib
import hmac
import http.server
import json
import threading

SECRET = "a-secret-of-the-webhook-0123456789"
PATH = "/hook/T0-capability-in-the-path"


class Receiver:
    """`rule(records)` returns the status of the answer; 200 without one.

    Messages that were answered with 2xx are in `taken`, records in the order they came. A message
    whose signature is wrong, or whose form is not that of S3 events, is a fault.
    """

    def __init__(self, rule=None, secret=SECRET):
        self.rule = rule
        self.secret = secret
        self.taken = []
        self.asked = []
        self.identities = []
        self.faults = []
        self.lock = threading.Lock()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = owner.message(self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    def settings(self):
        return {"EVENTS_WEBHOOK_URL": self.url, "EVENTS_WEBHOOK_SECRET": self.secret}

    def message(self, path, headers, body):
        try:
            identity, when = headers["webhook-id"], headers["webhook-timestamp"]
            said = f"{identity}.{when}.".encode() + body
            mac = hmac.new(self.secret.encode(), said, hashlib.sha256).digest()
            wanted = "v1," + base64.b64encode(mac).decode()
            assert path == PATH, path
            assert headers["Content-Type"] == "application/json"
            assert hmac.compare_digest(wanted, headers["webhook-signature"]), "a wrong signature"
            records = json.loads(body)["Records"]
            assert 1 <= len(records) <= 100, len(records)
        except Exception as error:  # noqa: BLE001
            self.faults.append(error)
            return 400
        with self.lock:
            self.asked.append(records)
            status = self.rule(records) if self.rule else 200
            if status < 300:
                self.identities.append(identity)
                self.taken.extend(records)
        return status

    def of(self, bucket, key=None):
        """[(event name, object)] of a bucket, or of one key of it, in the order they were taken."""
        with self.lock:
            return [
                (record["eventName"], record["s3"]["object"])
                for record in self.taken
                if record["s3"]["bucket"]["name"] == bucket
                and key in (None, record["s3"]["object"]["key"])
            ]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        assert not self.faults, self.faults

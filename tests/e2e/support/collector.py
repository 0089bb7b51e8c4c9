"""A small OpenTelemetry collector: takes OTLP over HTTP and decodes its protobuf."""

import http.server
import threading
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Seen:
    """One span, its IDs in hexadecimal digits."""

    name: str
    kind: str
    trace: str
    span: str
    parent: str
    failed: bool
    seconds: float
    attributes: dict
    resource: dict


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def spans_of(request):
    for group in request.resource_spans:
        resource = {each.key: value(each.value) for each in group.resource.attributes}
        for scope in group.scope_spans:
            assert scope.scope.name == "s3-mirror"
            for span in scope.spans:
                yield Seen(
                    span.name,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    {each.key: value(each.value) for each in span.attributes},
                    resource,
                )


class Collector:
    def __init__(self):
        self.seen = []
        self.headers = []
        self.faults = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    assert self.path == "/v1/traces", self.path
                    assert self.headers["Content-Type"] == "application/x-protobuf"
                    owner.seen.extend(spans_of(ExportTraceServiceRequest.FromString(body)))
                    owner.headers.append(dict(self.headers))
                except Exception as error:  # noqa: BLE001
                    owner.faults.append(error)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def address(self):
        return ("127.0.0.1", self.server.server_port)

    def settings(self):
        # The SDK's own variable: spans go out at once, not every five seconds.
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def of(self, name):
        return [span for span in list(self.seen) if span.name == name]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        assert not self.faults, self.faults

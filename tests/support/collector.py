"""A tiny OpenTelemetry collector: OTLP over HTTP, kept in memory."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """A tiny OTLP/HTTP collector: it keeps the requests it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in list(self.requests)}

    @property
    def resources(self) -> list[dict[str, str]]:
        """Who sent something: the attributes of each."""
        found = {
            tuple(sorted((one.key, one.value.string_value) for one in each.resource.attributes))
            for _, request in list(self.requests)
            for each in request.resource_spans
        }
        return [dict(one) for one in sorted(found)]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for _, request in list(self.requests)
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]

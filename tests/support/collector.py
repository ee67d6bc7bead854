"""A collector of traces: receives OTLP over HTTP, read with OpenTelemetry's own messages."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.server_process import wait_until

Attributes = dict[str, Any]


class ReceivedSpan(NamedTuple):
    """A span with the attributes of its process."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    attributes: Attributes
    links: list[tuple[str, str]]  # trace and span
    is_error: bool
    seconds: float
    process: Attributes


class Collector:
    """What has arrived; `status` is its answer."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.address = ""

    @property
    def spans(self) -> list[ReceivedSpan]:
        return [span for body in self.bodies for span in _read(body)]

    def wait_for(self, name: str, number: int = 1) -> list[ReceivedSpan]:
        """Wait until so many spans of this name are there, and return them."""
        wait_until(lambda: len(self.named(name)) >= number)
        return self.named(name)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[None]:
        collector = self

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.may_answer.wait()
                if collector.status == 200:
                    is_gzip = self.headers.get("Content-Encoding") == "gzip"
                    collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                    collector.paths.append(self.path)
                    collector.bodies.append(gzip.decompress(body) if is_gzip else body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

        with ThreadingHTTPServer(("127.0.0.1", port), Receive) as server:
            server.daemon_threads = True
            server.block_on_close = False  # a hanging answer is given up by its client
            self.address = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=[0.05])
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def _read(body: bytes) -> Iterator[ReceivedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        process = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    _values(span.attributes),
                    [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    span.status.code == 2,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    process,
                )


def _values(attributes: Any) -> Attributes:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}

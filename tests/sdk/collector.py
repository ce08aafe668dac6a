"""A trace collector: receives OTLP as collectors do, decoded by OpenTelemetry's own schema."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import http.server
import threading
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import rig

#: Every collector of the run.
ALL: list[Received] = []

@dataclasses.dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    start: int
    end: int
    status: int
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    resource: dict[str, Any]


def values(pairs: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Received:
    """What came so far, over either transport."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        ALL.append(self)

    def add(self, request: Any, headers: dict[str, str]) -> None:
        with self.lock:
            self.headers.append(headers)
            for group in request.resource_spans:
                resource = values(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans += [decoded(span, resource) for span in scope.spans]

    def of(self, trace: str) -> list[Span]:
        with self.lock:
            return [span for span in self.spans if span.trace == trace]

    def tree(self, trace: str) -> list[Span]:
        """Waits for a trace's spans: they come in one message."""
        return rig.eventually(lambda: self.of(trace), what=f"trace {trace}")


def decoded(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=span.status.code,
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes=values(span.attributes),
        resource=resource,
    )


class Grpc(Received):
    """`opentelemetry.proto.collector.trace.v1.TraceService` over gRPC."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        received = self

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                received.add(request, dict(context.invocation_metadata()))
                return trace_service_pb2.ExportTraceServiceResponse()

        pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self.server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.stop(0).wait()


class Http(Received):
    """OTLP's binary protobuf by POST to /v1/traces."""

    def __init__(self) -> None:
        super().__init__()
        received = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                good = self.path == "/v1/traces"
                good = good and self.headers["content-type"] == "application/x-protobuf"
                if good:
                    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                    received.add(request, {k.lower(): v for k, v in self.headers.items()})
                self.send_response(200 if good else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

"""A collector of OTLP over HTTP, as tests and benches need one: it takes spans in, and tells which there are."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """One span as it was sent: ids in hex, `parent` "" for none, times in nanoseconds since 1970."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    kind: int
    failed: bool
    attributes: dict[str, Any]
    links: list[tuple[str, str]]


class Collector:
    """What was sent to `endpoint` so far."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.spans: list[Span] = []

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace, by when they began."""
        return sorted((span for span in tuple(self.spans) if span.trace == trace), key=lambda span: span.start)

    def take(self, path: str, headers: dict[str, str], content: bytes) -> None:
        """One request of an exporter."""
        self.paths.append(path)
        self.headers.append(headers)
        in_json = headers["content-type"] == "application/json"
        request = ExportTraceServiceRequest()
        if in_json:
            json_format.Parse(content, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(content)
        for of_service in request.resource_spans:
            service = _attributes(of_service.resource.attributes).get("service.name", "")
            for scope in of_service.scope_spans:
                self.spans.extend(_span(service, span, _from_json if in_json else bytes.hex) for span in scope.spans)


def _from_json(number: bytes) -> str:
    """OTLP's JSON has ids in hex, where protobuf's has base64: so this undoes what was decoded."""
    return base64.b64encode(number).decode()


def _span(service: str, span: Any, text: Callable[[bytes], str]) -> Span:
    return Span(
        service,
        span.name,
        text(span.trace_id),
        text(span.span_id),
        text(span.parent_span_id),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.kind,
        span.status.code == 2,
        _attributes(span.attributes),
        [(text(link.trace_id), text(link.span_id)) for link in span.links],
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.take(self.path, headers, self.rfile.read(int(headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()

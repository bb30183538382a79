"""Spans of requests, by OpenTelemetry. Imported only where a collector is named, for it takes a moment and some memory.

A span holds what a log line holds: no prompt, no picture, no key, no text of an error. What cannot be sent is lost.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import KINDS, PublicError

SERVICE: Final = "tritouch-gateway"
FLUSH_SECONDS: Final = 2.0
"""How long the end waits for a collector that does not answer."""
SERVERS_FAULT: Final = 500
CALLS: Final = ("fetch", "edit")
"""Stages that are calls of another server."""
_UNTRACED: Final = ("/livez", "/readyz", "/metrics")
_CONTEXT: Final = TraceContextTextMapPropagator()


class Tracing:
    """Traces of one gateway. Where they go, and how many there are, the `OTEL_` variables say, which the SDK reads."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tritouch.gateway")

    def close(self) -> None:
        """Send what is left, for a moment."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app` with a span of each request: a part of its caller's trace, where there is a `traceparent`."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] not in _UNTRACED:
                await self._request(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return traced

    async def _request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        caller = _CONTEXT.extract(dict(Headers(scope=scope)))
        with self._tracer.start_as_current_span(
            scope["method"], caller, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                try:
                    await app(scope, receive, sent)
                finally:
                    _answered(span, scope, status)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block as a span of what is under way, however it ends."""
        kind = SpanKind.CLIENT if name in CALLS else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(
            name, kind=kind, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except asyncio.CancelledError:
                _ended(span, "cancelled", failed=False)
                raise
            except PublicError as error:
                _ended(span, error.code, failed=error.kind.status >= SERVERS_FAULT)
                raise
            except Exception as error:
                _ended(span, type(error).__name__, failed=True)
                raise

    def onward(self) -> dict[str, str]:
        """What makes another's spans a part of what is under way: `traceparent`, and `tracestate` if there is one."""
        carried: dict[str, str] = {}
        _CONTEXT.inject(carried)
        return carried


def _answered(span: Span, scope: Scope, status: int) -> None:
    """What is known of a request once it is answered."""
    state, route = scope.get("state", {}), getattr(scope.get("route"), "path", "none")
    span.update_name(f"{scope['method']} {route}")
    span.set_attributes(
        {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
            "tritouch.request_id": state.get("request_id", ""),
        }
    )
    reason = state.get("reason", "")
    if reason:  # of a stream, too, whose status was sent long before
        _ended(span, reason, failed=reason in KINDS and KINDS[reason].status >= SERVERS_FAULT)


def _ended(span: Span, reason: str, *, failed: bool) -> None:
    """Why it has come to nothing; what a caller has done is no failure."""
    span.set_attribute("error.type", reason)
    if failed:
        span.set_status(StatusCode.ERROR)

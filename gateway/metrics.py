"""The gateway's metrics for Prometheus. Labels are of our own making: no input is ever in one."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Metrics of one app, in a registry of its own. `span`: what is entered, too, for each stage that is timed."""

    def __init__(self, span: Callable[[str], AbstractContextManager[object]] = nullcontext) -> None:
        self._span = span
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tritouch_gateway_requests", "Answers sent", ["route", "status", "reason"], registry=self.registry
        )
        self._duration = Histogram(
            "tritouch_gateway_request_seconds", "Request to answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._stages = Histogram(
            "tritouch_gateway_stage_seconds",
            "Time by stage: read, parse, load (fetch and decode), edit (Triton; and a stream's encoding), encode",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._events = Counter(
            "tritouch_gateway_stream_events", "Events of streams that were sent", ["kind"], registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def answered(self, route: str, status: int, reason: str, seconds: float) -> None:
        """Count one answer. `reason`: an error's code, or `ok`."""
        self._requests.labels(route, str(status), reason).inc()
        self._duration.labels(route).observe(seconds)

    def event(self, kind: str) -> None:
        """Count one event that was sent. `kind`: of `gateway.events`."""
        self._events.labels(kind).inc()

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show what `value` returns when it is asked for, as `tritouch_gateway_NAME`."""
        Gauge(f"tritouch_gateway_{name}", help_text, registry=self.registry).set_function(value)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as one stage of an edit, however it ends."""
        start = time.perf_counter()
        try:
            with self._span(name):
                yield
        finally:
            self._stages.labels(name).observe(time.perf_counter() - start)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self.registry)

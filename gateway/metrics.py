"""The gateway's metrics for Prometheus. Labels are of our own making: no input is ever in one."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from gateway.errors import PublicError

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
NO_ROUTE: Final = "none"
_SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class TritonState(Protocol):
    """What is shown of one Triton: pictures in flight there, whether it is ready, and whether it ever was."""

    in_flight: int
    well: bool
    seen: bool


class _Tritons(Collector):
    """The Tritons of each model, numbered from 0 in the order of the setting; those that never were there left out."""

    def __init__(self) -> None:
        self.of: dict[str, Sequence[TritonState]] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ["model", "triton"]
        flight = GaugeMetricFamily("tritouch_gateway_triton_in_flight", "Pictures in flight at a Triton", labels=labels)
        ready = GaugeMetricFamily("tritouch_gateway_triton_ready", "Whether a Triton is sent edits", labels=labels)
        for model, tritons in self.of.items():
            for number, triton in enumerate(tritons):
                if triton.seen:
                    flight.add_metric([model, str(number)], triton.in_flight)
                    ready.add_metric([model, str(number)], triton.well)
        return [flight, ready]


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
        self._again = Counter(
            "tritouch_gateway_sent_again",
            "Edits that one Triton could not do, and that were asked of another",
            ["model", "reason"],
            registry=self.registry,
        )
        self._tritons = _Tritons()
        self.registry.register(self._tritons)
        ProcessCollector(registry=self.registry)

    def answered(self, route: str, status: int, reason: str, seconds: float) -> None:
        """Count one answer. `reason`: an error's code, or `ok`."""
        self._requests.labels(route, str(status), reason).inc()
        self._duration.labels(route).observe(seconds)

    def refused(self, status: int, reason: str) -> None:
        """Count one answer where there was no request yet, or no whole one: it took no time, and had no route."""
        self._requests.labels(NO_ROUTE, str(status), reason).inc()

    def event(self, kind: str) -> None:
        """Count one event that was sent. `kind`: of `gateway.events`."""
        self._events.labels(kind).inc()

    def tritons(self, model: str, tritons: Sequence[TritonState]) -> None:
        """Show these Tritons of a model."""
        self._tritons.of[model] = tritons

    def sent_again(self, model: str) -> Callable[[PublicError], None]:
        """Counts edits of a model that are sent again, by the error that was the reason."""
        return lambda error: self._again.labels(model, error.code).inc()

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

"""The batcher's metrics as Triton's own, because Triton's own gauges cannot see inside this queue.

Each change of a metric is a round trip to Triton, and each sum takes a while between two calls of the denoiser: so what
is reported is only noted here, and summed up and sent when it is published.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

from jobs import OUTCOMES, STAGES


class TritonMetrics:
    """Implements `jobs.Metrics`; times are in seconds."""

    def __init__(self) -> None:
        self._families: list[Any] = []  # Triton drops a metric whose family is gone
        self._noted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()  # how it is summed up, and what
        self._levels: dict[Any, float] = {}  # this and what follows: of the thread that publishes
        self._sums: dict[Any, float] = defaultdict(float)
        self._until: dict[Any, float] = {}  # metric of seconds -> up to when they are counted
        edits = self._family("GAUGE", "tritouch_edits_in_flight", "Edits begun (active) and not yet begun (waiting)")
        self._active = edits.Metric(labels={"state": "active"})
        self._waiting = edits.Metric(labels={"state": "waiting"})
        outcomes = self._family("COUNTER", "tritouch_edits_total", "Edits that left the batcher, by outcome")
        self._outcomes = {
            outcome: outcomes.Metric(labels={"outcome": outcome}) for outcome in ("done", "failed", *OUTCOMES.values())
        }
        stages = self._family("COUNTER", "tritouch_stage_seconds_total", "Seconds of all edits, by stage")
        self._stages = {stage: stages.Metric(labels={"stage": stage}) for stage in STAGES}
        self._calls = self._counter("tritouch_denoiser_calls_total", "Denoiser calls")
        self._rows = self._counter("tritouch_denoiser_rows_total", "Rows of all denoiser calls")
        self._steps = self._counter("tritouch_steps_total", "Steps of all edits, those that had a call")
        self._call_seconds = self._counter("tritouch_denoiser_seconds_total", "Seconds in denoiser calls")
        self._engine_seconds = self._counter("tritouch_engine_seconds_total", "Seconds that the engine tells of")
        self._turn_seconds = self._counter("tritouch_turn_seconds_total", "Seconds in turns, calls included")

    def _family(self, kind: str, name: str, description: str) -> Any:
        kind_value = getattr(pb_utils.MetricFamily, kind)
        self._families.append(pb_utils.MetricFamily(name=name, description=description, kind=kind_value))
        return self._families[-1]

    def _counter(self, name: str, description: str) -> Any:
        return self._family("COUNTER", name, description).Metric(labels={})

    def in_flight(self, active: int, waiting: int) -> None:
        """Edits that have begun, and edits that have not, now."""
        self._noted.append((self._set, ({self._active: active, self._waiting: waiting},)))

    def call(self, rows: int, edits: int, began: float, ended: float) -> None:
        """One denoiser call has returned. It counts from when those before it had: so the totals are of the engine."""
        self._noted.append((self._add, ({self._calls: 1, self._rows: rows, self._steps: edits},)))
        self._noted.append((self._since, (self._call_seconds, began, ended)))

    def computed(self, seconds: float) -> None:
        """The engine has computed for so long, as it says itself, in a call that did not go through Triton."""
        self._noted.append((self._add, ({self._engine_seconds: seconds},)))

    def turn(self, began: float, ended: float) -> None:
        """One turn has ended. Time in which two are under way counts once."""
        self._noted.append((self._since, (self._turn_seconds, began, ended)))

    def stage(self, name: str, seconds: float) -> None:
        """One edit has spent this long in a stage."""
        self._noted.append((self._add, ({self._stages[name]: seconds},)))

    def left(self, outcome: str, edits: int = 1) -> None:
        """So many edits have left."""
        self._noted.append((self._add, ({self._outcomes[outcome]: edits},)))

    def publish(self) -> None:
        """Sends what has changed: what edits have done before that they are gone. By one thread, beside the others."""
        self._levels, self._sums = {}, defaultdict(float)
        for _ in range(len(self._noted)):
            sum_up, told = self._noted.popleft()
            sum_up(*told)
        for metric, amount in self._sums.items():
            metric.increment(amount)
        for metric, level in self._levels.items():
            metric.set(level)

    def _set(self, levels: Mapping[Any, float]) -> None:
        self._levels |= levels

    def _since(self, metric: Any, began: float, ended: float) -> None:
        self._sums[metric] += ended - max(began, self._until.get(metric, began))
        self._until[metric] = ended

    def _add(self, amounts: Mapping[Any, float]) -> None:
        for metric, amount in amounts.items():
            self._sums[metric] += amount

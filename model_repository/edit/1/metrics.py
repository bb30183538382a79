"""The batcher's figures as Triton metrics, because Triton's own gauges cannot see inside this queue."""

from typing import Any

import triton_python_backend_utils as pb_utils

from jobs import OUTCOMES, STAGES


class TritonFigures:
    """Implements `batcher.Figures`; times are in seconds."""

    def __init__(self) -> None:
        self._families: list[Any] = []  # Triton drops a metric whose family is gone
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
        self._steps = self._counter("tritouch_steps_total", "Steps of all edits")
        self._call_seconds = self._counter("tritouch_denoiser_seconds_total", "Seconds in denoiser calls")
        self._turn_seconds = self._counter("tritouch_turn_seconds_total", "Seconds in turns, calls included")

    def _family(self, kind: str, name: str, description: str) -> Any:
        kind_value = getattr(pb_utils.MetricFamily, kind)
        self._families.append(pb_utils.MetricFamily(name=name, description=description, kind=kind_value))
        return self._families[-1]

    def _counter(self, name: str, description: str) -> Any:
        return self._family("COUNTER", name, description).Metric(labels={})

    def in_flight(self, active: int, waiting: int) -> None:
        """Edits that have begun, and edits that have not, now."""
        self._active.set(active)
        self._waiting.set(waiting)

    def call(self, rows: int, edits: int, seconds: float) -> None:
        """One denoiser call has returned."""
        self._calls.increment(1)
        self._rows.increment(rows)
        self._steps.increment(edits)
        self._call_seconds.increment(seconds)

    def turn(self, seconds: float) -> None:
        """One turn has ended."""
        self._turn_seconds.increment(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """One edit has spent this long in a stage."""
        self._stages[name].increment(seconds)

    def left(self, outcome: str) -> None:
        """One edit has left."""
        self._outcomes[outcome].increment(1)

"""The batcher's metrics beside a stand-in for Triton's module."""

import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.edit import stand_in


class Metric:
    changed: ClassVar[list["Metric"]] = []

    def __init__(self) -> None:
        self.value = 0.0

    def increment(self, amount: float) -> None:
        self.set(self.value + amount)

    def set(self, value: float) -> None:
        self.value = value
        self.changed.append(self)


class Family:
    COUNTER, GAUGE = "counter", "gauge"
    made: ClassVar[dict[str, list[Metric]]] = {}

    def __init__(self, name: str, description: str, kind: str) -> None:
        self._metrics = self.made[name] = []

    def Metric(self, labels: dict[str, str]) -> Metric:  # noqa: N802 - Triton's name
        self._metrics.append(Metric())
        return self._metrics[-1]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for made in stand_in.imported(monkeypatch, "metrics"):
        monkeypatch.setattr(sys.modules["triton_python_backend_utils"], "MetricFamily", Family, raising=False)
        yield made.TritonMetrics()


def total(name: str) -> float:
    (metric,) = Family.made[f"tritouch_{name}_total"]
    return metric.value


def test_seconds_in_which_two_calls_are_under_way_count_once(metrics: Any) -> None:
    metrics.call(2, 2, 10.0, 13.0)
    metrics.call(1, 1, 11.0, 15.0)  # waited for the other, and then took two seconds
    metrics.call(1, 1, 20.0, 21.0)
    metrics.turn(9.0, 14.0)
    metrics.turn(10.5, 16.0)
    metrics.publish()
    assert total("denoiser_seconds") == 6.0
    assert total("turn_seconds") == 7.0
    assert [total("denoiser_calls"), total("denoiser_rows"), total("steps")] == [3, 4, 4]


def test_where_no_edit_is_in_flight_all_that_they_did_is_counted(metrics: Any) -> None:
    metrics.call(2, 2, 10.0, 13.0)
    metrics.left("done")
    metrics.in_flight(0, 0)
    Metric.changed.clear()
    metrics.publish()
    assert Metric.changed[-2:] == Family.made["tritouch_edits_in_flight"]
    assert len(Metric.changed) == 7

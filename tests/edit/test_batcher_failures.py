"""Edits that are refused or fail, and their neighbours, with a fake denoiser: no Triton, no torch, no threads."""

from typing import Any

import pytest
from numpy.typing import NDArray

from families.alone import denoise_alone
from families.errors import InvalidEditError
from families.interface import Plan, Tensors
from jobs import QueueFullError
from tests.edit.harness import Harness, denoiser, one, plan


def test_a_full_queue_refuses_and_forgets() -> None:
    harness = Harness(max_jobs=2)
    harness.submit("first", plan(1.0, 1))
    harness.submit("second", plan(1.0, 1))
    with pytest.raises(QueueFullError):
        harness.submit("third", plan(1.0, 1))
    harness.turns(1)
    harness.submit("fourth", plan(1.0, 1))
    harness.turns(1)
    assert sorted(harness.results) == ["first", "fourth", "second"]
    assert harness.metrics.outcomes["rejected"] == 1


def test_an_edit_that_no_call_can_hold_is_refused() -> None:
    harness = Harness(max_rows=2)
    harness.submit("guided", plan(1.0, 1, rows=3))
    assert "3 rows" in str(harness.results["guided"])
    assert harness.results["guided"].code == "edit_too_large"
    harness = Harness(max_tokens=7)
    harness.submit("large", plan(1.0, 1, rows=2))
    assert "2 rows and 8 tokens" in str(harness.results["large"])
    assert harness.metrics.now == (0, 0)


def test_an_edit_that_cannot_be_prepared_or_finished_fails_alone() -> None:
    def raising(*_: Any) -> Any:
        raise ArithmeticError("its own fault")

    harness = Harness()
    failures: list[Exception] = []
    harness.batcher.submit(*one(raising, raising, failures.append))
    harness.batcher.submit(*one(lambda: plan(1.0, 1), raising, failures.append))
    harness.submit("good", plan(1.0, 2))
    harness.turns(2)
    assert [str(failure) for failure in failures] == ["its own fault"] * 2
    assert harness.metrics.outcomes == {"failed": 2, "done": 1}
    assert harness.metrics.now == (0, 0)


def test_a_failing_call_fails_its_own_edits_alone() -> None:
    def broken_for_wide(rows: Tensors) -> NDArray[Any]:
        if rows["text"][0, 0] == 666.0:
            raise RuntimeError("engine")
        return denoiser(rows)

    harness = Harness(broken_for_wide)
    harness.submit("bad", plan(666.0, 3, shape="wide"))
    harness.submit("good", plan(1.0, 3))
    harness.turns(4)
    assert str(harness.results["bad"]) == "engine"
    assert isinstance(harness.results["good"], dict)
    harness.submit("next", plan(2.0, 2, shape="wide"))
    harness.turns(2)
    assert isinstance(harness.results["next"], dict)


def test_an_edit_that_fails_in_its_own_step_leaves_its_neighbours_be() -> None:
    harness = Harness()
    harness.submit("bad", plan(1.0, 5, fail_at=2))
    harness.submit("good", plan(1.0, 3))
    harness.turns(3)
    assert isinstance(harness.results["bad"], ArithmeticError)
    assert harness.results["good"] == denoise_alone(plan(1.0, 3), denoiser)


def test_a_prediction_of_the_wrong_size_is_a_failed_call() -> None:
    harness = Harness(lambda rows: denoiser(rows)[:0])
    harness.submit("edit", plan(1.0, 3))
    harness.turns(1)
    assert "0 rows to 1" in str(harness.results["edit"])


def test_what_is_the_callers_fault_is_no_failure() -> None:
    def refused() -> Plan:
        raise InvalidEditError("image_unreadable", "the picture cannot be read")

    harness = Harness()
    harness.batcher.submit(*one(refused, print, print))
    harness.submit("too large", plan(1.0, 1, rows=9))
    harness.submit("broken", plan(1.0, 2, fail_at=1))
    harness.turns(1)
    assert harness.metrics.outcomes == {"refused": 2, "failed": 1}

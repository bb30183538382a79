"""In-flight batching with a fake denoiser: no Triton, no torch, no threads."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from families.alone import denoise_alone
from families.interface import Plan, Tensors
from jobs import CancelledError, ExpiredError, StoppingError
from tests.edit.harness import COLUMNS, Harness, Later, denoiser, one, plan


def test_an_edit_joins_and_leaves_while_a_long_one_runs() -> None:
    harness = Harness()
    harness.submit("long", plan(1.0, 10))
    harness.turns(3)
    harness.submit("short", plan(2.0, 2))
    harness.turns(2)
    assert list(harness.results) == ["short"]
    assert [edits for _, edits in harness.metrics.calls] == [1, 1, 1, 2, 2]
    harness.turns(5)
    assert list(harness.results) == ["short", "long"]
    assert len(harness.metrics.calls) == 10


def test_a_result_does_not_depend_on_neighbours() -> None:
    edits = {f"{i}": (float(i), 3 + i, 1 + i % 3, "wide" if i % 2 else "square") for i in range(8)}
    harness = Harness()
    for name, (tag, steps, rows, shape) in edits.items():
        harness.submit(name, plan(tag, steps, rows=rows, shape=shape))
    harness.turns(60)
    for name, (tag, steps, rows, _) in edits.items():
        assert harness.results[name] == denoise_alone(plan(tag, steps, rows=rows), denoiser)
    assert len(harness.metrics.calls) < sum(steps for _, steps, _, _ in edits.values())


def test_edits_that_differ_in_a_padded_input_share_a_call() -> None:
    seen: list[Any] = []

    def denoise(rows: Tensors) -> NDArray[Any]:
        seen.append(rows["adapter"].tolist())
        return denoiser(rows)

    def adapted(steps: int, rows: int, *adapters: int) -> Plan:
        made = plan(1.0, steps, rows=rows)
        return replace(made, constant={**made.constant, "adapter": np.array([adapters] * rows, np.int32)})

    harness = Harness(denoise, padded=("adapter",))
    harness.submit("one", adapted(3, 2, 4))
    harness.submit("three", adapted(1, 1, 7, 8, 9))
    harness.turns(2)
    assert seen == [[[4, 0, 0], [4, 0, 0], [7, 8, 9]], [[4], [4]]], "and alone it pays for its own"


def test_rows_not_jobs_fill_a_call() -> None:
    harness = Harness(max_rows=7)
    for i in range(3):
        harness.submit(f"guided {i}", plan(1.0, 4, rows=3))
    harness.submit("plain", plan(1.0, 4))
    harness.turns(1)
    assert harness.metrics.calls == [(7, 3)], "two guided edits and, in the row that is left, the plain one"


def test_no_group_starves_and_the_oldest_goes_first() -> None:
    harness = Harness()
    harness.submit("square", plan(1.0, 4))
    harness.submit("wide", plan(1.0, 4, shape="wide"))
    served = []
    for name in ("square", "wide"):
        harness.turns(1)
        begun = [job.plan.constant["text"].shape[1] for job in harness.batcher._ready if job.begun]
        served.append(COLUMNS[name] in begun)
    assert served == [True, True]
    for i in range(3):  # a stream of newcomers of one group
        harness.submit(f"more {i}", plan(1.0, 4))
        harness.turns(2)
    assert "wide" in harness.results
    assert harness.metrics.calls.count((1, 1)) >= 4


def test_a_call_holds_no_more_than_max_rows_and_the_rest_wait_their_turn() -> None:
    harness = Harness(max_rows=3)
    for i in range(5):
        harness.submit(f"{i}", plan(1.0, 2))
    harness.turns(1)
    assert harness.metrics.now == (3, 2), "three have begun, two wait"
    harness.turns(3)
    assert list(harness.results) == ["0", "1", "2", "3", "4"]


def test_a_cancelled_edit_leaves_within_one_step() -> None:
    harness = Harness()
    gone = False
    harness.submit("cancelled", plan(1.0, 50), cancelled=lambda: gone)
    harness.submit("stays", plan(1.0, 5))
    harness.turns(2)
    gone = True
    harness.turns(1)
    assert isinstance(harness.results["cancelled"], CancelledError)
    assert harness.metrics.calls == [(2, 2), (2, 2), (1, 1)]
    harness.turns(2)
    assert "stays" in harness.results
    assert harness.metrics.outcomes == {"cancelled": 1, "done": 1}


def test_an_expired_edit_never_reaches_the_denoiser() -> None:
    harness = Harness()
    harness.submit("late", plan(1.0, 5), deadline=10.0)
    harness.clock = 11.0
    harness.turns(1)
    assert isinstance(harness.results["late"], ExpiredError)
    assert harness.metrics.calls == []


def test_who_is_gone_or_late_before_a_worker_is_free_is_answered_without_one() -> None:
    later = Later()
    harness = Harness(preparers=later)
    prepared: list[str] = []

    def prepare(name: str) -> Callable[[], Plan]:
        return lambda: prepared.append(name) or plan(1.0, 1)  # type: ignore[func-returns-value]

    failures: list[Exception] = []
    harness.batcher.submit(*one(prepare("gone"), print, failures.append, cancelled=lambda: True))
    harness.batcher.submit(*one(prepare("late"), print, failures.append, deadline=10.0))
    harness.batcher.submit(*one(prepare("stays"), print, failures.append))
    harness.clock = 11.0
    harness.batcher.ask()
    assert [type(failure) for failure in failures] == [CancelledError, ExpiredError]
    assert harness.metrics.now == (0, 1)
    later.begin()
    harness.turns(1)
    assert prepared == ["stays"]
    assert harness.metrics.outcomes == {"cancelled": 1, "expired": 1, "done": 1}


def test_what_only_preparing_needs_is_let_go_of() -> None:
    def holding(pictures: NDArray[Any]) -> Callable[[], Plan]:
        return lambda: plan(float(pictures[0]), 5)

    pictures = np.ones(1)
    kept = weakref.ref(pictures)
    harness = Harness()
    harness.batcher.submit(*one(holding(pictures), print, print))
    del pictures
    gc.collect()
    assert kept() is None
    harness.turns(5)
    assert harness.metrics.outcomes == {"done": 1}


def test_an_edit_that_has_left_is_let_go_of() -> None:
    harness = Harness()
    request, jobs = one(lambda: plan(1.0, 1), print, print)
    kept = weakref.ref(request), weakref.ref(jobs[0])
    harness.batcher.submit(request, jobs)
    del request, jobs
    harness.turns(1)
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


def test_tokens_fill_a_call_too() -> None:
    harness = Harness(max_tokens=10)
    for i in range(3):
        harness.submit(f"{i}", plan(1.0, 4))
    harness.submit("small", plan(1.0, 4, tokens=2))
    harness.turns(1)
    assert harness.metrics.calls == [(3, 3)], "two edits of four tokens, and one of two in what is left"


def test_edits_share_a_call_by_the_shapes_and_types_of_their_inputs() -> None:
    harness = Harness()
    narrow = replace(plan(1.0, 2), constant={"text": np.ones((1, COLUMNS["square"]), np.float32)})
    harness.submit("one", plan(1.0, 2))
    harness.submit("two", plan(2.0, 2, rows=3))
    harness.submit("other shape", plan(1.0, 2, shape="wide"))
    harness.submit("other type", narrow)
    harness.turns(3)
    assert harness.metrics.calls == [(4, 2), (1, 1), (1, 1)]


def test_a_caller_who_left_before_the_end_is_not_rendered_for() -> None:
    harness = Harness()
    asked = iter([False, False, True])
    harness.submit("gone", plan(1.0, 1), cancelled=lambda: next(asked))
    harness.turns(1)
    assert isinstance(harness.results["gone"], CancelledError)


def test_every_second_of_an_edit_is_in_one_stage() -> None:
    harness = Harness()

    def prepare() -> Plan:
        harness.clock += 1.0
        return plan(1.0, 2)

    def finish(_: Any) -> None:
        harness.clock += 8.0

    harness.batcher.submit(*one(prepare, finish, finish))
    harness.clock += 2.0
    harness.turns(1)
    harness.clock += 4.0
    harness.turns(1)
    assert harness.metrics.stages == {"condition": 1.0, "queue": 2.0, "denoise": 4.0, "render": 8.0}


def test_no_edit_is_taken_in_once_a_stop_has_begun_and_those_in_flight_are_done() -> None:
    harness = Harness()
    harness.submit("in flight", plan(1.0, 3))
    harness.submit("short", plan(1.0, 1))
    harness.intake.open = False
    harness.turns(1)
    with pytest.raises(StoppingError):
        harness.submit("late", plan(1.0, 1))
    assert harness.intake.held, "one is still in flight"
    harness.turns(2)
    assert set(harness.results) == {"in flight", "short"}
    assert not harness.intake.held
    assert harness.metrics.outcomes == {"done": 2, "stopped": 1}

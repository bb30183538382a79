"""In-flight batching with a fake denoiser: no Triton, no torch, no threads."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from families.plan import Plan, Rows, denoise_alone
from jobs import CancelledError, ExpiredError, Job, QueueFullError
from tests.edit.bench import Bench, Later, denoiser, plan


def test_an_edit_joins_and_leaves_while_a_long_one_runs() -> None:
    bench = Bench()
    bench.submit("long", plan(1.0, 10))
    bench.turns(3)
    bench.submit("short", plan(2.0, 2))
    bench.turns(2)
    assert list(bench.results) == ["short"]
    assert [edits for _, edits in bench.figures.calls] == [1, 1, 1, 2, 2]
    bench.turns(5)
    assert list(bench.results) == ["short", "long"]
    assert len(bench.figures.calls) == 10


def test_a_result_does_not_depend_on_neighbours() -> None:
    edits = {f"{i}": (float(i), 3 + i, 1 + i % 3, "wide" if i % 2 else "square") for i in range(8)}
    bench = Bench()
    for name, (tag, steps, rows, shape) in edits.items():
        bench.submit(name, plan(tag, steps, rows=rows, shape=shape))
    bench.turns(60)
    for name, (tag, steps, rows, _) in edits.items():
        assert bench.results[name] == denoise_alone(plan(tag, steps, rows=rows), denoiser)
    assert len(bench.figures.calls) < sum(steps for _, steps, _, _ in edits.values())


def test_rows_not_jobs_fill_a_call() -> None:
    bench = Bench(max_rows=7)
    for i in range(3):
        bench.submit(f"guided {i}", plan(1.0, 4, rows=3))
    bench.submit("plain", plan(1.0, 4))
    bench.turns(1)
    assert bench.figures.calls == [(7, 3)], "two guided edits and, in the row that is left, the plain one"


def test_no_shape_starves_and_the_oldest_goes_first() -> None:
    bench = Bench()
    bench.submit("square", plan(1.0, 4))
    bench.submit("wide", plan(1.0, 4, shape="wide"))
    served = []
    for name in ("square", "wide"):
        bench.turns(1)
        served.append(next(job.plan.shape for job in bench.batcher._ready if job.begun and job.plan.shape == name))
    assert served == ["square", "wide"]
    for i in range(3):  # a stream of newcomers of one shape
        bench.submit(f"more {i}", plan(1.0, 4))
        bench.turns(2)
    assert "wide" in bench.results
    assert bench.figures.calls.count((1, 1)) >= 4


def test_a_call_holds_no_more_than_max_rows_and_the_rest_wait_their_turn() -> None:
    bench = Bench(max_rows=3)
    for i in range(5):
        bench.submit(f"{i}", plan(1.0, 2))
    bench.turns(1)
    assert bench.figures.now == (3, 2), "three have begun, two wait"
    bench.turns(3)
    assert list(bench.results) == ["0", "1", "2", "3", "4"]


def test_a_cancelled_edit_leaves_within_one_step() -> None:
    bench = Bench()
    gone = False
    bench.submit("cancelled", plan(1.0, 50), cancelled=lambda: gone)
    bench.submit("stays", plan(1.0, 5))
    bench.turns(2)
    gone = True
    bench.turns(1)
    assert isinstance(bench.results["cancelled"], CancelledError)
    assert bench.figures.calls == [(2, 2), (2, 2), (1, 1)]
    bench.turns(2)
    assert "stays" in bench.results
    assert bench.figures.outcomes == {"cancelled": 1, "done": 1}


def test_an_expired_edit_never_reaches_the_denoiser() -> None:
    bench = Bench()
    bench.submit("late", plan(1.0, 5), deadline=10.0)
    bench.clock = 11.0
    bench.turns(1)
    assert isinstance(bench.results["late"], ExpiredError)
    assert bench.figures.calls == []


def test_who_is_gone_or_late_before_a_worker_is_free_is_answered_without_one() -> None:
    later = Later()
    bench = Bench(preparers=later)
    prepared: list[str] = []

    def prepare(name: str) -> Callable[[], Plan]:
        return lambda: prepared.append(name) or plan(1.0, 1)  # type: ignore[func-returns-value]

    failures: list[Exception] = []
    bench.batcher.submit(Job(prepare("gone"), print, failures.append, cancelled=lambda: True))
    bench.batcher.submit(Job(prepare("late"), print, failures.append, deadline=10.0))
    bench.batcher.submit(Job(prepare("stays"), print, failures.append))
    bench.clock = 11.0
    bench.batcher.ask()
    assert [type(failure) for failure in failures] == [CancelledError, ExpiredError]
    assert bench.figures.now == (0, 1)
    later.begin()
    bench.turns(1)
    assert prepared == ["stays"]
    assert bench.figures.outcomes == {"cancelled": 1, "expired": 1, "done": 1}


def test_what_only_preparing_needs_is_let_go_of() -> None:
    def holding(pictures: NDArray[Any]) -> Callable[[], Plan]:
        return lambda: plan(float(pictures[0]), 5)

    pictures = np.ones(1)
    kept = weakref.ref(pictures)
    bench = Bench()
    bench.batcher.submit(Job(holding(pictures), print, print))
    del pictures
    gc.collect()
    assert kept() is None
    bench.turns(5)
    assert bench.figures.outcomes == {"done": 1}


def test_an_edit_that_has_left_is_let_go_of() -> None:
    bench = Bench()
    job = Job(lambda: plan(1.0, 1), print, print)
    kept = weakref.ref(job)
    bench.batcher.submit(job)
    del job
    bench.turns(1)
    gc.collect()
    assert kept() is None


def test_a_full_queue_refuses_and_forgets() -> None:
    bench = Bench(max_jobs=2)
    bench.submit("first", plan(1.0, 1))
    bench.submit("second", plan(1.0, 1))
    with pytest.raises(QueueFullError):
        bench.submit("third", plan(1.0, 1))
    bench.turns(1)
    bench.submit("fourth", plan(1.0, 1))
    bench.turns(1)
    assert sorted(bench.results) == ["first", "fourth", "second"]
    assert bench.figures.outcomes["rejected"] == 1


def test_an_edit_that_no_call_can_hold_is_refused() -> None:
    bench = Bench(max_rows=2)
    bench.submit("guided", plan(1.0, 1, rows=3))
    assert "3 rows" in str(bench.results["guided"])
    assert bench.figures.now == (0, 0)


def test_an_edit_that_cannot_be_prepared_or_finished_fails_alone() -> None:
    def raising(*_: Any) -> Any:
        raise ArithmeticError("its own fault")

    bench = Bench()
    failures: list[Exception] = []
    bench.batcher.submit(Job(raising, raising, failures.append))
    bench.batcher.submit(Job(lambda: plan(1.0, 1), raising, failures.append))
    bench.submit("good", plan(1.0, 2))
    bench.turns(2)
    assert [str(failure) for failure in failures] == ["its own fault"] * 2
    assert bench.figures.outcomes == {"failed": 2, "done": 1}
    assert bench.figures.now == (0, 0)


def test_a_caller_who_left_before_the_end_is_not_rendered_for() -> None:
    bench = Bench()
    asked = iter([False, False, True])
    bench.submit("gone", plan(1.0, 1), cancelled=lambda: next(asked))
    bench.turns(1)
    assert isinstance(bench.results["gone"], CancelledError)


def test_a_failing_call_fails_its_own_edits_alone() -> None:
    def broken_for_wide(rows: Rows) -> NDArray[Any]:
        if rows["text"][0, 0] == 666.0:
            raise RuntimeError("engine")
        return denoiser(rows)

    bench = Bench(broken_for_wide)
    bench.submit("bad", plan(666.0, 3, shape="wide"))
    bench.submit("good", plan(1.0, 3))
    bench.turns(4)
    assert str(bench.results["bad"]) == "engine"
    assert isinstance(bench.results["good"], np.ndarray)
    bench.submit("next", plan(2.0, 2, shape="wide"))
    bench.turns(2)
    assert isinstance(bench.results["next"], np.ndarray)


def test_an_edit_that_fails_in_its_own_step_leaves_its_neighbours_be() -> None:
    bench = Bench()
    bench.submit("bad", plan(1.0, 5, fail_at=2))
    bench.submit("good", plan(1.0, 3))
    bench.turns(3)
    assert isinstance(bench.results["bad"], ArithmeticError)
    assert bench.results["good"] == denoise_alone(plan(1.0, 3), denoiser)


def test_a_prediction_of_the_wrong_size_is_a_failed_call() -> None:
    bench = Bench(lambda rows: denoiser(rows)[:0])
    bench.submit("edit", plan(1.0, 3))
    bench.turns(1)
    assert "0 rows to 1" in str(bench.results["edit"])


def test_every_second_of_an_edit_is_in_one_stage() -> None:
    bench = Bench()

    def prepare() -> Plan:
        bench.clock += 1.0
        return plan(1.0, 2)

    def finish(_: Any) -> None:
        bench.clock += 8.0

    bench.batcher.submit(Job(prepare, finish, finish))
    bench.clock += 2.0
    bench.turns(1)
    bench.clock += 4.0
    bench.turns(1)
    assert bench.figures.stages == {"condition": 1.0, "queue": 2.0, "denoise": 4.0, "render": 8.0}

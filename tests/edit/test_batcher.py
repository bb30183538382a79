"""In-flight batching with a fake denoiser: no Triton, no torch, no threads but where a test is about them."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batcher import Batcher, CancelledError, ExpiredError, Job, QueueFullError
from families.plan import Loop, Plan, Rows, denoise_alone


class Figures:
    """Keeps what the batcher reports."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.calls: list[tuple[int, int]] = []
        self.now = (0, 0)

    def in_flight(self, active: int, waiting: int) -> None:
        self.now = (active, waiting)

    def call(self, rows: int, edits: int, seconds: float) -> None:
        self.calls.append((rows, edits))

    def turn(self, seconds: float) -> None:
        pass

    def left(self, outcome: str) -> None:
        self.outcomes[outcome] += 1


def count_steps(latents: float, steps: int, rows: int, fail_at: int | None = None) -> Loop:
    """A loop whose result tells which predictions it was sent: each step adds the mean of its own rows."""
    for step in range(steps):
        if step == fail_at:
            raise ArithmeticError("this edit's own fault")
        prediction = yield {"sample": np.full((rows, 1), latents + step), "timestep": np.full((rows, 1), float(step))}
        latents += float(prediction.mean())
    return np.array([latents])


def plan(tag: float, steps: int, *, rows: int = 1, shape: Any = "square", fail_at: int | None = None) -> Plan:
    constant = {"text": np.full((rows, 2), tag)}
    return Plan(shape, rows, constant, steps, count_steps(tag, steps, rows, fail_at))


def denoiser(rows: Rows) -> NDArray[Any]:
    """Rows do not influence one another; every input does."""
    result: NDArray[Any] = rows["sample"] * 0.5 + rows["timestep"] + rows["text"][:, :1]
    return result


class Here(Executor):
    """Workers that do everything at once, on the caller's thread."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        work(*arguments, **named)
        return Future()


class Bench:
    """A batcher driven turn by turn, and what came of its jobs."""

    def __init__(
        self, denoise: Callable[[Rows], NDArray[Any]] = denoiser, max_rows: int = 8, max_jobs: int = 16
    ) -> None:
        self.figures = Figures()
        self.clock = 0.0
        self.results: dict[str, Any] = {}
        self.batcher = Batcher(
            denoise,
            max_rows=max_rows,
            max_jobs=max_jobs,
            figures=self.figures,
            workers=Here(),
            clock=lambda: self.clock,
        )

    def submit(self, name: str, plan: Plan, **options: Any) -> None:
        def answer(value: Any) -> None:
            assert name not in self.results, "answered twice"
            self.results[name] = value

        self.batcher.submit(Job(lambda: plan, answer, answer, **options))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.batcher.turn()


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


def test_an_answer_that_cannot_be_delivered_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def undeliverable(_: Any) -> None:
        raise ConnectionError("gone")

    bench = Bench()
    bench.batcher.submit(Job(lambda: plan(1.0, 1), undeliverable, undeliverable))
    bench.submit("other", plan(1.0, 1))
    bench.turns(1)
    assert "other" in bench.results
    assert "could not be delivered" in caplog.text


def test_the_thread_serves_many_threads_and_stops() -> None:
    figures = Figures()
    batcher = Batcher(denoiser, max_rows=8, max_jobs=64, figures=figures, workers=ThreadPoolExecutor(4))
    batcher.start()
    done: list[Any] = []
    arrived = threading.Semaphore(0)

    def answer(value: Any) -> None:
        done.append(value)
        arrived.release()

    senders = [
        threading.Thread(target=lambda i=i: batcher.submit(Job(lambda: plan(float(i), 5), answer, answer)))
        for i in range(20)
    ]
    for sender in senders:
        sender.start()
    assert all(arrived.acquire(timeout=10) for _ in senders)
    assert all(isinstance(value, np.ndarray) for value in done)
    batcher.stop()
    with pytest.raises(QueueFullError):
        batcher.submit(Job(lambda: plan(1.0, 1), answer, answer))


def test_stopping_fails_what_is_in_flight() -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(rows: Rows) -> NDArray[Any]:
        entered.set()
        release.wait(10)
        return denoiser(rows)

    results: list[Any] = []
    batcher = Batcher(slow, max_rows=8, max_jobs=8, figures=Figures(), workers=ThreadPoolExecutor(4))
    batcher.start()
    batcher.submit(Job(lambda: plan(1.0, 50), results.append, results.append))
    assert entered.wait(10)
    stopper = threading.Thread(target=batcher.stop)
    stopper.start()
    release.set()
    stopper.join(10)
    assert not stopper.is_alive()
    assert isinstance(results[0], CancelledError)

"""The batcher's own threads: answering, asking, stopping."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batcher import Batcher
from families.alone import denoise_alone
from families.errors import InvalidEditError
from families.interface import Plan, Tensors
from jobs import StoppingError
from rows import JoinedRows
from tests.edit.harness import TOKENS, Harness, Intake, Metrics, denoiser, one, plan

SECONDS = 60
"""How long anything is waited for."""


def make(
    denoise: Callable[[Tensors], NDArray[Any]], metrics: Metrics, max_jobs: int = 8, threads: int = 4, calls: int = 1
) -> Batcher:
    preparers, answerers = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
    return Batcher(
        JoinedRows(denoise),
        max_rows=8,
        max_tokens=8 * TOKENS,
        max_jobs=max_jobs,
        metrics=metrics,
        intake=Intake(),
        preparers=preparers,
        answerers=answerers,
        calls=calls,
    )


def test_an_answer_that_cannot_be_delivered_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def undeliverable(_: Any) -> None:
        raise ConnectionError("gone")

    harness = Harness()
    harness.batcher.submit(*one(lambda: plan(1.0, 1), undeliverable, undeliverable))
    harness.submit("other", plan(1.0, 1))
    harness.turns(1)
    assert "other" in harness.results
    assert "could not be delivered" in caplog.text


def test_the_thread_serves_many_threads_and_stops() -> None:
    metrics = Metrics()
    batcher = make(denoiser, metrics, max_jobs=64)
    batcher.start()
    done: list[Any] = []
    arrived = threading.Semaphore(0)

    def answer(value: Any) -> None:
        done.append(value)
        arrived.release()

    senders = [
        threading.Thread(target=lambda i=i: batcher.submit(*one(lambda: plan(float(i), 5), answer, answer)))
        for i in range(20)
    ]
    for sender in senders:
        sender.start()
    assert all(arrived.acquire(timeout=SECONDS) for _ in senders)
    assert all(isinstance(value, dict) for value in done)
    batcher.stop()
    with pytest.raises(StoppingError):
        batcher.submit(*one(lambda: plan(1.0, 1), answer, answer))


@pytest.mark.parametrize(("fail_at", "answer"), [(None, dict), (2, ArithmeticError)])
def test_no_answer_waits_behind_edits_that_have_not_begun(fail_at: int | None, answer: type) -> None:
    begun, release = threading.Event(), threading.Event()

    def stuck() -> Plan:
        begun.set()
        assert release.wait(SECONDS)
        return plan(1.0, 1)

    def slow(rows: Tensors) -> NDArray[Any]:
        assert begun.wait(SECONDS)
        return denoiser(rows)

    answers: list[Any] = []
    answered = threading.Event()

    def note(value: Any) -> None:
        answers.append(value)
        answered.set()

    batcher = make(slow, Metrics(), threads=1)
    batcher.start()
    batcher.submit(*one(lambda: plan(1.0, 5, fail_at=fail_at), note, note))
    batcher.submit(*one(stuck, print, print))
    assert answered.wait(SECONDS)
    assert isinstance(answers[0], answer)
    release.set()
    batcher.stop()


def test_a_caller_who_leaves_is_noticed_while_the_engine_computes() -> None:
    gone, noticed, release = threading.Event(), threading.Event(), threading.Event()
    calls: list[int] = []

    def cancelled() -> bool:
        if gone.is_set():
            noticed.set()
        return gone.is_set()

    def slow(rows: Tensors) -> NDArray[Any]:
        calls.append(len(rows["sample"]))
        gone.set()
        assert release.wait(SECONDS)
        return denoiser(rows)

    answered = threading.Event()
    metrics = Metrics()
    batcher = make(slow, metrics)
    batcher.start()
    batcher.submit(*one(lambda: plan(1.0, 50), print, lambda _: answered.set(), cancelled=cancelled))
    assert noticed.wait(SECONDS)
    with batcher._asking:  # what was noticed is noted
        release.set()
    assert answered.wait(SECONDS)
    batcher.stop()
    assert calls == [1], "it left before the next call"
    assert metrics.published > 0


def test_metrics_that_cannot_be_published_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    failed, answered = threading.Event(), threading.Event()

    class Unpublished(Metrics):
        def publish(self) -> None:
            if not failed.is_set():
                failed.set()
                raise ConnectionError("no Triton")

    def prepare() -> Plan:
        assert failed.wait(SECONDS)
        return plan(1.0, 5)

    batcher = make(denoiser, Unpublished())
    batcher.start()
    batcher.submit(*one(prepare, lambda _: answered.set(), print))
    assert answered.wait(SECONDS)
    batcher.stop()
    assert "no Triton" in caplog.text


def test_what_is_not_taken_in_is_published_though_nothing_is_in_flight() -> None:
    published: SimpleQueue[dict[str, int]] = SimpleQueue()

    class Published(Metrics):
        def publish(self) -> None:
            published.put(dict(self.outcomes))

    batcher = make(denoiser, Published(), max_jobs=2)
    batcher.start()
    batcher.turned_away(InvalidEditError("image_unreadable", "no picture"))
    assert published.get(timeout=SECONDS) == {"refused": 1}
    request, jobs = one(lambda: plan(1.0, 1), print, print)
    with pytest.raises(InvalidEditError, match="3 pictures"):
        batcher.submit(request, jobs * 3)
    assert published.get(timeout=SECONDS) == {"refused": 4}
    batcher.stop()


def stopped(batcher: Batcher, release: threading.Event) -> None:
    """Stop it while its calls are under way, which are released once the stop has begun."""
    stopper = threading.Thread(target=batcher.stop)
    with batcher._changed:
        stopper.start()
        assert batcher._changed.wait_for(lambda: batcher._stopping, SECONDS)
    release.set()
    stopper.join(SECONDS)
    assert not stopper.is_alive()


def test_stopping_fails_what_is_in_flight() -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(rows: Tensors) -> NDArray[Any]:
        entered.set()
        release.wait(SECONDS)
        return denoiser(rows)

    results: list[Any] = []
    batcher = make(slow, Metrics())
    batcher.start()
    batcher.submit(*one(lambda: plan(1.0, 50), results.append, results.append))
    assert entered.wait(SECONDS)
    stopped(batcher, release)
    assert isinstance(results[0], StoppingError)


class Engine:
    """Notes which groups, told by their columns, have calls under way at once; answers when it is told to."""

    def __init__(self) -> None:
        self.under_way: list[int] = []
        self.seen: list[tuple[int, ...]] = []
        self.rows: list[int] = []
        self.entered, self.release = threading.Semaphore(0), threading.Event()
        self._lock = threading.Lock()

    def __call__(self, rows: Tensors) -> NDArray[Any]:
        group = rows["text"].shape[1]
        with self._lock:
            self.under_way.append(group)
            self.seen.append(tuple(sorted(self.under_way)))
            self.rows.append(len(rows["sample"]))
        self.entered.release()
        assert self.release.wait(SECONDS)
        with self._lock:
            self.under_way.remove(group)
        return denoiser(rows)


def wide(tag: float, steps: int, columns: int = 3) -> Plan:
    return replace(plan(tag, steps), constant={"text": np.full((1, columns), tag)})


def test_one_group_is_handed_over_while_another_computes() -> None:
    engine, answers, done = Engine(), dict[str, Any](), threading.Semaphore(0)

    def answer(name: str) -> Callable[[Any], None]:
        return lambda value: (answers.update({name: value}), done.release())[0]

    batcher = make(engine, Metrics(), calls=2)
    batcher.start()
    plans = {"square": plan(1.0, 7), "wide": wide(2.0, 9), "wider": wide(3.0, 5, columns=4)}
    for name, one_plan in plans.items():
        batcher.submit(*one(lambda made=one_plan: made, answer(name), answer(name)))
    for _ in range(2):
        assert engine.entered.acquire(timeout=SECONDS)
    assert not engine.entered.acquire(timeout=0.05), "two calls are under way, and no third"
    engine.release.set()
    for _ in plans:
        assert done.acquire(timeout=SECONDS)
    batcher.stop()
    alone = {"square": plan(1.0, 7), "wide": wide(2.0, 9), "wider": wide(3.0, 5, columns=4)}
    assert answers == {name: denoise_alone(one_plan, denoiser) for name, one_plan in alone.items()}
    assert all(len(set(groups)) == len(groups) for groups in engine.seen), "no group has two"


def test_who_joins_a_group_under_way_shares_its_next_call() -> None:
    engine, done = Engine(), threading.Semaphore(0)
    batcher = make(engine, Metrics(), calls=2)
    batcher.start()
    batcher.submit(*one(lambda: plan(1.0, 3), lambda _: done.release(), print))
    assert engine.entered.acquire(timeout=SECONDS)
    for tag in (2.0, 3.0):
        batcher.submit(*one(lambda tag=tag: plan(tag, 2), lambda _: done.release(), print))
    batcher._preparers.shutdown()  # they are ready
    engine.release.set()
    for _ in range(3):
        assert done.acquire(timeout=SECONDS)
    batcher.stop()
    assert engine.rows == [1, 3, 3]


def test_stopping_waits_for_all_calls_and_fails_what_is_in_flight() -> None:
    engine, results = Engine(), list[Any]()
    batcher = make(engine, Metrics(), calls=2)
    batcher.start()
    for made in (plan(1.0, 50), wide(2.0, 50), plan(3.0, 50, shape="later")):
        batcher.submit(*one(lambda made=made: made, results.append, results.append))
    for _ in range(2):
        assert engine.entered.acquire(timeout=SECONDS)
    stopped(batcher, engine.release)
    assert [type(result) for result in results] == [StoppingError] * 3
    assert len(engine.rows) == 2

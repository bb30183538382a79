"""Tasks of one call on several threads: all of them are done, faults are told, and nobody waits for another's."""

import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from families.alone import denoise_alone
from side_by_side import LARGE_BYTES, SideBySide
from tests.edit.harness import Harness, denoiser, plan
from tests.edit.sharing import check, part, shared

SECONDS = 60
ALWAYS = SideBySide(4, large_bytes=0)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("tasks", [0, 1, 2, 9])
def test_every_task_is_done_once(threads: int, tasks: int) -> None:
    done: list[int] = []
    SideBySide(threads)([partial(done.append, number) for number in range(tasks)], LARGE_BYTES)
    assert sorted(done) == list(range(tasks))


def test_large_tasks_are_done_at_once_and_small_ones_by_the_caller() -> None:
    together, seen = threading.Barrier(2), list[int]()
    SideBySide(2)([lambda: together.wait(SECONDS)] * 2, LARGE_BYTES)
    SideBySide(2)([lambda: seen.append(threading.get_ident())] * 9, LARGE_BYTES - 1)
    assert set(seen) == {threading.get_ident()}


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
def test_a_fault_is_told_once_no_task_is_under_way(wrong: int) -> None:
    begun, ended = list[int](), list[int]()

    def task(number: int) -> None:
        begun.append(number)
        if number == wrong:
            raise ArithmeticError("one's own fault")
        ended.append(number)

    for threads in (1, 2, 4):
        with pytest.raises(ArithmeticError, match="one's own fault"):
            SideBySide(threads)([partial(task, number) for number in range(4)], LARGE_BYTES)
        assert sorted([*ended, wrong]) == sorted(begun)
        begun.clear()
        ended.clear()


def test_who_comes_while_all_threads_are_taken_does_all_by_itself() -> None:
    side_by_side, release = SideBySide(2), threading.Event()
    both, done = threading.Barrier(3), list[int]()

    def held() -> None:
        both.wait(SECONDS)
        assert release.wait(SECONDS)

    first = threading.Thread(target=side_by_side, args=([held] * 2, LARGE_BYTES))
    first.start()
    both.wait(SECONDS)
    side_by_side([partial(done.append, number) for number in range(3)], LARGE_BYTES)
    assert done == [0, 1, 2]
    release.set()
    first.join()


def test_edits_that_are_stepped_at_once_are_as_alone() -> None:
    edits = {f"{i}": (float(i), 3 + i, 1 + i % 3) for i in range(8)}
    harness = Harness(side_by_side=ALWAYS)
    for name, (tag, steps, rows) in edits.items():
        harness.submit(name, plan(tag, steps, rows=rows))
    harness.submit("wrong", plan(1.0, 9, fail_at=2))
    harness.turns(60)
    assert isinstance(harness.results.pop("wrong"), ArithmeticError)
    assert harness.results == {
        name: denoise_alone(plan(tag, steps, rows=rows), denoiser) for name, (tag, steps, rows) in edits.items()
    }
    assert harness.metrics.outcomes == {"done": 8, "failed": 1}
    assert harness.metrics.now == (0, 0)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True), min_size=1, max_size=12))
def test_rows_that_are_written_at_once_are_those_of_their_edits(calls: list[list[int]]) -> None:
    rows, _ = shared(ALWAYS)
    for step, edits in enumerate(calls):
        check(rows, [part(edit, 1 + (edit + step) % 3 if edit % 2 else 1, step) for edit in edits])

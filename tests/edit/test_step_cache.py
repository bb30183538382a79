"""Edits whose steps are cached, in the batcher: fewer rows and calls, and all else as with others."""

from dataclasses import replace
from typing import Any

import numpy as np

from families.alone import denoise_alone
from families.interface import Plan, Tensors
from families.step_cache import BALANCED, cached
from jobs import Job, Request
from reports import Reports
from tests.edit.harness import Harness, Later, plan

STEPS = 20


def saving(tag: float, rows: int = 3, steps: int = STEPS, shape: str = "square") -> Plan:
    """Of a denoiser whose predictions lie on a line."""
    return cached(plan(tag, steps, rows=rows, shape=shape), BALANCED)


def steady(rows: Tensors) -> Any:
    """Rows do not influence one another; what is predicted goes with the step."""
    return 0.01 * rows["timestep"] + rows["text"][:, :1]


def test_a_result_does_not_depend_on_neighbours() -> None:
    harness = Harness(steady)
    edits = {f"{i}": (float(i + 1), 12 + i, 1 + i % 3, "wide" if i % 2 else "square") for i in range(8)}
    for name, (tag, steps, rows, shape) in edits.items():
        made = saving(tag, rows, steps, shape) if int(name) % 3 else plan(tag, steps, rows=rows, shape=shape)
        harness.submit(name, made)
    harness.turns(160)
    for name, (tag, steps, rows, _) in edits.items():
        alone = saving(tag, rows, steps) if int(name) % 3 else plan(tag, steps, rows=rows)
        assert harness.results[name] == denoise_alone(alone, steady)


def test_a_call_has_the_rows_that_its_edits_need_of_it() -> None:
    harness = Harness(steady, max_rows=6)
    harness.submit("cached", saving(1.0))
    harness.turns(30)
    alone = [rows for rows, _ in harness.metrics.calls]
    assert alone == [3, 3, 3, 3, 1, 3, 1, 3, 1, 3, 1, 3]
    harness.submit("again", saving(1.0))
    harness.submit("whole", plan(2.0, STEPS, rows=3))
    harness.turns(30)
    together = harness.metrics.calls[len(alone) :]
    assert together[: len(alone)] == [(rows + 3, 2) for rows in alone]
    assert together[len(alone) :] == [(3, 1)] * (STEPS - len(alone))


def test_steps_that_are_foretold_are_counted() -> None:
    harness, told = Harness(steady), list[int]()
    for made in (saving(1.0), plan(1.0, STEPS)):
        request = Request(lambda made=made: [made], print)
        harness.batcher.submit(request, [Job(request, lambda _, foretold: told.append(foretold))])
        harness.turns(30)
    assert told == [2 * STEPS - len(harness.metrics.calls), 0] == [8, 0]


def test_rows_that_are_not_needed_are_others() -> None:
    """Two guided edits of which a call holds one: where one needs a single row, the other's three fit beside it."""
    harness = Harness(steady, max_rows=4)
    for name in ("one", "other"):
        harness.submit(name, saving(1.0))
    harness.turns(40)
    assert set(harness.results) == {"one", "other"}
    assert all(rows <= 4 for rows, _ in harness.metrics.calls)
    assert (4, 2) in harness.metrics.calls


def test_every_step_is_told_and_every_preview() -> None:
    harness, later, told = Harness(steady), Later(), list[Any]()

    def preview(step: int, latents: Tensors) -> None:
        told.append((step, sorted(latents)))

    previewed = plan(1.0, STEPS, rows=2)

    def with_previews() -> Any:
        step, prediction = next(previewed.loop), np.empty(0)
        try:
            while True:
                prediction = yield replace(step, preview=lambda: {"latents": np.zeros(1)})
                step = previewed.loop.send(prediction)
        except StopIteration as finished:
            return finished.value

    made = cached(replace(previewed, loop=with_previews()), BALANCED)
    request = Request(lambda: [made], print)
    reports = Reports(later, 3, told.append, preview)
    steps: list[int] = []
    note = reports.note

    def noted(step: int, *more: Any) -> None:
        steps.append(step)
        note(step, *more)

    reports.note = noted  # type: ignore[method-assign]
    harness.batcher.submit(request, [Job(request, lambda *_: told.append("done"), reports)])
    harness.turns(30)
    later.begin()
    assert steps == list(range(1, STEPS))
    assert [one for one in told if isinstance(one, tuple)] == [(5, ["latents"]), (10, ["latents"]), (15, ["latents"])]
    assert len(harness.metrics.calls) < STEPS


def test_a_loop_that_fails_where_there_is_no_call_fails_alone() -> None:
    harness = Harness(steady)
    harness.submit("fails", cached(plan(1.0, STEPS, rows=2, fail_at=5), BALANCED))
    harness.submit("other", plan(2.0, STEPS, rows=2))
    harness.turns(30)
    assert isinstance(harness.results["fails"], ArithmeticError)
    assert harness.results["other"] == denoise_alone(plan(2.0, STEPS, rows=2), steady)

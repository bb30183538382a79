"""What is told of an edit while it is denoised: the latest step, previews, in order, and never by the batcher."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from families.errors import PICTURE_REFUSED, InvalidEditError
from families.interface import Loop, Step, Tensors
from jobs import Job, Request
from reports import Reports, preview_steps
from tests.edit.harness import Harness, Later, plan


@pytest.mark.parametrize(
    ("previews", "steps", "after"),
    [(0, 8, ()), (1, 8, (4,)), (3, 8, (2, 4, 6)), (3, 50, (12, 25, 38)), (3, 4, (1, 2, 3)), (3, 2, (1,)), (3, 1, ())],
)
def test_previews_are_evenly_spread_and_never_of_the_last_step(
    previews: int, steps: int, after: tuple[int, ...]
) -> None:
    assert preview_steps(previews, steps) == set(after)


class Told:
    """What was told, on workers that wait until they are let."""

    def __init__(self, previews: int = 0, *, progress: bool = True, fault: Exception | None = None) -> None:
        self.later, self.told, self._fault = Later(), list[Any](), fault
        self.reports = Reports(self.later, previews, self.told.append if progress else None, self._preview)

    def _preview(self, step: int, preview: Tensors) -> None:
        if self._fault:
            raise self._fault
        self.told.append((step, float(preview["latents"][0])))

    def note(self, *steps: int) -> None:
        for step in steps:
            self.reports.note(step, 8, lambda step=step: {"latents": np.array([step])})  # type: ignore[misc]


def test_the_latest_step_wins_and_every_preview_is_told_in_its_place() -> None:
    told = Told(previews=3)
    told.note(1, 2, 3)
    assert told.told == []
    told.later.begin()
    assert told.told == [(2, 2.0), 3]
    told.note(4, 5)
    told.note(6, 7)
    told.later.begin()
    assert told.told == [(2, 2.0), 3, (4, 4.0), (6, 6.0), 7]


def test_previews_alone_tell_no_steps() -> None:
    told = Told(previews=1, progress=False)
    told.note(*range(1, 8))
    told.later.begin()
    assert told.told == [(4, 4.0)]


@pytest.mark.parametrize("fault", [InvalidEditError(PICTURE_REFUSED, "no"), ConnectionError("gone")])
def test_a_preview_that_cannot_be_told_harms_nothing(fault: Exception) -> None:
    told = Told(previews=1, fault=fault)
    told.note(4, 5)
    told.later.begin()
    told.note(6)
    told.later.begin()
    assert told.told == [5, 6]


def previewed(tag: float, steps: int, asked: list[int]) -> Callable[[], Loop]:
    """A loop that notes which of its previews are computed."""

    def loop() -> Loop:
        for step in range(steps):

            def preview(step: int = step) -> Tensors:
                asked.append(step)
                return {"latents": np.array([step])}

            inputs = {"sample": np.full((1, 1), tag), "timestep": np.zeros((1, 1))}
            yield Step(inputs, preview if step else None)
        return {"latents": np.array([tag])}

    return loop


def test_an_edit_tells_its_steps_from_a_workers_thread_and_its_picture_last() -> None:
    harness, told, asked = Harness(), Told(previews=1), list[int]()
    made = replace(plan(1.0, 4), loop=previewed(1.0, 4, asked)())
    request = Request(lambda: [made], print)
    harness.batcher.submit(request, [Job(request, lambda *_: told.told.append("done"), told.reports)])
    for _ in range(3):
        harness.turns(1)
        told.later.begin()
    harness.turns(1)
    assert told.told == [1, (2, 2.0), 2, 3, "done"]
    assert asked == [2], "no preview is computed that nobody wants"


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("low", [False, True])
def test_previews_are_left_out_while_edits_wait_for_a_place(low: bool, prepared: bool) -> None:
    later, told, asked = Later(), Told(previews=1), list[int]()
    harness = Harness(max_rows=1, preparers=later)
    made = replace(plan(1.0, 4), loop=previewed(1.0, 4, asked)())
    request = Request(lambda: [made], print)
    harness.batcher.submit(request, [Job(request, print, told.reports)])
    later.begin()
    harness.submit("waits", plan(2.0, 4), low=low)
    if prepared:
        later.begin()
    harness.turns(2)
    assert asked == ([2] if low else [])

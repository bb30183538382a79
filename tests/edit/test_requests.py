"""Requests of several pictures: conditioned once, denoised together, and one fate."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from families.alone import denoise_alone
from families.errors import InvalidEditError
from families.interface import Plan
from jobs import CancelledError, ExpiredError, Job, QueueFullError, Request
from tests.edit.harness import Harness, Later, denoiser, plan


class Caller:
    """A request of as many pictures as plans, and what its caller is told."""

    def __init__(self, plans: Sequence[Plan], **options: Any) -> None:
        self.told: list[Any] = []
        self.conditioned: list[Plan] = []
        self.prepared = 0
        self._plans = plans
        request = Request(self._prepare, self.told.append, conditioned=self.conditioned.append, **options)
        self.asked = request, [Job(request, self._finish(index)) for index in range(len(plans))]

    def _prepare(self) -> Sequence[Plan]:
        self.prepared += 1
        return self._plans

    def _finish(self, index: int) -> Callable[[Any, int], None]:
        return lambda done, _: self.told.append((index, done))


def seeds(count: int, steps: int = 3, **options: Any) -> list[Plan]:
    return [plan(float(tag), steps, **options) for tag in range(count)]


def test_the_pictures_of_a_request_are_prepared_once_and_share_calls() -> None:
    harness, caller = Harness(), Caller(seeds(4))
    harness.batcher.submit(*caller.asked)
    assert harness.metrics.now == (0, 4), "each takes a place"
    assert caller.conditioned == [caller._plans[0]]
    harness.turns(3)
    assert caller.prepared == 1
    assert harness.metrics.calls == [(4, 4)] * 3
    assert caller.told == [(i, denoise_alone(one, denoiser)) for i, one in enumerate(seeds(4))]
    assert harness.metrics.outcomes == {"done": 4}
    assert harness.metrics.now == (0, 0)


def test_what_does_not_fit_a_call_waits_for_its_own() -> None:
    harness, caller = Harness(max_rows=3), Caller(seeds(5, steps=1))
    harness.batcher.submit(*caller.asked)
    harness.turns(2)
    assert harness.metrics.calls == [(3, 3), (2, 2)]
    assert [index for index, _ in caller.told] == [0, 1, 2, 3, 4]


def test_one_preparer_is_enough_for_all_pictures() -> None:
    later = Later()
    harness, caller = Harness(preparers=later), Caller(seeds(10))
    harness.batcher.submit(*caller.asked)
    assert len(later._kept) == 1
    later.begin()
    assert harness.metrics.stages.keys() == {"condition"}


def test_a_picture_that_fails_ends_all_and_is_told_once() -> None:
    harness = Harness()
    caller = Caller([*seeds(2, steps=5), plan(7.0, 5, fail_at=2)])
    harness.batcher.submit(*caller.asked)
    harness.submit("other", plan(1.0, 5))
    harness.turns(5)
    assert [str(told) for told in caller.told] == ["this edit's own fault"]
    assert "other" in harness.results
    assert harness.metrics.outcomes == {"failed": 3, "done": 1}
    assert harness.metrics.now == (0, 0)
    assert harness.metrics.calls[2:] == [(1, 1)] * 3, "the others left with it"


def test_what_was_done_before_another_failed_is_done() -> None:
    harness, caller = Harness(), Caller([plan(1.0, 1), plan(7.0, 5, fail_at=2)])
    harness.batcher.submit(*caller.asked)
    harness.turns(3)
    assert caller.told[0][0] == 0
    assert str(caller.told[1]) == "this edit's own fault"
    assert harness.metrics.outcomes == {"done": 1, "failed": 1}


@pytest.mark.parametrize(("options", "error"), [({"cancelled": True}, CancelledError), ({"late": True}, ExpiredError)])
def test_who_is_gone_or_late_leaves_with_all_pictures(options: dict[str, bool], error: type) -> None:
    harness, gone = Harness(), False
    caller = Caller(seeds(3, steps=9), cancelled=lambda: gone, deadline=10.0)
    harness.batcher.submit(*caller.asked)
    harness.turns(1)
    gone, harness.clock = "cancelled" in options, 11.0 if "late" in options else 0.0
    harness.turns(1)
    assert [type(told) for told in caller.told] == [error]
    assert harness.metrics.calls == [(3, 3)]
    assert harness.metrics.now == (0, 0)


def test_a_request_that_waits_for_a_preparer_leaves_whole() -> None:
    later = Later()
    harness, caller = Harness(preparers=later), Caller(seeds(3), cancelled=lambda: True)
    harness.batcher.submit(*caller.asked)
    harness.batcher.ask()
    assert [type(told) for told in caller.told] == [CancelledError]
    assert harness.metrics.outcomes == {"cancelled": 3}
    later.begin()
    assert caller.prepared == 0


def test_all_pictures_get_places_or_none() -> None:
    harness = Harness(max_jobs=4)
    harness.submit("first", plan(1.0, 1))
    with pytest.raises(QueueFullError):
        harness.batcher.submit(*Caller(seeds(4)).asked)
    assert harness.metrics.now == (0, 1)
    harness.batcher.submit(*Caller(seeds(3)).asked)
    assert harness.metrics.now == (0, 4)
    assert harness.metrics.outcomes == {"rejected": 4}


def test_a_request_that_there_are_never_places_for_is_its_callers_fault() -> None:
    with pytest.raises(InvalidEditError, match="5 pictures are asked for, and 4 can be made"):
        Harness(max_jobs=4).batcher.submit(*Caller(seeds(5)).asked)


def test_a_picture_that_no_call_can_hold_refuses_the_request_before_it_has_begun() -> None:
    harness, caller = Harness(max_rows=2), Caller(seeds(2, rows=3))
    harness.batcher.submit(*caller.asked)
    assert [told.code for told in caller.told] == ["edit_too_large"]
    assert caller.conditioned == []
    assert harness.metrics.outcomes == {"refused": 2}

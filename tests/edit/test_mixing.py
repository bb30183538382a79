"""Edits of different lengths in one call: which come along, that none waits for ever, and none is changed by it."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from choosing import Turns
from families.alone import denoise_alone
from families.interface import Loop, Plan, Step, Tensors
from families.qwen_image_edit.table import TEXT_STEP
from families.step_cache import BALANCED, cached
from jobs import Job, Request
from mixing import CALL_TOKENS
from rows import Denoiser, Part
from tests.edit.harness import Harness, denoiser, plan

MOST = 100 * CALL_TOKENS
PADDED = {"target": ("sample",), "text": ("text",)}


def stepping(tag: float, steps: int, rows: int, target: int) -> Loop:
    """Each step adds what was predicted of its own tokens."""
    sample = np.full((rows, target, 1), tag)
    for step in range(steps):
        prediction = yield Step({"sample": sample, "timestep": np.full((rows, 1), float(step))})
        sample = sample + prediction[:, :target]
    return {"latents": sample}


def uneven(target: int, text: int = 1, *, tag: float = 1.0, steps: int = 1000, rows: int = 1, wider: int = 0) -> Plan:
    """An edit of so many tokens, which bears padding. `wider`: of its text, as of another model."""
    constant = {"text": np.full((rows, text, 1 + wider), tag)}
    loop, tokens = stepping(tag, steps, rows, target), target + text
    return Plan(constant, loop, tokens, steps, (text, 0, target), PADDED)


def attending(rows: Tensors) -> NDArray[Any]:
    """Every token of a row counts, and zeros count for nothing."""
    seen = rows["text"].sum(axis=(1, 2)) + rows["sample"].sum(axis=(1, 2)) / 64
    found: NDArray[Any] = rows["sample"] / 2 + (seen / 64)[:, None, None] + rows["timestep"][:, :, None] / 8
    return found


class Calls:
    """Calls that overlap: each is chosen before the one before it is done. Jobs are named by letters."""

    def __init__(self, max_rows: int = 8, max_tokens: int = MOST) -> None:
        self.turns, self.ready, self._names = Turns(max_rows, max_tokens), list[Job](), dict[Job, str]()
        self.under_way: list[tuple[Job, ...]] = []

    def join(self, letters: str, *lengths: int, **options: Any) -> None:
        for letter in letters:
            job = Job(Request(list, print, low=letter.islower()), print)
            job.planned(uneven(*lengths, **options), ())
            self.ready.append(job)
            self._names[job] = letter

    def begin(self) -> str:
        possible, jobs = self.turns.possible(self.ready), self.turns.choose(self.ready)
        assert possible == bool(jobs)
        if jobs:
            self.under_way.append(jobs)
        return "".join(self._names[job] for job in jobs)

    def end(self, place: int = 0) -> None:
        self.turns.done(self.under_way.pop(place))

    def turn(self) -> str:
        found = self.begin()
        if found:
            self.end()
        return found


def test_a_group_comes_along_where_its_padding_costs_less_than_its_call() -> None:
    calls = Calls()
    calls.join("A", 1000)
    calls.join("B", 1000 - CALL_TOKENS)
    calls.join("C", 1000 + CALL_TOKENS + 1)
    assert [calls.turn() for _ in range(4)] == ["AB", "C", "AB", "C"]


def test_the_padding_of_those_it_joins_counts_too() -> None:
    calls = Calls()
    calls.join("AB", 1000)
    calls.join("C", 1000 + CALL_TOKENS // 2 + 1)
    assert [calls.turn() for _ in range(2)] == ["AB", "C"]


def test_each_call_that_is_saved_pays_for_more() -> None:
    calls = Calls()
    for place, letter in enumerate("ABCD"):
        calls.join(letter, 1000 + place * CALL_TOKENS // 2)
    assert calls.turn() == "ABCD", "padding of 3/2 + 2/2 + 1/2 calls for three that are saved"


def test_guided_edits_whose_texts_differ_by_a_step_of_their_lengths_share_a_call() -> None:
    calls = Calls(max_tokens=1 << 20)
    for letter, text in (("A", 256), ("B", 256 + TEXT_STEP), ("C", 256 + 3 * TEXT_STEP)):
        calls.join(letter, 8192, text, rows=2)
    assert [calls.turn(), calls.turn()] == ["AB", "C"]


def test_a_group_comes_along_whole_or_not_at_all() -> None:
    calls = Calls(max_rows=3)
    calls.join("A", 100)
    calls.join("BCD", 101)
    calls.join("EF", 102)
    assert [calls.turn() for _ in range(4)] == ["AEF", "BCD", "AEF", "BCD"]


def test_padding_counts_towards_the_most_tokens_of_a_call() -> None:
    for most, expected in ((2 * (50 + 40), "AB"), (2 * (50 + 40) - 1, "A")):
        calls = Calls(max_tokens=most)
        calls.join("A", 50, 20)
        calls.join("B", 30, 40)
        assert calls.turn() == expected


def test_those_of_other_kinds_do_not_come_along() -> None:
    calls = Calls()
    calls.join("A", 100)
    calls.join("B", 100, wider=1)
    assert [calls.turn(), calls.turn()] == ["A", "B"]


def test_equal_lengths_are_one_group_whatever_their_sizes() -> None:
    calls = Calls(max_rows=2)
    calls.join("A", 100)
    calls.join("B", 100)
    assert calls.turn() == "AB"


def test_low_priority_comes_along_after_all_others_and_past_none() -> None:
    calls = Calls(max_rows=3)
    calls.join("a", 100)
    calls.join("B", 101)
    calls.join("C", 102)
    assert calls.turn() == "BCa"
    calls = Calls(max_rows=2)
    calls.join("A", 100)
    calls.join("BC", 101)
    calls.join("d", 101)
    assert [calls.turn(), calls.turn()] == ["A", "BC"], "what there is room for in the first has its turn before"


def test_who_could_come_along_waits_for_the_call_under_way_and_for_no_other() -> None:
    calls = Calls()
    calls.join("A", 100)
    calls.join("X", 100, wider=1)
    assert [calls.begin(), calls.begin()] == ["A", "X"]
    calls.join("B", 101)
    assert calls.begin() == "", "its call would be a part of what one call can hold"
    calls.end(1)
    assert calls.begin() == "X"
    calls.end(0)
    assert calls.begin() == "BA"


def test_who_has_waited_once_does_not_wait_again() -> None:
    calls = Calls(max_rows=2)
    calls.join("A", 100)
    assert calls.begin() == "A"
    calls.join("B", 101)
    assert calls.begin() == ""
    calls.join("C", 100)  # there is no room beside A any more
    calls.join("D", 102)
    calls.end()
    assert [calls.begin(), calls.begin()] == ["BD", "AC"]


lengths = st.tuples(st.integers(1, 2 * CALL_TOKENS), st.sampled_from([1, 40]), st.integers(1, 3), st.booleans())


@given(st.lists(lengths, min_size=1, max_size=10), st.lists(st.booleans(), min_size=40, max_size=40))
def test_nobody_starves(edits: list[tuple[int, int, int, bool]], ends_first: list[bool]) -> None:
    """Two calls under way at once, of which either ends first."""
    calls, made = Calls(max_rows=4), Counter[Hashable]()
    for target, text, rows, other in edits:
        calls.join("A", target, text, rows=rows, wider=int(other))
    groups = {job.group: None for job in calls.ready}
    for first in ends_first:
        while calls.begin():
            made.update({job.group for job in calls.under_way[-1]})
        calls.end(0 if first else -1)
    turns = len(ends_first)
    assert all(made[group] >= turns // (2 * len(groups) + 2) for group in groups), made


def finished(harness: Harness, plans: dict[str, Plan]) -> None:
    for name, each in plans.items():
        harness.submit(name, each)
    harness.turns(60)


EDITS = {"a": (7, 3, 2), "b": (9, 1, 5), "c": (4, 8, 3), "d": (9, 1, 1), "e": (2, 2, 7)}
"""Tokens of the target and of the text, steps."""


def plans() -> dict[str, Plan]:
    return {
        name: uneven(target, text, tag=place + 1.0, steps=steps, rows=1 + place % 2)
        for place, (name, (target, text, steps)) in enumerate(EDITS.items())
    }


def test_a_result_does_not_depend_on_neighbours_of_other_lengths() -> None:
    harness = Harness(attending, max_tokens=MOST)
    finished(harness, plans())
    for name, each in plans().items():
        alone = denoise_alone(each, attending)["latents"]
        np.testing.assert_allclose(harness.results[name]["latents"], alone, rtol=1e-12)
    assert len(harness.metrics.calls) == max(steps for _, _, steps in EDITS.values()), "all share each call"


class Reused:
    """A denoiser whose predictions are in memory that is gone once their group is forgotten."""

    def __init__(self, inner: Denoiser) -> None:
        self._inner, self._memory = inner, dict[Hashable, list[NDArray[Any]]]()

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        found = [np.array(each) for each in self._inner(parts)]
        self._memory.setdefault(parts[0].group, []).extend(found)
        return found

    def forget(self, group: Hashable) -> None:
        self._inner.forget(group)
        for each in self._memory.pop(group, []):
            each[...] = np.nan


@pytest.mark.parametrize("steps", [(1, 3), (3, 1)])
def test_the_memory_of_a_call_stays_until_all_its_edits_are_a_step_on(steps: tuple[int, int]) -> None:
    harness = Harness(attending, max_tokens=MOST, around=Reused)
    made = {str(count): (5 + place, count) for place, count in enumerate(steps)}
    finished(harness, {name: uneven(target, steps=count) for name, (target, count) in made.items()})
    for name, (target, count) in made.items():
        alone = denoise_alone(uneven(target, steps=count), attending)["latents"]
        np.testing.assert_allclose(harness.results[name]["latents"], alone, rtol=1e-12)
    assert harness.metrics.calls[0] == (2, 2)


def test_those_that_bear_no_padding_are_as_before() -> None:
    harness = Harness()
    finished(harness, {"one": plan(1.0, 3), "two": plan(2.0, 3, shape="wide")})
    assert harness.metrics.calls == [(1, 1)] * 6
    assert harness.results["one"] == denoise_alone(plan(1.0, 3), denoiser)


def nearly_still(rows: Tensors) -> NDArray[Any]:
    """As `attending`, of predictions that lie nearly on a line."""
    found: NDArray[Any] = attending(rows) / 1000 + rows["timestep"][:, :, None] / 8
    return found


def test_cached_edits_of_different_lengths_share_calls_and_are_none_the_less_their_own() -> None:
    """What pads a prediction is neither kept nor judged by: the decisions of each are those of the edit alone."""
    asked = [(8, 1, 1, 20), (9, 2, 2, 20), (12, 1, 2, 13), (7, 3, 1, 20)]  # the longest leaves before the others
    edits: list[dict[str, Any]] = [
        {"target": target, "text": text, "rows": rows, "tag": float(place + 1), "steps": steps}
        for place, (target, text, rows, steps) in enumerate(asked)
    ]
    harness = Harness(nearly_still, max_rows=8, max_tokens=MOST)
    for name, edit in enumerate(edits):
        harness.submit(str(name), cached(uneven(**edit), BALANCED))
    harness.turns(60)
    assert max(edits_of_call for _, edits_of_call in harness.metrics.calls) >= 3
    assert sum(rows for rows, _ in harness.metrics.calls) < sum(rows * steps for *_, rows, steps in asked)
    for name, edit in enumerate(edits):
        alone = denoise_alone(cached(uneven(**edit), BALANCED), nearly_still)["latents"]
        assert harness.results[str(name)]["latents"].shape == alone.shape
        assert np.allclose(harness.results[str(name)]["latents"], alone)

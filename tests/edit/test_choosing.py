"""Whose turn it is, where some edits are of low priority."""

from typing import Any

from choosing import LOW_EVERY, Turns
from jobs import Job, Request
from tests.edit.harness import Harness, Later, plan


def served(harness: Harness, turns: int) -> list[str]:
    """Which edits each turn served: the letters of those that have made a step."""

    def steps() -> dict[float, int]:
        return {job.plan.constant["text"][0, 0]: job.steps for job in harness.batcher._ready}

    made, found = steps(), []
    for _ in range(turns):
        harness.turns(1)
        now = steps()
        found.append("".join(chr(int(tag)) for tag in sorted(now) if now[tag] > made.get(tag, 0)))
        made = now
    return found


def submit(harness: Harness, letters: str, **options: Any) -> None:
    for letter in letters:
        low, group = letter.islower(), options.get("shape", "square")
        harness.submit(letter, plan(float(ord(letter)), 1000, shape=group), low=low)


def test_low_priority_takes_what_others_leave_free() -> None:
    harness = Harness(max_rows=3)
    submit(harness, "abcXY")
    assert served(harness, 1) == ["XYa"]


def test_low_priority_has_calls_of_its_own_where_there_is_nothing_else() -> None:
    harness = Harness(max_rows=2)
    submit(harness, "abc")
    assert served(harness, 2) == ["ab", "ab"]


def test_low_priority_never_starves() -> None:
    harness = Harness(max_rows=2)
    submit(harness, "a")
    submit(harness, "bVW", shape="wide")
    submit(harness, "XYZ")
    turns = served(harness, 4 * LOW_EVERY)
    for place in range(0, len(turns), 2 * LOW_EVERY):
        assert {"a", "b"} <= set("".join(turns[place : place + 2 * LOW_EVERY])), turns


def test_one_call_in_eight_is_led_by_low_priority() -> None:
    harness = Harness(max_rows=2)
    submit(harness, "a")
    submit(harness, "XY")
    assert served(harness, 2 * LOW_EVERY) == (["XY"] * (LOW_EVERY - 1) + ["Xa"]) * 2


def test_low_priority_is_prepared_after_all_others_and_in_every_eighth_place() -> None:
    """A folder of pictures, of which most wait for a preparer, keeps nobody else waiting."""
    later = Later()
    harness = Harness(max_rows=16, preparers=later)
    submit(harness, "abc")
    submit(harness, "STUVWXYZ")
    later.begin()
    prepared = [chr(int(job.plan.constant["text"][0, 0])) for job in harness.batcher._ready]
    assert "".join(prepared) == "STUVWXYaZbc"


def test_who_comes_late_of_normal_priority_goes_first() -> None:
    harness = Harness(max_rows=2)
    submit(harness, "ab")
    assert served(harness, 1) == ["ab"]
    submit(harness, "XY", shape="wide")
    assert served(harness, 3) == ["XY"] * 3


class Calls:
    """Calls that overlap: each is chosen before the one before it is done."""

    def __init__(self, *jobs: tuple[str, str]) -> None:
        self.turns, self.ready = Turns(2, 100), [self._job(letter, group) for letter, group in jobs]
        self._under_way: list[tuple[Job, ...]] = []

    def _job(self, letter: str, group: str) -> Job:
        job = Job(Request(list, print, low=letter.islower()), print)
        job.planned(plan(float(ord(letter)), 1000, shape=group), ())
        return job

    def begin(self) -> str:
        possible, jobs = self.turns.possible(self.ready), self.turns.choose(self.ready)
        assert possible == bool(jobs)
        if jobs:
            self._under_way.append(jobs)
        return "".join(chr(int(job.plan.constant["text"][0, 0])) for job in jobs)

    def end(self) -> None:
        self.turns.done(self._under_way.pop(0))


def test_two_groups_alternate_and_a_third_is_not_starved() -> None:
    calls = Calls(("A", "square"), ("B", "wide"), ("C", "tall"))
    found = [calls.begin(), calls.begin()]
    for _ in range(7):
        calls.end()
        found.append(calls.begin())
    assert found == ["A", "B", "C"] * 3


def test_no_part_of_a_group_is_called_beside_the_rest() -> None:
    calls = Calls(("A", "square"), ("B", "square"), ("C", "square"))
    assert [calls.begin(), calls.begin()] == ["AB", ""]
    calls.end()
    assert calls.begin() == "AB"


def test_low_priority_is_not_called_while_others_are() -> None:
    calls, found = Calls(("a", "square"), ("X", "wide")), ""
    while len(found) < 2 * LOW_EVERY:
        found += calls.begin() + calls.begin()
        calls.end()
    assert found == ("X" * (LOW_EVERY - 1) + "a") * 2


def test_low_priority_alone_alternates_too() -> None:
    calls = Calls(("a", "square"), ("b", "wide"))
    assert [calls.begin(), calls.begin(), calls.begin()] == ["a", "b", ""]

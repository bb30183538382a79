"""What `bench streams` makes of what it measures; nothing is timed here."""

import statistics

import pytest

from bench import streams


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    asked: list[str] = []
    taken = streams.rounds({name: lambda name=name: asked.append(name) for name in ("a", "b", "c")}, 3)
    assert "".join(asked) == "abccbaabccba"
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_differences_are_taken_within_a_round() -> None:
    more = streams.added({"edit": [1.5, 3.25, 2.0], "edit_stream": [1.0, 3.0, 2.0]}, "edit", "edit_stream")
    assert more == [0.5, 0.25, 0.0]
    assert statistics.median(more) == 0.25


@pytest.mark.parametrize(("added", "edit", "held"), [(0.0019, 0.1, True), (0.0021, 0.1, False), (0.05, 5.0, True)])
def test_the_bound_is_a_millisecond_and_a_hundredth_of_the_edit(added: float, edit: float, held: bool) -> None:
    assert streams.within_bound([added], [edit]) is held


def test_medians_stand_between_their_quartiles() -> None:
    assert streams.quartiles([1, 2, 3, 4, 5], " ms") == "3.00 (2.00 to 4.00) ms"
    assert streams.quartiles([1.5], " s") == "1.50 (1.50 to 1.50) s"

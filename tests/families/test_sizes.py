"""The rule of sizes: of the answer, of what is worked at, and of how a picture stands in a frame."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from families.flux_kontext.table import preferred
from families.sizes import Framed, Size, WorkingSize, exactly, framed, own_rule, same_aspect, size_rule, within

CASES = settings(max_examples=int(os.environ.get("GENERATED_CASES", "100")), deadline=None)
BUDGETS = st.integers(64 * 64, 2048 * 2048)
SIDES = st.integers(1, 16_000)
RULES = st.builds(
    lambda budget, multiple: WorkingSize(budget, multiple, 64, int((4 * budget) ** 0.5) // multiple * multiple),
    BUDGETS,
    st.sampled_from([8, 16, 32]),
)


def thin(size: Size) -> bool:
    """More than any picture may be."""
    return max(size) > 1000 * min(size)


@CASES
@given(st.tuples(SIDES, SIDES).filter(lambda size: not thin(size)), BUDGETS)
def test_the_answer_is_the_largest_of_its_aspect_within_the_budget(own: Size, budget: int) -> None:
    answer = within(own, budget)
    if own[0] * own[1] <= budget:
        assert answer == own
        return
    assert answer[0] * answer[1] <= budget
    assert same_aspect(answer, own)
    exact = (budget / (own[0] * own[1])) ** 0.5
    assert all(abs(side - mine * exact) < 1 for side, mine in zip(answer, own, strict=True))


@CASES
@given(RULES, st.tuples(st.integers(4, 128), st.integers(4, 128)))
def test_sizes_of_multiples_are_answered_and_worked_at_as_they_are(rule: WorkingSize, multiples: Size) -> None:
    own = (max(64, multiples[0] * rule.multiple), max(64, multiples[1] * rule.multiple))
    if own[0] * own[1] <= rule.max_pixels and max(own) <= rule.max_side:
        assert within(own, rule.max_pixels) == rule.of(*own) == own
        assert framed(own, own, own) == exactly(own)


@CASES
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), RULES)
def test_a_picture_in_a_frame_is_whole_and_keeps_its_aspect(own: Size, answer: Size, rule: WorkingSize) -> None:
    frame = rule.of(*answer)
    seen = framed(own, answer, frame)
    width, height = seen.of(*own)
    assert 1 <= width <= frame[0]
    assert 1 <= height <= frame[1]
    assert frame[0] == width or frame[1] == height, "it is as large as it can be"
    if same_aspect(answer, own):
        assert (width, height) == frame, "off by a pixel at the most"
        return
    across, down = width * answer[0] / frame[0], height * answer[1] / frame[1]  # in the answer's pixels
    pixel = max(answer[0] / frame[0], answer[1] / frame[1], 1)
    scale = min(answer[0] / own[0], answer[1] / own[1])
    assert abs(across - own[0] * scale) <= pixel
    assert abs(down - own[1] * scale) <= pixel


@pytest.mark.parametrize(
    ("one", "own", "same"),
    [
        ((500, 375), (4000, 3000), True),
        ((683, 384), (1920, 1080), True),
        ((682, 384), (1920, 1080), True),
        ((680, 384), (1920, 1080), False),
        ((100, 100), (1000, 990), True),
        ((100, 98), (1000, 1000), False),
        ((384, 683), (1920, 1080), False),
    ],
)
def test_aspects_that_differ_by_a_pixels_rounding_are_the_same(one: Size, own: Size, same: bool) -> None:
    assert same_aspect(one, own) is same


def test_rules_come_back_from_json() -> None:
    for rule in (WorkingSize(4096, 8, 64, 128), preferred(512 * 512, 16)):
        assert own_rule(rule.to_json()) == size_rule(rule.to_json()) == rule
    frame = Framed((64, 40), (64, 64))
    assert size_rule(frame.to_json()) == frame


@pytest.mark.parametrize(
    ("rule", "longest"), [(WorkingSize(256**2, 8, 64, 512), 8), (WorkingSize(64**2, 8, 64, 128), 1)]
)
def test_the_longest_aspect_that_can_be_worked_at(rule: WorkingSize, longest: float) -> None:
    assert rule.longest_aspect == longest
    assert preferred(2048 * 2048, 16).longest_aspect == 1568 / 672

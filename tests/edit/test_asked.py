"""What a request asks for beside the edit itself."""

from typing import Any

import numpy as np
import pytest

import asked
from asked import Asked
from families.errors import InvalidEditError


def given(**values: Any) -> dict[str, Any]:
    return {name: np.array([value]) for name, value in values.items()}


@pytest.mark.parametrize("values", [{}, {"n": 0, "low_priority": False, "progress": False, "partial_images": 0}])
def test_what_is_absent_or_0_is_one_picture_and_nothing_more(values: dict[str, Any]) -> None:
    assert asked.read(given(**values)) == Asked(1, low_priority=False, progress=False, previews=0)


def test_what_is_given_is_taken() -> None:
    values = given(n=10, low_priority=True, progress=True, partial_images=3)
    assert asked.read(values) == Asked(10, low_priority=True, progress=True, previews=3)


@pytest.mark.parametrize(("name", "value"), [("n", -1), ("n", 11), ("partial_images", -1), ("partial_images", 4)])
def test_what_is_out_of_bounds_is_named(name: str, value: int) -> None:
    with pytest.raises(InvalidEditError, match=f"^{name} must be ") as refused:
        asked.read(given(**{name: value}))
    assert refused.value.code == "parameter_invalid"


def test_seeds_follow_one_another_and_begin_anew_after_the_last() -> None:
    assert asked.seeds(7, 3) == [7, 8, 9]
    assert asked.seeds(2**64 - 1, 2) == [2**64 - 1, 0]

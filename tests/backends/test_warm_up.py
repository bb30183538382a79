"""First calls of an engine: which are made, and for how long."""

import numpy as np
import pytest

from backends.signature import WARM_UP, read_signature
from backends.warm_up import DEFAULT_SECONDS, SECONDS, seconds, warm

SIGNATURE = read_signature(
    {
        "max_batch_size": 8,
        "input": [
            {"name": "x", "data_type": "TYPE_FP32", "dims": ["4", "-1", "-1"]},
            {"name": "t", "data_type": "TYPE_INT64", "dims": ["1"]},
        ],
        "output": [],
    }
)
SMALL, USUAL, GUIDED = "x:1,4,2,2;t:1,1", "x:1,4,8,8;t:1,1", "x:3,4,8,8;t:3,1"
CALLS = "|".join((SMALL, USUAL, GUIDED))


class Engine:
    """Takes 1 s for each 16 elements of `x`, and 10 s for its first call, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.shapes = 0.0, list[tuple[int, ...]]()

    def clock(self) -> float:
        return self.now

    def __call__(self, inputs):
        assert not any(array.any() for array in inputs.values())
        assert (inputs["x"].dtype, inputs["t"].dtype) == (np.float32, np.int64)
        self.now += inputs["x"].size / 16 + (0 if self.shapes else 10)
        self.shapes.append(inputs["x"].shape)


def warmed(said: str) -> Engine:
    engine = Engine()
    config = {"parameters": {WARM_UP: {"string_value": said}}}
    assert warm(SIGNATURE, config, engine, engine.clock) == len(engine.shapes)
    return engine


def test_every_call_is_made_and_the_small_one_twice(monkeypatch):
    monkeypatch.setenv(SECONDS, "100")
    assert warmed(CALLS).shapes == [(1, 4, 2, 2), (1, 4, 2, 2), (1, 4, 8, 8), (3, 4, 8, 8)]
    assert warmed("").shapes == []


@pytest.mark.parametrize(("limit", "made"), [("75.9", 3), ("76", 4), ("27.9", 2), ("28", 3), ("0.5", 1), ("0", 0)])
def test_no_call_begins_that_would_end_too_late(monkeypatch, limit, made):
    # 11 s and 1 s of the small one, then 16 and 48.
    monkeypatch.setenv(SECONDS, limit)
    assert len(warmed(CALLS).shapes) == made


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "1 s"])
def test_a_setting_that_is_no_number_of_seconds_is_named(monkeypatch, value):
    monkeypatch.setenv(SECONDS, value)
    with pytest.raises(ValueError, match=f"^{SECONDS} is {value!r}, and must be seconds, 0 for none$"):
        warmed(CALLS)


def test_an_empty_setting_is_none(monkeypatch):
    monkeypatch.setenv(SECONDS, "")
    assert seconds() == DEFAULT_SECONDS


@pytest.mark.parametrize("said", ["x:1,4,2,2", "x:1,4,2;t:1,1", "y:1;t:1,1", "x:1,4,2,two;t:1,1"])
def test_calls_that_are_not_of_the_models_inputs_are_refused(said):
    with pytest.raises(ValueError, match=f"the parameter {WARM_UP} has "):
        warmed(said)

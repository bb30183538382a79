"""Large rows stand in memory that the denoiser's side reads in place: both sides, without Triton between them."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from backends.in_place import Memories
from families.interface import Tensors
from rows import JoinedRows, Part
from shared_rows import SharedRows, arrange

TEXT, SAMPLE = (16, 100), (64, 32)
"""Just above what is sent."""


def part(edit: int, rows: int = 1, step: int = 0, group: str = "square") -> Part:
    """Each number of each row is its edit's and step's own."""
    constant = {"text": np.full((rows, *TEXT), float(edit), np.float32)}
    changing = {
        "sample": np.full((rows, *SAMPLE), edit + step / 100, np.float32),
        "timestep": np.full((rows, 1), float(step), np.float32),
    }
    return Part(edit, group, rows, constant, changing)


def predict(inputs: Tensors) -> NDArray[Any]:
    """Every input counts, and rows do not influence one another."""
    found: NDArray[Any] = inputs["sample"] * 2 + inputs["text"][:, :1, :1] + inputs["timestep"][:, :, None]
    return found


class Side:
    """The denoiser's side, as `backends.common` has it."""

    def __init__(self) -> None:
        self.memories = Memories()
        self.sent: list[set[str]] = []
        self.inputs: dict[str, NDArray[Any]] = {}
        self.wrote = 0

    def __call__(self, sent: Tensors, said: str) -> NDArray[Any] | None:
        found, room = self.memories.read(said)
        self.sent.append(set(sent))
        self.inputs = {**sent, **found}
        prediction = predict(self.inputs)
        if room is None:
            return prediction
        np.copyto(room, prediction, casting="no")
        self.wrote += 1
        return None


def alone(parts: Sequence[Part]) -> list[NDArray[Any]]:
    return [predict(part.constant | part.changing) for part in parts]


def check(rows: SharedRows, parts: Sequence[Part]) -> list[NDArray[Any]]:
    """Calls, and holds every part's prediction against its own alone."""
    found = list(rows(parts))
    for ours, theirs in zip(found, alone(parts), strict=True):
        assert np.array_equal(ours, theirs)
    return found


def shared() -> tuple[SharedRows, Side]:
    side = Side()
    return SharedRows(side, JoinedRows(predict), in_place_bytes=1), side


def test_only_what_is_small_is_sent_and_the_answer_is_read_in_place() -> None:
    rows, side = shared()
    for step in range(3):
        check(rows, [part(1, step=step), part(2, rows=2, step=step + 4)])
    assert side.sent == [{"timestep"}] * 3
    assert side.wrote == 2, "the first tells what a prediction looks like"


def test_what_does_not_change_is_the_very_array_of_the_last_call() -> None:
    rows, side = shared()
    seen = []
    for step in range(3):
        check(rows, [part(1, step=step), part(2, step=step)])
        seen.append((side.inputs["text"], side.inputs["sample"]))
    assert seen[0][0] is seen[1][0] is seen[2][0]
    assert seen[0][1] is not seen[1][1]
    check(rows, [part(1, step=3), part(3, step=0)])
    assert side.inputs["text"] is not seen[0][0]


def test_a_prediction_that_is_kept_is_not_written_over() -> None:
    rows, _ = shared()
    check(rows, [part(1)])
    kept = check(rows, [part(1, step=1)])[0]
    before = kept.copy()
    check(rows, [part(1, step=2)])
    assert np.array_equal(kept, before)


def test_small_rows_are_sent_as_a_whole() -> None:
    side = Side()
    check(SharedRows(side, JoinedRows(predict)), [part(1)])
    assert side.sent == []


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(["square", "tall"])), min_size=1, max_size=4, unique=True
        ),
        min_size=1,
        max_size=12,
    )
)
def test_edits_come_and_go(calls: list[list[tuple[int, str]]]) -> None:
    rows, _ = shared()
    for step, edits in enumerate(calls):
        for group in ("square", "tall"):
            # an edit always has as many rows, and is of one group
            parts = [part(edit * 2 + (group == "tall"), edit % 3 + 1, step, group) for edit, of in edits if of == group]
            if parts:
                check(rows, parts)
            elif step % 3 == 0:
                rows.forget(group)


def order(parts: Sequence[Part], places: dict[int, int]) -> list[int]:
    return [placed.edit for placed in arrange(parts, places)]


def test_a_new_edit_takes_the_place_of_one_that_has_left() -> None:
    assert order([part(2), part(3), part(4)], {1: 0, 2: 1, 3: 2}) == [4, 2, 3]
    assert order([part(2), part(3)], {1: 0, 2: 1, 3: 2}) == [3, 2], "else the last one does"
    assert order([part(2, 2), part(3)], {1: 0, 2: 1, 3: 3}) == [3, 2], "if it fits"
    assert order([part(2, 2)], {1: 0, 2: 1}) == [2], "and where none does, the rest moves up"


def held() -> int:
    """Bytes in memories of this process."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            if link.readlink().name.startswith("memfd:tritouch-"):
                found[link.readlink().name] = link.stat().st_blocks * 512
    return sum(found.values())


def test_memory_is_given_back() -> None:
    rows, _ = shared()
    before, sizes = held(), []
    for count in (1, 8, 16):
        check(rows, [part(edit) for edit in range(count)])
        sizes.append(held() - before)
    assert 0 < sizes[0] < sizes[1] < sizes[2] < 2.5 * sizes[1], "a larger one takes the place of a smaller"
    rows.forget("square")
    assert held() == before, "though the other side still has it mapped"


@pytest.mark.parametrize(
    "changed",
    [
        {"file": "/etc/passwd"},
        {"file": "/proc/1/fd/99999"},
        {"token": "tritouch-" + "0" * 32},
        {"tensors": {"text": [1 << 40, "<f4", [1], 0]}},
        {"tensors": {"text": [0, "<f4", [-2, -2], 0]}},
        {"tensors": {"text": [0, "O", [1], 0]}},
        {"tensors": {"text": [0, "no type", [1], 0]}},
        {"tensors": {"text": [0, "<f4", ["a"], 0]}},
        {"tensors": {"text": []}},
        {"tensors": {"text": [1 << 70, "<f4", [1], 0]}},
        {"answer": 0},
        {"answer": []},
        {"tensors": None},
        {"answer": [1 << 40, "<f4", [1]]},
    ],
)
def test_a_parameter_that_tells_of_nothing_is_refused(changed: dict[str, Any]) -> None:
    said: list[str] = []

    def listen(sent: Tensors, text: str) -> NDArray[Any]:
        said.append(text)
        return predict({**sent, **Memories().read(text)[0]})

    rows = SharedRows(listen, JoinedRows(predict), in_place_bytes=1)
    rows([part(1)])
    memories = Memories()
    memories.read(said[0])
    with pytest.raises(ValueError, match="in_place is of no use"):
        Memories().read(json.dumps(json.loads(said[0]) | changed))
    for text in ("", "{", "[]", "null", "7", "[" * 100_000):
        with pytest.raises(ValueError, match="in_place is of no use"):
            memories.read(text)


def test_memory_that_may_shrink_under_a_reader_is_refused() -> None:
    token = f"tritouch-{'a' * 32}"
    descriptor = os.memfd_create(token, os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, 4096)
    said = {"file": f"/proc/{os.getpid()}/fd/{descriptor}", "token": token, "tensors": {}, "answer": None}
    with pytest.raises(ValueError, match="it may shrink"):
        Memories().read(json.dumps(said))
    os.close(descriptor)

"""Both sides of a denoiser whose rows stand in shared memory, without Triton between them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.in_place import Memories
from channel import Message
from families.interface import Tensors
from rows import JoinedRows, Part
from shared_rows import SharedRows
from side_by_side import SideBySide

TEXT, SAMPLE = (16, 100), (64, 32)


def part(edit: int, rows: int = 1, step: int = 0, group: str = "square") -> Part:
    """Each number of each row is its edit's and step's own, and what does not change the row's."""
    own = edit + np.arange(rows, dtype=np.float32) / 8
    constant = {"text": np.broadcast_to(own[:, None, None], (rows, *TEXT)).copy()}
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
    """The denoiser's side, as `backends.channel` has it."""

    def __init__(self) -> None:
        self.memories = Memories()
        self.inputs: dict[str, NDArray[Any]] = {}
        self.said = b""
        self.whole: dict[str, Any] = {}

    def __call__(self, message: Message, some: Tensors) -> tuple[str, tuple[int, ...]]:
        self.said = message.short()
        self.inputs, room = self.memories.read(self.said)
        assert set(some) <= set(self.inputs)
        self.whole = json.loads(message.whole())
        prediction = predict(self.inputs)
        room.write(prediction)
        return prediction.dtype.str, prediction.shape


def alone(parts: Sequence[Part]) -> list[NDArray[Any]]:
    return [predict(part.constant | part.changing) for part in parts]


def check(rows: SharedRows, parts: Sequence[Part]) -> list[NDArray[Any]]:
    """Calls, and holds every part's prediction against its own alone."""
    found = list(rows(parts))
    for ours, theirs in zip(found, alone(parts), strict=True):
        assert np.array_equal(ours, theirs)
    return found


def shared(side_by_side: SideBySide | None = None) -> tuple[SharedRows, Side]:
    side = Side()
    return SharedRows(side, JoinedRows(predict), in_place_bytes=1, side_by_side=side_by_side), side

"""The rows of denoiser calls, in memory that the denoiser's process reads and writes in place.

Triton copies a tensor twice on its way from one Python model to another, and its answer three times: for a transformer
that reads 512 tokens of text, some 20 MB a row and step. So tensors stand in memory of our own, which the call names,
and are written once: what does not change when an edit joins, the rest at every step.
`backends/in_place.py` is the other side.
"""

import itertools
import json
import math
import os
import secrets
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from channel import Message
from families.interface import Tensors
from memory import Spares
from rows import Denoiser, Part, longest, require_rows
from side_by_side import SideBySide

Send = Callable[[Message, Tensors], tuple[str, tuple[int, ...]]]
"""Runs the denoiser on what a message tells of; beside it, some of its tensors themselves. Returns type and shape of
the prediction, which was written to where the message says."""

DEFAULT_IN_PLACE_BYTES = 1
"""Of an edit's rows: those of edits with less are sent through Triton."""
ALIGNMENT = 64
versions = itertools.count()
"""Of what was written, whatever stood in its place before: memory is used again."""


@dataclass
class Block:
    """One input's rows in the memory. `version` is another whenever a row was written."""

    offset: int
    rows: NDArray[Any]
    version: int = field(default_factory=versions.__next__)

    def write(self, first: int, rows: NDArray[Any]) -> None:
        """From that row on; zeros where these are shorter."""
        place = self.rows[first : first + len(rows)]
        if place.shape != rows.shape:
            place[...] = 0
            place = place[tuple(map(slice, rows.shape))]
        place[...] = rows
        self.version = next(versions)


@dataclass(frozen=True)
class Row:
    """Shape and type of one input's rows in a call."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Of one of them."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def of(cls, parts: Sequence[Part]) -> dict[str, "Row"]:
        """Every input's, as long as the longest of these parts'."""
        inputs = [part.constant | part.changing for part in parts]
        return {name: cls(longest([each[name] for each in inputs]), array.dtype) for name, array in inputs[0].items()}


class CallMessage:
    """A call of a group. Once `known`, which is when it was answered, its id says it all, but for what changes."""

    def __init__(self, content: Mapping[str, Any], blocks: Mapping[str, Block], changing: Collection[str]) -> None:
        self._id = secrets.token_hex(8)
        self._content = {**content, "call": self._id, "changing": [*changing]}
        self._blocks, self.known = blocks, False

    def short(self) -> bytes:
        """As short as it can be said."""
        return self._id.encode() if self.known else self.whole()

    def whole(self) -> bytes:
        """At length, as `backends/in_place.py` has it."""
        for name, told in self._content["tensors"].items():
            told[-1] = self._blocks[name].version
        return json.dumps(self._content).encode()


class Group:
    """Memory for the rows of edits that share calls, and for what is predicted of them."""

    def __init__(
        self,
        each: Mapping[str, Row],
        rows: int,
        changing: Collection[str],
        spares: Spares,
        side_by_side: SideBySide,
    ) -> None:
        """For so many rows, and as many more as its memory holds, each of these inputs, of which some change at every
        step. Raises OSError."""
        answer_bytes = max(each[name].bytes for name in changing)
        row_bytes, unaligned = sum(row.bytes for row in each.values()) + answer_bytes, ALIGNMENT * len(each)
        self.memory = spares.take(rows * row_bytes + unaligned)
        rows = (self.memory.size - unaligned) // row_bytes
        self.each, self.rows, self._changing = each, rows, frozenset(changing)
        self._side_by_side = side_by_side
        offsets = [0]
        for row in each.values():
            offsets.append(offsets[-1] + -(-rows * row.bytes // ALIGNMENT) * ALIGNMENT)
        self.answer = offsets[-1], rows * answer_bytes
        self.blocks = {
            name: Block(offset, self.memory.view(offset, (rows, *row.shape), row.dtype))
            for (name, row), offset in zip(each.items(), offsets, strict=False)
        }
        self._called: list[tuple[int, int]] = []  # of the last call: edits, each with how many rows
        self._places: dict[int, int] = {}  # of the same: the first row of each
        self._holds: dict[int, tuple[int, int]] = {}  # what does not change, by row: of which edit, and its which row
        self._message = CallMessage({}, {}, frozenset())
        self._predicted: tuple[tuple[Any, ...], list[NDArray[Any]]] = (), []  # of the same: type and shape, and views

    def called_with(self, parts: Sequence[Part]) -> bool:
        """Whether the last call was of the same rows of the same edits."""
        return self._called == [(part.edit, part.rows) for part in parts]

    def arrange(self, parts: Sequence[Part]) -> None:
        """Finds a place for each part's rows, and writes what does not change where it does not stand yet."""
        placed, first = arrange(parts, self._places), 0
        self._called, self._places = [], {}
        new, own = dict[int, Tensors](), dict[int, tuple[int, int]]()
        for part in placed:
            here = {first + row: (part.edit, row) for row in range(part.rows)}
            if not here.items() <= self._holds.items():
                new[first] = part.constant
                for row in here:
                    self._holds.pop(row, None)  # until all is written: an input may not be, and others then are
            own |= here
            self._places[part.edit] = first
            first += part.rows
        self._write(new)
        self._holds |= own
        self._message = CallMessage(self._says(first), self.blocks, self._changing)
        self._predicted = (), []
        self._called = [(part.edit, part.rows) for part in parts]

    def place(self, parts: Sequence[Part]) -> CallMessage:
        """Writes what changes, once the parts are arranged. Returns the message of the call."""
        self._write({self._places[part.edit]: part.changing for part in parts})
        return self._message

    def predictions(self, parts: Sequence[Part], dtype: str, shape: tuple[int, ...]) -> list[NDArray[Any]]:
        """Each part's, as views. Raises ValueError where there are not as many rows."""
        if self._predicted[0] != (dtype, shape):
            require_rows(shape[0], parts)
            prediction = self.memory.view(self.answer[0], shape, dtype)
            places = [self._places[part.edit] for part in parts]
            views = [prediction[first : first + part.rows] for first, part in zip(places, parts, strict=True)]
            self._predicted = (dtype, shape), views
        return self._predicted[1]

    def _write(self, written: Mapping[int, Tensors]) -> None:
        """Each from its row on."""
        if written:
            least = min(sum(array.nbytes for array in tensors.values()) for tensors in written.values())
            self._side_by_side([partial(self._write_from, *one) for one in written.items()], least)

    def _write_from(self, first: int, tensors: Tensors) -> None:
        for name, rows in tensors.items():
            self.blocks[name].write(first, rows)

    def _says(self, rows: int) -> dict[str, Any]:
        return {
            "file": f"/proc/{os.getpid()}/fd/{self.memory.descriptor}",
            "token": self.memory.token,
            "tensors": {
                name: [block.offset, block.rows.dtype.str, [rows, *block.rows.shape[1:]], block.version]
                for name, block in self.blocks.items()
            },
            "answer": self.answer,
        }


def arrange(parts: Sequence[Part], places: Mapping[int, int]) -> list[Part]:
    """The parts in an order in which as many as can be stay at the row that they had (`places`, by edit).

    A gap that an edit has left is filled with a new one, else with the last that has as few rows.
    """
    known = sorted((part for part in parts if part.edit in places), key=lambda part: places[part.edit])
    new, order, row = [part for part in parts if part.edit not in places], list[Part](), 0
    while known or new:
        gap = places[known[0].edit] - row if known else sum(part.rows for part in new)
        fitting = [part for part in (*new, *reversed(known)) if part.rows <= gap]
        part = fitting[0] if gap > 0 and fitting else known[0]
        (new if part in new else known).remove(part)
        order.append(part)
        row += part.rows
    return order


class SharedRows:
    """A Denoiser of edits whose rows have `in_place_bytes` or more; `small` is that of others."""

    def __init__(
        self,
        send: Send,
        small: Denoiser,
        in_place_bytes: int = DEFAULT_IN_PLACE_BYTES,
        side_by_side: SideBySide | None = None,
    ) -> None:
        self._send, self._small, self._in_place_bytes = send, small, in_place_bytes
        self._side_by_side = side_by_side or SideBySide()
        self._groups: dict[Hashable, Group] = {}
        self._spares = Spares()

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """As Denoiser says. Raises OSError where there is no memory."""
        group = self._groups.get(parts[0].group)
        if group is None or not group.called_with(parts):
            each = Row.of(parts)
            if parts[0].rows * sum(row.bytes for row in each.values()) < self._in_place_bytes:
                return self._small(parts)
            group = self._group(parts[0], each, sum(part.rows for part in parts))
            group.arrange(parts)
        message = group.place(parts)
        dtype, shape = self._send(message, parts[0].changing)
        message.known = True
        return group.predictions(parts, dtype, shape)

    def forget(self, group: Hashable) -> None:
        """Lets its memory go."""
        self._small.forget(group)
        gone = self._groups.pop(group, None)
        if gone:
            self._spares.give(gone.memory)

    def _group(self, part: Part, each: Mapping[str, Row], rows: int) -> Group:
        known = self._groups.get(part.group)
        if known and known.rows >= rows and known.each == each:
            return known
        self.forget(part.group)
        return self._groups.setdefault(part.group, Group(each, rows, part.changing, self._spares, self._side_by_side))

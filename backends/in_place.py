"""Tensors that a caller on this machine keeps in memory of its own, read and written in place.

A call over a channel (`backends.channel`) says as JSON where they are::

    {"call": ID, "file": "/proc/PID/fd/N", "token": "tritouch-...", "answer": [offset, bytes],
     "tensors": {NAME: [offset, dtype, shape, version], ...}, "changing": [NAME, ...]}

``file`` is a memfd of that name, which can no longer shrink: who does not know it reads nothing here. A tensor whose
place, shape and version are those of the last call has not changed. ``answer``: the room for the only output. The
message that is ``ID`` alone, 16 letters, is that call once more, of which ``changing`` tensors alone have changed. It
is known until the memory's next call of another; whoever is told that one is not known says it whole.
``model_repository/edit_stream/1/shared_rows.py`` is the other side.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FILE = re.compile(r"/proc/[0-9]+/fd/[0-9]+")
_TOKEN = re.compile(r"tritouch-[0-9a-f]{32}")
_ID = re.compile(rb"[0-9a-f]{16}")
_MAPPED_AT_MOST = 8

Array = npt.NDArray[Any]
Place = Callable[[np.dtype[Any], tuple[int, ...]], Array]
"""Where an output is wanted, by its type and shape. Raises ValueError where it is larger."""


class UnknownCallError(Exception):
    """A call was said by an id that is not known."""


class Room:
    """Where an answer goes."""

    def __init__(self, memory: mmap.mmap, offset: int, size: int) -> None:
        """Raises ValueError where the memory ends before it does."""
        self._memory, self._offset = memory, offset
        self._bytes = self._last = _array(memory, offset, "u1", (size,))

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """In it, the same array until another type or shape is asked for. Raises ValueError where it is larger."""
        if shape != self._last.shape or dtype != self._last.dtype:
            size = math.prod(shape) * dtype.itemsize
            if size > len(self._bytes):
                raise ValueError(f"the answer has {size} bytes, and its room {len(self._bytes)}")
            self._last = _array(self._memory, self._offset, dtype.str, shape)
        return self._last

    def write(self, array: Array) -> None:
        """As it is, unless it stands in it already. Raises ValueError where it is larger."""
        place = self.array(array.dtype, array.shape)
        if array is not place:
            place[...] = array


@dataclass(frozen=True)
class Call:
    """What is computed of which inputs, and where its answer goes. `changing`: what has changed when it comes again."""

    token: str
    inputs: dict[str, Array]
    changing: frozenset[str]
    room: Room

    def again(self) -> dict[str, Array]:
        """Its inputs. Those that may have changed are other objects each time."""
        return {name: array.view() if name in self.changing else array for name, array in self.inputs.items()}


class Memories:
    """The memories that were mapped lately. `accepted` are the inputs as the model takes them, or raises."""

    def __init__(self, accepted: Callable[[dict[str, Array]], dict[str, Array]] = dict) -> None:
        self._accepted = accepted
        self._mapped: dict[str, mmap.mmap] = {}
        self._seen: dict[tuple[str, str], tuple[object, Array]] = {}  # memory, tensor -> what was said of it, and it
        self._calls: dict[bytes, Call] = {}  # the last of each memory, by id

    def read(self, said: bytes) -> tuple[dict[str, Array], Room]:
        """The inputs that a message tells of, and the room for the answer.

        An input that has not changed since the last call of that memory is the very same object.

        Raises:
            UnknownCallError: it is an id that is not known, or no longer.
            ValueError: it is no such message, or tells of memory that is not there.
            whatever `accepted` raises.
        """
        if _ID.fullmatch(said):
            return self._once_more(said)
        try:
            name, call = self._told(json.loads(said))
        except Exception as error:  # noqa: BLE001 - whoever sent it, it is all that is wrong
            raise ValueError(f"the call is of no use: {error}") from None
        self._calls[name] = call = replace(call, inputs=self._accepted(call.inputs))
        return call.inputs, call.room

    def _once_more(self, name: bytes) -> tuple[dict[str, Array], Room]:
        call = self._calls.get(name)
        if call is None:
            raise UnknownCallError
        self._mapped[call.token] = self._mapped.pop(call.token)  # the last used comes last
        return call.again(), call.room

    def _told(self, content: Mapping[str, Any]) -> tuple[bytes, Call]:
        token, memory = content["token"], self._memory(content["file"], content["token"])
        # Whatever becomes of this one: more has changed than what those before it say.
        self._calls = {known: one for known, one in self._calls.items() if one.token != token}
        inputs = {}
        for name, told in content["tensors"].items():
            if self._seen.get((token, name), (None, None))[0] != told:
                *where, _version = told
                self._seen[token, name] = told, _array(memory, *where)
            inputs[name] = self._seen[token, name][1]
        room = Room(memory, *map(int, content["answer"]))
        return content["call"].encode(), Call(token, inputs, frozenset(content["changing"]), room)

    def _memory(self, file: str, token: str) -> mmap.mmap:
        memory = self._mapped.pop(token) if token in self._mapped else _mapped(file, token)
        self._mapped[token] = memory  # the last used comes last
        while len(self._mapped) > _MAPPED_AT_MOST:
            gone = next(iter(self._mapped))
            del self._mapped[gone]
            self._seen = {seen: what for seen, what in self._seen.items() if seen[0] != gone}
            self._calls = {name: call for name, call in self._calls.items() if call.token != gone}
        return memory


def _mapped(file: str, token: str) -> mmap.mmap:
    """Raises ValueError or OSError where there is no such memory."""
    if not (_FILE.fullmatch(file) and _TOKEN.fullmatch(token)):
        raise ValueError("it names no memory")
    if str(Path(file).readlink()) != f"/memfd:{token} (deleted)":
        raise ValueError("there is no such memory")
    descriptor = os.open(file, os.O_RDWR)
    try:
        if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise ValueError("it may shrink")
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


def _array(memory: mmap.mmap, offset: int, dtype: str, shape: Sequence[int]) -> Array:
    """Raises ValueError where the memory ends before it does, TypeError for what is no type."""
    if min(shape, default=0) < 0:
        raise ValueError("a size is negative")
    return np.frombuffer(memory, np.dtype(dtype), math.prod(shape), offset).reshape(shape)

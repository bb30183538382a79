"""Tensors that a caller on this machine keeps in memory of its own, read and written in place.

A call over a channel (`backends.channel`) says as JSON where they are::

    {"file": "/proc/PID/fd/N", "token": "tritouch-...", "tensors": {NAME: [offset, dtype, shape, version], ...},
     "answer": [offset, bytes]}

``file`` is a memfd of that name, which can no longer shrink: who does not know it reads nothing here. A tensor whose
place, shape and version are those of the last call has not changed. ``answer``: the room for the only output.
``model_repository/edit_stream/1/shared_rows.py`` is the other side.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE = re.compile(r"/proc/[0-9]+/fd/[0-9]+")
_TOKEN = re.compile(r"tritouch-[0-9a-f]{32}")
_MAPPED_AT_MOST = 8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Room:
    """Where an answer goes."""

    memory: mmap.mmap
    offset: int
    bytes: int

    def write(self, array: Array) -> None:
        """Raises ValueError where it is larger."""
        if array.nbytes > self.bytes:
            raise ValueError(f"the answer has {array.nbytes} bytes, and its room {self.bytes}")
        _array(self.memory, self.offset, array.dtype.str, array.shape)[...] = array


class Memories:
    """The memories that were mapped lately."""

    def __init__(self) -> None:
        self._mapped: dict[str, mmap.mmap] = {}
        self._seen: dict[tuple[str, str], tuple[object, Array]] = {}  # memory, tensor -> what was said of it, and it

    def read(self, said: bytes) -> tuple[dict[str, Array], Room]:
        """The inputs that a message tells of, and the room for the answer.

        An input that has not changed since the last call of that memory is the very same object.

        Raises:
            ValueError: it is no such message, or tells of memory that is not there.
        """
        try:
            content = json.loads(said)
            token, memory = content["token"], self._memory(content["file"], content["token"])
            inputs = {}
            for name, told in content["tensors"].items():
                if self._seen.get((token, name), (None, None))[0] != told:
                    *where, _version = told
                    self._seen[token, name] = told, _array(memory, *where)
                inputs[name] = self._seen[token, name][1]
            offset, size = map(int, content["answer"])
            _array(memory, offset, "u1", (size,))
        except Exception as error:  # noqa: BLE001 - whoever sent it, it is all that is wrong
            raise ValueError(f"the call is of no use: {error}") from None
        return inputs, Room(memory, offset, size)

    def _memory(self, file: str, token: str) -> mmap.mmap:
        memory = self._mapped.pop(token) if token in self._mapped else _mapped(file, token)
        self._mapped[token] = memory  # the last used comes last
        while len(self._mapped) > _MAPPED_AT_MOST:
            gone = next(iter(self._mapped))
            del self._mapped[gone]
            self._seen = {seen: what for seen, what in self._seen.items() if seen[0] != gone}
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

"""Tensors that a caller on this machine keeps in memory of its own, read and written in place.

A request with the parameter ``in_place`` lacks its large inputs. The parameter says where they are, as JSON::

    {"file": "/proc/PID/fd/N", "token": "tritouch-...",
     "tensors": {NAME: [offset, dtype, shape, version], ...}, "answer": [offset, dtype, shape] or null}

``file`` is a memfd of that name, which can no longer shrink: who does not know it reads nothing here. A tensor whose
place, shape and version are those of the last call has not changed. ``answer``: where the only output goes; null: it
is sent as ever.
``model_repository/edit_stream/1/shared_rows.py`` is the other side.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PARAMETER = "in_place"
_FILE = re.compile(r"/proc/[0-9]+/fd/[0-9]+")
_TOKEN = re.compile(r"tritouch-[0-9a-f]{32}")
_MAPPED_AT_MOST = 8

Array = npt.NDArray[Any]


class Memories:
    """The memories that were mapped lately."""

    def __init__(self) -> None:
        self._mapped: dict[str, mmap.mmap] = {}
        self._seen: dict[str, tuple[str, Array]] = {}  # a tensor's name -> what was said of it, and it

    def read(self, said: str) -> tuple[dict[str, Array], Array | None]:
        """The inputs that a parameter tells of, and the room for the answer.

        An input that has not changed since the last call is the very same object.

        Raises:
            ValueError: it is not such a parameter, or tells of memory that is not there.
        """
        try:
            content = json.loads(said)
            token, memory = content["token"], self._memory(content["file"], content["token"])
            inputs = {}
            for name, (*where, version) in content["tensors"].items():
                said = json.dumps([token, *where, version])
                if self._seen.get(name, ("", None))[0] != said:
                    self._seen[name] = said, _array(memory, *where)
                inputs[name] = self._seen[name][1]
            answer = None if content["answer"] is None else _array(memory, *content["answer"])
        except Exception as error:  # noqa: BLE001 - whoever sent it, it is all that is wrong
            raise ValueError(f"the parameter {PARAMETER} is of no use: {error}") from None
        return inputs, answer

    def _memory(self, file: str, token: str) -> mmap.mmap:
        if not (_FILE.fullmatch(file) and _TOKEN.fullmatch(token)):
            raise ValueError("it names no memory")
        if token not in self._mapped:
            if str(Path(file).readlink()) != f"/memfd:{token} (deleted)":
                raise ValueError("there is no such memory")
            descriptor = os.open(file, os.O_RDWR)
            try:
                if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                    raise ValueError("it may shrink")
                self._mapped[token] = mmap.mmap(descriptor, 0)
            finally:
                os.close(descriptor)
        memory = self._mapped[token] = self._mapped.pop(token)  # the last used comes last
        while len(self._mapped) > _MAPPED_AT_MOST:
            self._mapped.pop(next(iter(self._mapped)))
        return memory


def _array(memory: mmap.mmap, offset: int, dtype: str, shape: list[int]) -> Array:
    """Raises ValueError where the memory ends before it does, TypeError for what is no type."""
    return np.frombuffer(memory, np.dtype(dtype), math.prod(shape), offset).reshape(shape)

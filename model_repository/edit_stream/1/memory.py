"""Memory that two processes map, and that is kept for whoever needs some next.

It is a memfd: it has no name that others could open, needs no room in /dev/shm, and goes with the process. What the
system does to hand it out, page by page to both sides, takes longer than to write it: so some is kept.
"""

import fcntl
import math
import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPARES = 2
"""Memories that are kept when their edits have gone: as many as calls are usually under way."""


class Memory:
    """Bytes that two processes map."""

    def __init__(self, size: int) -> None:
        """Raises OSError where there is no room."""
        self.size, self.token = size, f"tritouch-{secrets.token_hex(16)}"
        self.descriptor = os.memfd_create(self.token, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        os.posix_fallocate(self.descriptor, 0, size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self._mapped = mmap.mmap(self.descriptor, size)

    def view(self, offset: int, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """An array in it."""
        return np.frombuffer(self._mapped, dtype, math.prod(shape), offset).reshape(shape)

    def close(self) -> None:
        """Gives its pages back at once; the other side may have it mapped for a while yet."""
        self._mapped.madvise(mmap.MADV_REMOVE)
        self._close()


class Spares:
    """Memories that nobody uses, for whoever does next. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Memory] = []  # the smallest first

    def take(self, size: int) -> Memory:
        """The smallest that has so many bytes, else a new one in the place of the smallest. Raises OSError."""
        with self._lock:
            fitting = [memory for memory in self._kept if memory.size >= size]
            taken = (fitting or self._kept)[:1]
            self._kept = [memory for memory in self._kept if memory not in taken]
        if fitting:
            return taken[0]
        for memory in taken:
            memory.close()
        return Memory(size)

    def give(self, memory: Memory) -> None:
        """Keeps it, and lets the smallest of too many go."""
        with self._lock:
            self._kept = sorted([*self._kept, memory], key=lambda kept: kept.size)
            gone = self._kept.pop(0) if len(self._kept) > SPARES else None
        if gone:
            gone.close()

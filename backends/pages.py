"""Gives back the memory of files that were mapped to be read once. Knows Linux and nothing of models."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4  # MADV_DONTNEED of <sys/mman.h>


def release(file: Path) -> None:
    """Unload the pages of ``file`` that this process has mapped and can only read.

    The mappings stay: what is read again comes back from the page cache, or from the disk. A mapping that can be
    written to is left alone, since its changes would be lost.
    """
    name = str(file.resolve())
    for line in os.fsdecode(_MAPS.read_bytes()).splitlines():  # paths, in whatever locale this process has
        # start-end permissions offset device inode path
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name and fields[1].startswith("r--"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)

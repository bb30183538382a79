"""Whether there is memory enough for a repository: asked before Triton starts, which would say it badly, or later.

Needs nothing but the standard library: it is in Triton's image too.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from backends.machine import memory_left
from embedded.shared_memory import SHM

if TYPE_CHECKING:
    from pathlib import Path

PROCESS_BYTES = 60 << 20
"""What the smallest Python process of Triton takes."""

_BACKEND = re.compile(r'^\s*backend\s*:\s*"(?:python|openvino|tensorrt_in_place|tensorrt_rtx)"', re.MULTILINE)
_COUNT = re.compile(r"\bcount\s*:\s*(\d+)")
_MIB = 1 << 20


def python_processes(repository: Path) -> int:
    """How many Python processes Triton starts: one for each instance of a Python model or Python-based backend."""
    configs = [path.read_text(errors="replace") for path in repository.glob("*/config.pbtxt")]
    counts = [_COUNT.search(config) for config in configs if _BACKEND.search(config)]
    return sum(int(count[1]) if count else 1 for count in counts)


def shared_memory_missing(repository: Path, shm_bytes: int, servers: int = 1) -> str:
    """One line that says that there is too little shared memory to start with; empty where there is enough.

    Args:
        repository: the model repository.
        shm_bytes: what each Python process starts with.
        servers: how many Tritons will serve it side by side.
    """
    processes = servers * python_processes(repository)
    room = os.statvfs(SHM)
    free, needed = room.f_bavail * room.f_frsize, processes * shm_bytes
    if free >= needed:
        return ""
    return (
        f"{SHM} has {free // _MIB} MiB left, and Triton's {processes} Python processes need {needed // _MIB} MiB "
        f"to start: make it larger (`mount -o remount,size=2g {SHM}`, for containers TRITOUCH_SHM=2gb), "
        f"or set TRITOUCH_TRITON_SHM_BYTES below {shm_bytes}"
    )


def memory_short(repository: Path, servers: int = 1) -> str:
    """One line that says that the engines' weights will hardly fit into memory; empty where they will.

    ``servers``: how many Tritons will serve them side by side, each with weights of its own.
    """
    weights = sum(path.stat().st_size for path in repository.glob("*/1/model.bin"))
    needed = servers * (weights + python_processes(repository) * PROCESS_BYTES)
    free = memory_left()
    if free >= needed:
        return ""
    return (
        f"{free // _MIB} MiB of memory are available, and this repository takes {needed // _MIB} MiB at the least: "
        "expect Triton to be killed and started again; free memory, or export in bf16 or with smaller bounds"
    )

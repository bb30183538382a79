"""What this machine leaves to this process, as far as control groups, which containers have, let it have that.

Knows both versions of control groups. Needs nothing but the standard library: it is in Triton's image too.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")


def processors() -> int:
    """How many this process may use: by its mask, and by the share of time that its groups have, rounded up."""
    shares = [len(os.sched_getaffinity(0)), *_shares()]
    return max(1, math.ceil(min(shares)))


def memory_left() -> int:
    """Bytes that this process and its children may still take without others giving way.

    Pages of files count as free: the kernel takes them back, as from an export that has just written its engines.
    """
    known = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    left = int(known[1]) << 10 if known else 1 << 62
    for folder in _folders("memory"):
        most = _number(folder, "memory.max", "memory.limit_in_bytes")
        used = _number(folder, "memory.current", "memory.usage_in_bytes")
        if most is not None and used is not None:
            left = min(left, most - used + _pages_of_files(folder))
    return left


def _shares() -> Iterator[float]:
    """Processors' worth of time, of each group that has a quota."""
    for folder in _folders("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def _folders(controller: str) -> Iterator[Path]:
    """Those of this process's groups, up to the outermost one that is seen here."""
    for line in _read(OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = CGROUP / controller if controllers else CGROUP
        own = top / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _pages_of_files(folder: Path) -> int:
    sizes: dict[str, str] = dict(re.findall(r"^(\w+) (\d+)$", _read(folder / "memory.stat"), re.MULTILINE))
    kinds = ("active_file", "inactive_file")
    # Of version 1 those of the groups within count only under these names.
    return sum(int(sizes.get(f"total_{kind}") or sizes.get(kind, "0")) for kind in kinds)


def _number(folder: Path, *names: str) -> int | None:
    """What the first of these files that is there says; None for no number, as for `max`."""
    found = next(filter(None, (_read(folder / name) for name in names)), "")
    return int(found) if found.isdecimal() else None


def _read(file: Path) -> str:
    """Its text; empty where it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""

"""The regions of shared memory by the names that Triton gives them, and whose they are.

Needs nothing but the standard library: the supervisor does not have more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

SHM = Path("/dev/shm")  # noqa: S108 - where the kernel keeps POSIX shared memory, not a temporary file of ours
SHM_PREFIX = "tritouch-"
_LOCK_SUFFIX = ".lock"


def new_prefix() -> str:
    """How the names of one Triton's regions begin, and of no other's."""
    return f"{SHM_PREFIX}{secrets.token_hex(6)}-"


def remove_shm(prefix: str) -> None:
    """Remove every shared memory region whose name starts with ``prefix``."""
    for region in SHM.glob(prefix + "*"):
        with contextlib.suppress(OSError):
            region.unlink()


def remove_stale_shm() -> None:
    """Remove the regions of supervisors of this user that are gone, told by their lock no longer being held."""
    for lock in SHM.glob(f"{SHM_PREFIX}*{_LOCK_SUFFIX}"):
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Anybody may make files here: that of another could be called so that ours in use begin with its name.
            if os.fstat(file.fileno()).st_uid == os.geteuid():
                remove_shm(lock.name.removesuffix(_LOCK_SUFFIX))


def hold_shm(prefix: str) -> int:
    """Create and lock the file that says ``prefix`` is in use; the lock lasts while any process has it open.

    Returns its descriptor, to be inherited by the command.
    """
    # Locked before it gets its name, so that no other supervisor takes it for a stale one.
    unnamed = SHM / f".{prefix}{_LOCK_SUFFIX}"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(SHM / f"{prefix}{_LOCK_SUFFIX}")
    return descriptor

"""What TensorRT for RTX compiles at run time, kept from one start to the next: its runtime cache, in a file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

SETTING = "TRITOUCH_KERNEL_CACHE"
"""Folder of these files; where it is not set, one of the user's own."""


def kernel_file(plan: bytes) -> Path | None:
    """The file of a plan; None where no folder is named and the user has no home.

    What is in it is TensorRT's to judge: it takes none of another GPU, driver or version.
    """
    named = os.environ.get(SETTING)
    try:
        caches = named or os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    except RuntimeError:
        return None
    folder = Path(caches) if named else Path(caches, "tritouch", "kernels")
    return folder / f"{hashlib.sha256(plan).hexdigest()[:32]}.rtx"


class KernelCache:
    """The cache of one plan, which its execution context fills. Where no file can be had, every start compiles anew."""

    def __init__(self, config: Any, file: Path) -> None:
        """Puts it into a runtime config, with what the file holds."""
        self._file, self._known = file, b""
        self._cache = config.create_runtime_cache()
        try:
            known = file.read_bytes()
        except OSError:
            known = b""
        if known and self._cache.deserialize(known):
            self._known = known
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Writes the file anew where something was compiled. Raises OSError where that cannot be."""
        content = bytes(self._cache.serialize() or b"")
        if content in {b"", self._known}:
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name that no other has: containers that share the folder have the same process ids.
        descriptor, name = tempfile.mkstemp(prefix=f"{self._file.stem}.", suffix=".new", dir=self._file.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(self._file)
        finally:
            Path(name).unlink(missing_ok=True)
        self._known = content

"""Refuses what this user may not read by a line that names it, before anything reads it and words that otherwise.

Most often in containers, whose user is not the one who owns the checkpoint.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from export.errors import BadInputError


def expanded(text: str) -> Path:
    """The path, whose `~` is a home: shells leave it where it follows a `=`. Raises BadInputError for nobody's home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadInputError(f"{text}: there is no such home") from error


def require_readable(path: Path) -> None:
    """Raises BadInputError where a file, or a folder of up to two levels, is closed to this user.

    What is missing or hidden is left be.
    """
    closed = next(_closed(path), None)
    if closed is not None:
        raise BadInputError(f"{closed} must be readable by uid {os.geteuid()}: chmod -R a+rX {path}")


def _closed(path: Path) -> Iterator[Path]:
    """What is closed of a path and what lies in it, each folder before what it holds."""
    try:
        path.stat()
    except PermissionError:
        yield path
    except OSError:
        return
    if not _open(path):
        yield path
    for inner in _within(path):
        if not _open(inner):
            yield inner
        yield from (file for file in _within(inner) if not _open(file))


def _within(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if not inner.name.startswith(".")) if path.is_dir() else []


def _open(path: Path) -> bool:
    """Whether a path is readable, or a link that leads nowhere."""
    needed = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK  # noqa: PTH112 - raises nothing
    return not os.path.exists(path) or os.access(path, needed, effective_ids=True)  # noqa: PTH110 - the same

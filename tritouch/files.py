"""Which edits a command line means, and where their pictures go; all that can be known is checked beforehand."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tritouch.errors import TritouchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tritouch.form import Format

STANDARD: Final = "-"
"""Standard input or output."""
FORMATS: Final[dict[str, Format]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""The file formats by suffix."""


@dataclass(frozen=True)
class Job:
    """One edit: the pictures it takes, in what format the answer comes, and its files, none for standard output.

    `first`: how many files of the same edit come before its own, so that its seed is so many further.
    """

    inputs: tuple[str, ...]
    format: Format
    outputs: tuple[Path, ...]
    first: int = 0

    @property
    def name(self) -> str:
        """What people know it by."""
        return "standard input" if self.inputs[0] == STANDARD else self.inputs[0]

    def missing(self) -> list[Job]:
        """What of it is to be made: an edit for each row of files that are not there. Raises OSError."""
        if not self.outputs:
            return [self]
        runs = groupby(enumerate(self.outputs, self.first), lambda place: place[1].exists())
        rows = [list(run) for there, run in runs if not there]
        return [replace(self, outputs=tuple(output for _, output in row), first=row[0][0]) for row in rows]


def one_edit(pictures: Sequence[str], output: str, chosen: Format | None, n: int, *, overwrite: bool) -> Job:
    """All pictures in one edit, whose answer goes to the file `output`. Raises `UsageError`."""
    _check(pictures)
    folder = next((picture for picture in pictures if Path(picture).is_dir()), None)
    if folder is not None:
        raise UsageError(f"{folder} is a folder: give --out-dir for the pictures that become of it")
    if output == STANDARD:
        if n > 1:
            raise UsageError("standard output takes one picture: give -o FILE for several")
        return Job(tuple(pictures), chosen or "png", ())
    path = Path(output)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise UsageError(f"{output}: name it .png, .jpg or .webp, which is what it is going to be")
    if chosen not in (None, format_):
        raise UsageError(f"{output} is no name for --format {chosen}: leave one of the two out")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such folder")
    job = Job(tuple(pictures), format_, _numbered(path, n))
    _keep_inputs([job])
    if not overwrite:
        refuse_existing(job.outputs)
    return job


def edit_each(pictures: Sequence[str], folder: Path, chosen: Format | None, n: int) -> list[Job]:
    """An edit of each picture, and of each in the folders among them, into `folder`. Raises `UsageError`."""
    _check(pictures)
    if STANDARD in pictures:
        raise UsageError("standard input has no name: give -o FILE, not --out-dir")
    jobs = [_job(path, folder, chosen, n) for picture in pictures for path in _within(Path(picture))]
    first: dict[Path, Job] = {}
    for job in jobs:
        for output in job.outputs:
            other = first.setdefault(output, job)
            if other is not job:
                raise UsageError(f"{other.name} and {job.name} would both become {output}: edit one of them by itself")
    _keep_inputs(jobs)
    return jobs


def refuse_existing(outputs: Iterable[Path]) -> None:
    """Raises `UsageError`: one of them is there."""
    there = next((output for output in outputs if output.exists()), None)
    if there is not None:
        raise UsageError(f"{there} is there already: --force overwrites it")


def refuse_unwritable(outputs: Sequence[Path]) -> None:
    """Raises `TritouchError`, or OSError, of what would be lost after its edit: a folder has the name of one of the
    files, or theirs takes none."""
    folder = next((output for output in outputs if output.is_dir()), None)
    if folder is not None:
        raise TritouchError(f"{folder} cannot be written: it is a folder")
    for output in outputs[:1]:  # all of one edit lie in one folder
        path = _part_of(output)
        try:
            path.touch()
        except OSError as error:
            raise _unwritten(output, error) from None
        finally:
            _remove(path)


def write(outputs: Sequence[Path], contents: Sequence[bytes], *, overwrite: bool) -> None:
    """All of the files or, where one fails, none: under other names first. Raises `TritouchError`."""
    if not overwrite:
        refuse_existing(outputs)
    with ExitStack() as undo:
        written: list[Path] = []
        for output, content in zip(outputs, contents, strict=True):
            path = _part_of(output)
            undo.callback(_remove, path)
            try:
                path.write_bytes(content)
            except OSError as error:
                raise _unwritten(output, error) from None
            written.append(path)
        for path, output in zip(written, outputs, strict=True):
            try:
                path.replace(output)
            except OSError as error:
                raise _unwritten(output, error) from None


def _part_of(output: Path) -> Path:
    """Where a file lies until it is whole."""
    return output.with_name(f".tritouch-{secrets.token_hex(8)}.part")


def _unwritten(output: Path, error: OSError) -> TritouchError:
    return TritouchError(f"{output} cannot be written: {error.strerror or error}")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _check(pictures: Sequence[str]) -> None:
    """Raises `UsageError`: one is not there, or standard input is wanted twice."""
    missing = next((one for one in pictures if one != STANDARD and not Path(one).exists()), None)
    if missing is not None:
        raise UsageError(f"{missing}: there is no such file")
    if pictures.count(STANDARD) > 1:
        raise UsageError("standard input can be read once: give - once")


def _within(path: Path) -> list[Path]:
    """A file itself; of a folder the pictures in it, by name, and links that lead nowhere, which then are told.

    What is no file, as a folder or a pipe, is none. Raises `UsageError`: there are no pictures.
    """
    if not path.is_dir():
        return [path]
    try:
        named = (one for one in path.iterdir() if one.suffix.lower() in FORMATS and not one.name.startswith("."))
        found = sorted(one for one in named if one.is_file() or not one.exists())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if not found:
        raise UsageError(f"{path} holds no pictures named .jpg, .jpeg, .png or .webp")
    return found


def _job(path: Path, folder: Path, chosen: Format | None, n: int) -> Job:
    suffix = path.suffix if chosen is None else {"jpeg": ".jpg"}.get(chosen, f".{chosen}")
    format_ = FORMATS.get(suffix.lower())
    if format_ is None:
        suffix, format_ = ".png", "png"
    return Job((str(path),), format_, _numbered(folder / f"{path.stem}{suffix}", n))


def _numbered(path: Path, n: int) -> tuple[Path, ...]:
    """`night.png` or, of several, `night-1.png`, `night-2.png`, ..."""
    return (path,) if n == 1 else tuple(path.with_stem(f"{path.stem}-{number}") for number in range(1, n + 1))


def _keep_inputs(jobs: Sequence[Job]) -> None:
    """Raises `UsageError`: a picture would be written over one that is read."""
    read = {os.path.realpath(one) for job in jobs for one in job.inputs}
    lost = next((output for job in jobs for output in job.outputs if os.path.realpath(output) in read), None)
    if lost is not None:
        raise UsageError(f"{lost} is one of the pictures to edit: write it under another name, or to another folder")

"""What people see of edits: a bar on standard error, where that is a terminal; results on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from tritouch.errors import TritouchError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Screen:
    """A context manager. `total`: of what the bar counts, None where that is not known yet.

    as_json: results are one JSON object a line. results: whether standard output is for results, or for a picture.
    """

    def __init__(self, label: str, total: int | None, *, as_json: bool, results: bool) -> None:
        self._console = _Console(stderr=True, highlight=False)
        self._as_json, self._results = as_json, results
        self._away = False
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Count(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not _shows(sys.stderr),
        )
        self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, completed: int | None = None, total: int | None = None) -> None:
        """One more is done, or so many of so many are."""
        if completed is None:
            self._bar.advance(self._task)
        else:
            self._bar.update(self._task, completed=completed, total=total)

    def result(self, text: str, record: Mapping[str, Any]) -> None:
        """A result, as a sentence or, with `as_json`, as a record."""
        if self._as_json:
            self._out(json.dumps(record))
        elif self._results:
            self._out(text)

    def event(self, record: Mapping[str, Any]) -> None:
        """What only readers of JSON are told."""
        if self._as_json:
            self._out(json.dumps(record))

    def waits(self, seconds: float, problem: TritouchError) -> None:
        """A try has failed, and the next is in so many seconds. Where there is no bar, only that a server cannot be
        reached is told, and once."""
        away = isinstance(problem, UnreachableError)
        if not self._bar.disable or (away and not self._away):
            self.note(f"tritouch: {problem} Trying again in {seconds:.1f} s")
        self._away |= away

    def note(self, text: str) -> None:
        """A line for people, on standard error. Where that cannot be written, edits go on all the same."""
        try:
            self._console.print(text, markup=False, soft_wrap=True)
        except OSError:
            _close(sys.stderr)

    def _out(self, text: str) -> None:
        if _shows(sys.stdout) and not self._bar.disable:
            self._console.print(text, markup=False, soft_wrap=True)  # above the bar, on the same terminal
            return
        try:
            say(text)
        except TritouchError as problem:
            self.note(f"tritouch: {problem}")


class _Console(Console):
    """Rich's own ends the process where a reader has gone, and the edits with it."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


class _Count(ProgressColumn):
    """How many of how many, once that is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


def say(text: str) -> None:
    """A line on standard output, unless its reader has gone, who has seen enough. Raises `TritouchError`: it cannot be
    written."""
    try:
        _write(sys.stdout, text)
    except OSError as error:
        _close(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise _unwritten(error) from None


def tell(text: str) -> None:
    """A line on standard error, which says nothing where that cannot be written: the exit code is left."""
    try:
        _write(sys.stderr, text)
    except OSError:
        _close(sys.stderr)


def write_picture(content: bytes) -> None:
    """Onto standard output. Raises `TritouchError`: it cannot be written."""
    left = memoryview(content)
    try:
        while left:  # Python's unbuffered output takes a part where a signal comes
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.buffer.flush()
    except OSError as error:
        _close(sys.stdout)
        raise _unwritten(error) from None
    except KeyboardInterrupt:
        _close(sys.stdout)  # else the end of the process would wait for its reader as this did
        raise


def _write(stream: TextIO | None, text: str) -> None:
    """Raises OSError. One that was closed before the start is None."""
    if stream is not None:
        stream.write(text.encode(errors="backslashreplace").decode() + "\n")
        stream.flush()


def _shows(stream: TextIO | None) -> bool:
    """Whether it is a terminal."""
    return stream is not None and stream.isatty()


def _unwritten(error: OSError) -> TritouchError:
    return TritouchError(f"standard output cannot be written: {error.strerror or error}")


def _close(stream: TextIO) -> None:
    """Write nothing more to it, nor at the end of the process: it cannot be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)

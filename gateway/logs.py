"""One JSON object a line on standard output, with nothing in it that a caller wrote.

A line that cannot be written at once, because the disk is full, the reader gone, or nobody reads, is lost; what it is
about goes on, and before the next line that is written stands how many were lost. Other libraries' records keep their
place and lose their text, for it may hold input; so do exceptions' messages.
"""

import io
import logging
import os
import select
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import orjson
import structlog

Event = MutableMapping[str, Any]
_TRUSTED: Final = "uvicorn.error"  # Says when it starts and stops, and nothing of requests.


class Output(io.TextIOBase):
    """A file descriptor that is never waited for. What it does not take at once is lost, and counted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False

    def write(self, text: str) -> int:
        """Write the whole lines of `text`, or none of them or, of what is longer than 4096 bytes, a part."""
        with self._lock:
            before = _line({"event": "log_lines_lost", "level": "warning", "lines": self._lost}) + "\n"
            whole = "\n" * self._torn + before * bool(self._lost) + text
            if self._taken(whole.encode("utf-8", "backslashreplace")):
                self._lost, self._torn = 0, False
            else:
                self._lost += 1
        return len(text)

    def _taken(self, content: bytes) -> bool:
        """Whether all of it was written. A pipe that has room has it for as much as is written at once here."""
        for at in range(0, len(content), select.PIPE_BUF):
            part = content[at : at + select.PIPE_BUF]
            written = 0
            with suppress(OSError):
                if self._writable.poll(0):
                    written = os.write(self._descriptor, part)
            if written < len(part):
                self._torn = self._torn or at + written > 0
                return False
        return True


def _where(_: Any, __: str, event: Event) -> Event:
    """An exception as its type and the places it came through, without its message."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["where"] = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    return event


def _without_text(_: Any, __: str, event: Event) -> Event:
    """A record of another library: which, and where, but not what."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord) and record.name != _TRUSTED:
        event.update(event="library", logger=record.name, at=f"{record.module}:{record.lineno}")
    return event


def _line(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=lambda value: type(value).__name__).decode()


def configure(level: str) -> None:
    """Send this process's logs, ours and others', of `level` and worse to standard output."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _where,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=[]), *shared],
        processors=[
            _without_text,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(_line),
        ],
    )
    output = cast("TextIO", Output(sys.stdout.fileno()))
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_line)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )

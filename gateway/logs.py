"""One JSON object a line on standard output, with nothing in it that a caller wrote.

A line that cannot be written, because the disk is full or the reader gone, is lost; what it is about goes on. Other
libraries' records keep their place and lose their text, for it may hold input; so do exceptions' messages.
"""

import io
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import orjson
import structlog

Event = MutableMapping[str, Any]
_TRUSTED: Final = "uvicorn.error"  # Says when it starts and stops, and nothing of requests.


class _Output(io.TextIOBase):
    """A file descriptor, written to at once. What cannot be written is lost, and nobody told."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Write all of `text`, or as much as the system takes."""
        with suppress(OSError):
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        return len(text)


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
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), _where]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=[]), *shared],
        processors=[
            _without_text,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(_line),
        ],
    )
    output = cast("TextIO", _Output(sys.stdout.fileno()))
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_line)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=True,
    )

"""One JSON object a line on standard output, with nothing in it that a caller wrote.

Other libraries' records keep their place and lose their text, for it may hold input; so do exceptions' messages.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final

import orjson
import structlog

Event = MutableMapping[str, Any]
_TRUSTED: Final = "uvicorn.error"  # Says when it starts and stops, and nothing of requests.


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
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_line)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )

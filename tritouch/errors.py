"""What can go wrong with an edit, as the caller sees it: one family of errors, with the command line's exit codes."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class TritouchError(Exception):
    """An edit that did not come back. Its text is one line that says what to change.

    `status`: the server's HTTP status, 0 where it gave none. `code`: the server's own word for it, or "".
    `retry_after`: seconds after which the server takes the same request again, or None where it did not say.
    `passing`: whether the same request may be answered later.
    """

    exit_code = 1
    passing = False

    def __init__(self, message: str, *, status: int = 0, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class UsageError(TritouchError):
    """What was asked cannot be sent: the caller's own arguments, files or settings."""

    exit_code = 2


class RefusedError(TritouchError):
    """The server answered, and would answer the same again."""

    exit_code = 3


class BusyError(TritouchError):
    """The server is full, starting or stopping, and stayed so for all tries."""

    exit_code = 4
    passing = True


class UnreachableError(TritouchError):
    """No answer came, for all tries: no server at the address, or the connection was lost."""

    exit_code = 4
    passing = True


class TimeOverError(TritouchError):
    """The edit took longer than the server, or the caller's own `timeout`, allows."""

    exit_code = 5


ADDRESS: Final = "TRITOUCH_URL"
"""What errors call the server's address where the caller gave none."""

_PASSING_STATUSES: Final = {408, 425, 429, 502, 503, 504}
_PASSING_CODES: Final = {"queue_full", "unavailable", "shutting_down"}
_HINTS: Final = {401: " Set TRITOUCH_API_KEY to one of its keys."}


def problem_of(
    status: int, answer: object, headers: Mapping[str, str] | None = None, address: str = ADDRESS
) -> TritouchError:
    """The error that an answer means: its status (0 within a stream), its JSON or None, its headers.

    `address`: what the caller gave the server's address as.
    """
    told = answer.get("error") if isinstance(answer, dict) else None
    error = told if isinstance(told, dict) else {}
    code, headers = str(error.get("code") or ""), headers or {}
    message = str(error.get("message") or f"the server answered {status or 'an error'} without saying why")
    if not error and 400 <= status < 500:
        message += f": is {address} that of a Tritouch server?"
    if 300 <= status < 400:
        message = f"the server sends elsewhere ({headers.get('location', status)}): set {address} to where it is"
    kind: type[TritouchError] = RefusedError
    if code == "deadline_exceeded":
        kind = TimeOverError
    elif code in _PASSING_CODES or _may_be_sent_again(status, headers.get("x-should-retry")):
        kind = BusyError
    text = " ".join(message.split()) + _HINTS.get(status, "")
    return kind(text, status=status, code=code, retry_after=_seconds(headers.get("retry-after")))


def _may_be_sent_again(status: int, said: str | None) -> bool:
    return said == "true" or (said != "false" and (status in _PASSING_STATUSES or status == 500))


def _seconds(text: str | None) -> float | None:
    """`Retry-After`, which is a number of seconds or a date. What is neither says nothing."""
    if not text:
        return None
    with suppress(ValueError, OverflowError):
        return max(0.0, float(text)) if math.isfinite(float(text)) else None
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None

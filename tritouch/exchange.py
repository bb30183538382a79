"""How one request is sent until it is answered, without the sending: what both clients share.

A flow is a generator that yields what to do next, `Send` or `Wait`, is given what came of it, and returns the answer.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import httpx

from tritouch.errors import ADDRESS, BusyError, TimeOverError, TritouchError, UnreachableError, problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
"""Seconds before the first retry, doubled for each, and the most of them; the server's `Retry-After` can only add."""
MOST_PATIENT: Final = 300.0
"""A server that asks for more seconds than these is not waited for."""
CONNECT_SECONDS: Final = 10.0
FIRST_RETRIES: Final = 3
"""Most, some three seconds, while nothing has been heard of the server: it is sooner absent than about to be back."""


@dataclass(frozen=True)
class Send:
    """Send the request; come back with the response (read, unless it is a stream that began) or what httpx raised."""

    request: httpx.Request


@dataclass(frozen=True)
class Wait:
    """Wait so long, and come back with None."""

    seconds: float


T = TypeVar("T")
Came: TypeAlias = "httpx.Response | httpx.RequestError | None"
Flow: TypeAlias = "Generator[Send | Wait, Came, T]"


@dataclass
class Server:
    """What a client knows of its server: what its address was given as, and whether it was ever reached."""

    address: str = ADDRESS
    reached: bool = False


class Tries:
    """What is left of one edit's tries and time. `told` hears of each wait: its seconds, and the reason."""

    def __init__(
        self, retries: int, timeout: float, told: Callable[[float, TritouchError], None], server: Server
    ) -> None:
        self._retries, self._told, self.server = retries, told, server
        self._timeout, self._end = timeout, time.monotonic() + timeout
        self._made = 0

    def left(self) -> float:
        """Seconds. Raises `TimeOverError` where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeOverError(f"no answer within {self._timeout:g} s: give it more time, or ask for less")
        return left

    def after(self, problem: TritouchError) -> Wait:
        """The wait before the next try. Raises `problem` where there is none to be made."""
        seconds = min(LONGEST_WAIT, FIRST_WAIT * 2**self._made) * random.uniform(0.75, 1)  # noqa: S311
        seconds = max(seconds, problem.retry_after or 0)
        retries = self._retries if self.server.reached else min(self._retries, FIRST_RETRIES)
        if not problem.passing or self._made >= retries or seconds > min(MOST_PATIENT, self.left()):
            raise problem
        self._made += 1
        self._told(seconds, problem)
        return Wait(seconds)


def exchange(request: httpx.Request, tries: Tries) -> Flow[httpx.Response]:
    """Send `request` until it is answered with 200. Raises `TritouchError`."""
    while True:
        left = tries.left()
        request.extensions = {"timeout": httpx.Timeout(left, connect=min(left, CONNECT_SECONDS)).as_dict()}
        came = yield Send(request)
        tries.server.reached |= not isinstance(came, (httpx.ConnectError, httpx.ConnectTimeout))
        if isinstance(came, httpx.Response):
            if came.status_code == 200:
                return came
            problem = problem_of(came.status_code, _json(came), came.headers, tries.server.address)
        else:
            assert came is not None  # noqa: S101  # only a Wait brings None
            problem = lost(came, tries)
        yield tries.after(problem)


def lost(error: httpx.RequestError, tries: Tries) -> TritouchError:
    """What it means that httpx raised `error`. Raises `TimeOverError`."""
    if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
        tries.left()
        return TimeOverError("the server fell silent: no answer came in time")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        address = tries.server.address
        return UnreachableError(f"cannot reach {_origin(error)}: is the server up, and {address} right?")
    if isinstance(error, httpx.PoolTimeout):
        return BusyError("all connections of this client are in use")
    return UnreachableError(f"lost the connection to {_origin(error)}")


def _origin(error: httpx.RequestError) -> str:
    url = error.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def _json(response: httpx.Response) -> object:
    try:
        return json.loads(response.content)
    except ValueError:
        return None

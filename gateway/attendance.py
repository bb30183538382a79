"""Runs work for a caller only as long as the caller stays. Knows nothing of the work."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from gateway.errors import CallerGoneError

T = TypeVar("T")


async def _gone(receive: Receive) -> None:
    """Return when the connection is lost. Only right once the body is read; hidden by `BaseHTTPMiddleware`."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def attended(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises. When the connection is lost first, cancel it and raise `CallerGoneError`."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerGoneError
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)

"""Reads a request's body within its bounds. Knows nothing of what is in it."""

import asyncio
import io
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from gateway.admission import Held
from gateway.errors import CallerGoneError, PublicError


@dataclass(frozen=True)
class Bounds:
    """How large a body may be, and how slow.

    It may take `seconds` in all, and come at `bytes_per_second` at the least, with pauses of up to `pause_seconds`.
    """

    max_bytes: int
    seconds: float
    bytes_per_second: float
    pause_seconds: float


async def read(request: Request, held: Held, bounds: Bounds) -> bytes:
    """The whole body, `held` growing as it comes.

    Raises `PublicError` as soon as it is known to be too large, for `bounds` or for the memory left, or too slow;
    `CallerGoneError`.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise PublicError("unsupported_media_type", message="Send the body without a content encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit():
        _check(held, int(declared[:20]), bounds)
    try:
        async with asyncio.timeout(bounds.seconds):
            return await _collected(request, held, bounds)
    except TimeoutError:
        raise PublicError("body_too_slow") from None
    except ClientDisconnect:
        raise CallerGoneError from None


async def _collected(request: Request, held: Held, bounds: Bounds) -> bytes:
    content = io.BytesIO()  # Gives its content away without another copy, which for large bodies takes long.
    now, stream = asyncio.get_running_loop().time, request.stream()
    late = now() + bounds.pause_seconds
    while True:
        async with asyncio.timeout_at(late):
            chunk = await anext(stream, None)
        if chunk is None:
            return content.getvalue()
        late = min(late + len(chunk) / bounds.bytes_per_second, now() + bounds.pause_seconds)
        size = content.tell() + len(chunk)
        _check(held, size, bounds)
        held.resize(size)
        content.write(chunk)


def _check(held: Held, size: int, bounds: Bounds) -> None:
    """Raises `PublicError` when there is no place for so many bytes."""
    if size > bounds.max_bytes:
        raise PublicError("body_too_large")
    held.check(size)

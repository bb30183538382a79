"""Reads a request's body within its bounds. Knows nothing of what is in it."""

import asyncio
import io

from starlette.requests import ClientDisconnect, Request

from gateway.admission import Held
from gateway.errors import CallerGoneError, PublicError


async def read(request: Request, held: Held, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body, `held` grown to its size.

    Raises `PublicError` as soon as it is known to be larger than `max_bytes` or than the memory left, or when it has
    not arrived within `seconds`; `CallerGoneError`.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise PublicError("unsupported_media_type", message="Send the body without a content encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit():
        _grow(held, int(declared[:20]), max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _collected(request, held, max_bytes)
    except TimeoutError:
        raise PublicError("body_too_slow") from None
    except ClientDisconnect:
        raise CallerGoneError from None


async def _collected(request: Request, held: Held, max_bytes: int) -> bytes:
    content = io.BytesIO()  # Gives its content away without another copy, which for large bodies takes long.
    async for chunk in request.stream():
        _grow(held, content.tell() + len(chunk), max_bytes)
        content.write(chunk)
    return content.getvalue()


def _grow(held: Held, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PublicError("body_too_large")
    held.resize(max(size, held.size))

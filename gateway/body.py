"""Reads a request's body within its bounds. Knows nothing of what is in it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request

from gateway.errors import PublicError


class CallerGoneError(Exception):
    """The caller's connection is lost: nobody will read an answer."""


async def read(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises `PublicError` as soon as it is known to be larger than `max_bytes`; `CallerGoneError`."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise PublicError("body_too_large")
    content = bytearray()
    async with aclosing(_chunks(request)) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > max_bytes:
                raise PublicError("body_too_large")
    return bytes(content)


async def _chunks(request: Request) -> AsyncGenerator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise CallerGoneError from None

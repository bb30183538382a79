"""The moment by which an edit must be done, waits of every kind included. Knows nothing of the edit."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gateway.errors import PublicError


class Deadline:
    """`seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, more than 0. Raises `PublicError("deadline_exceeded")` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise PublicError("deadline_exceeded")
        return left

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """End the block then, raising `PublicError("deadline_exceeded")`."""
        try:
            async with asyncio.timeout(self.left()):
                yield
        except TimeoutError:
            raise PublicError("deadline_exceeded") from None

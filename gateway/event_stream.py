"""An answer that is sent as server-sent events, as they happen, and ends when its caller leaves."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.disconnects import until_disconnect
from gateway.errors import CallerGoneError
from gateway.events import PING
from gateway.feeds import Listener, Told

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """What `listener` is told, with a comment after each `ping_seconds` of silence.

    `place`: what is held for as long as it is sent. `sent`: is told each kind that was.
    """

    media_type = MEDIA_TYPE
    charset = ""

    def __init__(self, listener: Listener, place: ExitStack, ping_seconds: float, sent: Callable[[str], None]) -> None:
        super().__init__(headers=HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self.headers["content-type"] = MEDIA_TYPE
        self._listener, self._place, self._ping_seconds, self._tell = listener, place, ping_seconds, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            try:
                await until_disconnect(receive, self._sent(scope, send))
            except CallerGoneError:
                scope["state"].setdefault("reason", "caller_gone")  # who was told of a failure leaves at once

    async def _sent(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while (told := await self._next(send)) is not None:
            await send({"type": "http.response.body", "body": told.content, "more_body": True})
            # Sending waits until all but a little of what was sent before is read.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            self._listener.read(told)
            self._tell(told.kind)
            if told.code:
                scope["state"]["reason"] = told.code
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self, send: Send) -> Told | None:
        while True:
            try:
                async with asyncio.timeout(self._ping_seconds):
                    return await self._listener.next()
            except TimeoutError:
                await send({"type": "http.response.body", "body": PING, "more_body": True})

"""Answers that are in memory until their caller has read them."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.admission import Memory


class Unread(Response):
    """JSON whose bytes are held in `memory`, as `caller`'s, until they are read, or the caller is gone."""

    media_type = "application/json"

    def __init__(self, content: bytes, memory: Memory, caller: str) -> None:
        super().__init__(content)
        self._memory, self._caller = memory, caller

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        with self._memory.hold(self._caller) as held:
            held.keep(len(self.body))
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            # Sending waits until all but a little of what was sent before is read.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

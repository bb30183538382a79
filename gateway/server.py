"""Runs the app under uvicorn; a stop signal first drains it."""

from __future__ import annotations

import math
import time
import uuid
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import PublicError, render

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from gateway.edits import Edits
    from gateway.settings import Settings


class Protocol(H11Protocol):
    """Uvicorn's HTTP, which answers what is no HTTP at all in the one shape of errors, too."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words are not for the public
        """Answer and close."""
        answer = render(PublicError("body_unreadable", message="The request is not well-formed HTTP."))
        headers = [(b"connection", b"close"), (b"x-request-id", uuid.uuid4().hex.encode()), *answer.raw_headers]
        events = (
            h11.Response(status_code=answer.status_code, headers=headers),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn's server, which on the first signal takes no new edits, waits for those in flight, and only then stops.

    Until then it still answers, so that `/readyz` can say that it is going. A second signal ends the wait.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=Protocol,
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._edits: Edits = app.state.edits
        self._drain_seconds = settings.drain_seconds
        self._end = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second time, stop."""
        if self._edits.closed or not self.started:
            super().handle_exit(sig, frame)
        self._edits.close()
        self._end = min(self._end, time.monotonic() + self._drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now. Uvicorn asks ten times a second."""
        drained = self._edits.closed and (self._edits.idle or time.monotonic() > self._end)
        return await super().on_tick(counter) or drained

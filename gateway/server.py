"""Runs the app under uvicorn; a stop signal first drains it."""

from __future__ import annotations

import math
import os
import resource
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import uvicorn

from gateway.cors import sharing_early
from gateway.protocol import Bounds, Protocol
from gateway.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from fastapi import FastAPI

    from gateway.edits import Edits
    from gateway.settings import Settings

# Connections that are taken at once, before those that are too many can be closed. asyncio would have the system queue
# no more either: so its queue is set again afterwards.
_ACCEPTED: Final = 16
_QUEUE: Final = 2048


def most_connections(wanted: int) -> int:
    """`wanted`, or half of the files that this process may have open, if that is less; the rest is for its own work."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else min(wanted, files // 2)


class Server(uvicorn.Server):
    """Uvicorn's server, which on the first signal takes no new edits, waits for those in flight, and only then stops.

    Until then it still answers, so that `/readyz` can say that it is going. A second signal ends the wait.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        bounds = Bounds(
            most=most_connections(settings.max_connections),
            head_seconds=settings.head_timeout_seconds,
            pause_seconds=settings.body_pause_seconds,
            bytes_per_second=settings.body_bytes_per_second,
            shared=partial(sharing_early, origins=settings.cors_origins),
        )
        protocol = partial(Protocol, bounds=bounds, turns=Turns(), refused=app.state.refused)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=_ACCEPTED,
                timeout_graceful_shutdown=2,
            )
        )
        self._edits: Edits = app.state.edits
        self._drain_seconds = settings.drain_seconds
        self._end = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a queue longer than what is accepted at once."""
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(_QUEUE)

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

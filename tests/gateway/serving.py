"""Runs the real app under uvicorn, beside a fake Triton, on an event loop of its own thread."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from gateway.main import create_app
from gateway.server import Server
from gateway.settings import Settings
from tests.gateway.fake_triton import FakeTriton

T = TypeVar("T")
PATIENT = {"orphan_grace_seconds": 60, "head_timeout_seconds": 60, "body_pause_seconds": 60}
"""So much time that no test runs out of it that is not about time."""


@contextmanager
def unhurried() -> Iterator[None]:
    """A Triton that is late in saying that it is ready, as on a busy machine, is not taken for one that is away."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gateway.triton.READY_SECONDS", 30)
        yield


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 60) -> T:
        """Run `work` there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def _finished(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def close(self) -> None:
        self.run(self._finished())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class _Server(Server):
    """The gateway's server, which is told when to stop; uvicorn's looks whether it should ten times a second."""

    async def main_loop(self) -> None:
        self._told = asyncio.Event()
        await self.on_tick(0)
        await self._told.wait()

    def stop(self) -> None:
        self._told.set()


class Gateway:
    """A running gateway: `url`, and the `triton` behind it."""

    def __init__(self, loop: Loop, triton: FakeTriton, settings: Settings, tracing: Any = None) -> None:
        self.loop, self.triton, self.settings = loop, triton, settings
        self.app = create_app(settings, tracing)
        self._server = _Server(self.app, settings)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self._server.serve([self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._server.stop()
        await self._task


@contextmanager
def serving(loop: Loop, triton: FakeTriton, tracing: Any = None, **overrides: Any) -> Iterator[Gateway]:
    """A gateway in front of `triton`, with these settings changed."""
    settings = Settings(**(PATIENT | {"triton_grpc": triton.address} | overrides))
    gateway = Gateway(loop, triton, settings, tracing)
    loop.run(gateway.start())
    try:
        yield gateway
    finally:
        loop.run(gateway.stop())
        if tracing:
            tracing.close()

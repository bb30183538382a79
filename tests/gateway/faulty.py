"""A TCP proxy that does to a connection what networks do."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

Fault = Literal["none", "slow", "hung", "refused", "reset", "half an answer"]


class FaultProxy:
    """Forwards to `port` of this machine, with a fault that can be changed at any time."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.fault: Fault = "none"
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.fault in ("refused", "reset"):
                writer.transport.abort()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        there = asyncio.ensure_future(self._forward(reader, far_writer, lambda: False))
        back = asyncio.ensure_future(self._forward(far_reader, writer, lambda: self.fault == "half an answer"))
        self._tasks |= {there, back}
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, far_writer):
            one.transport.abort()
            self._writers.discard(one)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, halved: Callable[[], bool]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                while self.fault == "hung":
                    await asyncio.sleep(0.02)
                if self.fault == "slow":
                    await asyncio.sleep(0.1)
                if halved() and len(data) > 100:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()

"""One GET over a connection that is there, from a server that may do its worst.

Whatever it sends is handled in small turns, between which others have theirs; and it may send little that is not
content. Knows nothing of addresses, redirects, time, or what is in a picture.
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from typing import Final

import h11
import httpcore

from gateway.urls import Url

MAX_HEAD_BYTES: Final = 16_384
MAX_HEAD_LINES: Final = 1024  # until a head is complete; each costs a microsecond or two
MAX_INFORMATIONAL: Final = 8
MAX_FRAMING: Final = 65_536  # bytes of a body that are no content, beside an eighth of what is
MIN_PIECE: Final = 64  # bytes that a piece of content has on the average, beside the first SPARE_PIECES
SPARE_PIECES: Final = 1024
STEPS_A_TURN: Final = 16
_HEAD_READ: Final = 1024  # so that little content comes along, whose line ends would count
_CHUNKED_READ: Final = 8192
_READ: Final = 65_536
_HEADERS: Final = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", "tritouch")]


class RefusedError(Exception):
    """This fetch goes no further."""


class Download:
    """The answer to a GET of `url`, which is sent over `stream`.

    All methods raise `RefusedError`, `h11.ProtocolError`, and what `stream` raises.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, url: Url) -> None:
        self._stream, self._url = stream, url
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._steps = 0
        self._received = 0

    async def head(self) -> tuple[int, Mapping[bytes, bytes]]:
        """Send the request. Returns the answer's status and its headers, named in lower case."""
        request = h11.Request(method="GET", target=self._url.target, headers=[("Host", self._url.authority), *_HEADERS])
        sent = [self._connection.send(event) or b"" for event in (request, h11.EndOfMessage())]
        await self._stream.write(b"".join(sent))
        for _ in range(MAX_INFORMATIONAL + 1):
            event = await self._next(_HEAD_READ, MAX_HEAD_LINES)
            if isinstance(event, h11.Response):
                return event.status_code, dict(event.headers)
            if not isinstance(event, h11.InformationalResponse):
                break
        raise RefusedError

    async def body(self, headers: Mapping[bytes, bytes], max_bytes: int, grown: Callable[[int], None]) -> bytes:
        """The content after `head`, of at most `max_bytes`; `grown` is told its size so far, and may raise."""
        if int(headers.get(b"content-length", b"0")) > max_bytes:
            raise RefusedError
        at_most = _CHUNKED_READ if b"transfer-encoding" in headers else _READ
        content, before, pieces = io.BytesIO(), self._received, 0
        while isinstance(event := await self._next(at_most), h11.Data):
            pieces += 1
            size = content.tell() + len(event.data)
            framing = self._received - before - size
            if size > max_bytes or pieces > SPARE_PIECES + size // MIN_PIECE or framing > MAX_FRAMING + size // 8:
                raise RefusedError
            grown(size)
            content.write(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise RefusedError
        return content.getvalue()

    async def _next(self, at_most: int, max_lines: int | None = None) -> object:
        """The next event, reading `at_most` bytes at once, and no more than `max_lines` lines until it comes."""
        lines = 0
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            await self._turn()
            data = await self._stream.read(at_most)
            self._received += len(data)
            lines += data.count(b"\n")
            if max_lines is not None and lines > max_lines:
                raise RefusedError
            self._connection.receive_data(data)
        await self._turn()
        return event

    async def _turn(self) -> None:
        """Let others have theirs, now and then. Reading does not always do so."""
        self._steps += 1
        if self._steps % STEPS_A_TURN == 0:
            await asyncio.sleep(0)

"""Uvicorn's HTTP/1.1 on one connection, bounded where it is not: what comes before a request, and how finely.

Every answer of its own has the one shape of errors. Knows nothing of routes.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import PublicError, render

if TYPE_CHECKING:
    import asyncio

NOT_HTTP: Final = "The request is not well-formed HTTP."
HEAD_TOO_SLOW: Final = "The headers took too long to arrive."
MAX_HEAD_BYTES: Final = 16_384
MIN_CHUNK: Final = 64  # bytes that a chunk of a body has on the average, beside the first SPARE_CHUNKS
SPARE_CHUNKS: Final = 1024
_HEAD_SLICE: Final = 4096  # bytes that are parsed at once; a head of more than its maximum is refused between them
_BODY_SLICE: Final = 16_384


class _Parser(h11.Connection):
    """h11, which refuses what is framed in two ways at once, or in chunks so small that they hold up the event loop."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            self._chunked, self._chunks, self._bytes = b"transfer-encoding" in names, 0, 0
            if self._chunked and b"content-length" in names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        elif isinstance(event, h11.Data) and self._chunked:
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > SPARE_CHUNKS + self._bytes // MIN_CHUNK:
                raise h11.RemoteProtocolError("chunks too small")
        return event


class Protocol(H11Protocol):
    """One connection. While no request is under way it waits for one: so long, and only while there is room.

    `most`: connections that there may be. `head_seconds`: how long one may be without a request under way.
    """

    def __init__(self, *args: Any, most: int, head_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn = _Parser(h11.SERVER, MAX_HEAD_BYTES)
        self._most, self._head_seconds = most, head_seconds
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; where there are too many, in the place of the connection that has waited longest."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self._most:
            others = [one for one in self.connections if _waits(one) and one is not self]
            if others:
                longest = min(others, key=Protocol.waits_until)
                self.connections.discard(longest)
                longest.transport.abort()
            else:
                self._refuse(PublicError("queue_full"))

    def waits_until(self) -> float:
        """When it will be closed unless a request comes, by the event loop's clock; 0 while it waits for none."""
        return self._waiting.when() if self._waiting else 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, a little at a time."""
        at = 0
        while at < len(data) and not self.transport.is_closing():
            end = at + (_BODY_SLICE if self.conn.their_state is h11.SEND_BODY else _HEAD_SLICE)
            super().data_received(data[at:end])
            at = end

    def handle_events(self) -> None:
        """Take what has been parsed, and wait no more once it is a request."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()

    def on_response_complete(self) -> None:
        """Wait for the next request, even if the rest of this one's body is still to come."""
        self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words are not for the public
        """Answer and close."""
        self._refuse(PublicError("body_unreadable", message=NOT_HTTP))

    def _wait(self) -> None:
        self._wait_no_more()
        self._waiting = self.loop.call_later(self._head_seconds, self._late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        """Nothing, or no whole head, or never the end of the last body has come."""
        begun = self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]
        if begun:
            self._refuse(PublicError("body_too_slow", message=HEAD_TOO_SLOW))
        else:
            self.transport.abort()

    def _refuse(self, problem: PublicError) -> None:
        """Answer, unless an answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = render(problem)
            named = {name.lower(): value for name, value in answer.raw_headers}
            named |= {b"connection": b"close", b"x-request-id": uuid.uuid4().hex.encode()}
            events = (
                h11.Response(status_code=answer.status_code, headers=list(named.items())),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()


def _waits(connection: asyncio.Protocol) -> TypeGuard[Protocol]:
    return cast("Protocol", connection).waits_until() > 0

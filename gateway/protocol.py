"""Uvicorn's HTTP/1.1 on one connection, bounded where it is not: what comes before a request, how finely, and how
slowly an answer is read.

Every answer of its own has the one shape of errors. Knows nothing of routes.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import PublicError, render
from gateway.parsing import MAX_HEAD_BYTES, Flow, Parser

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from gateway.turns import Turns

NOT_HTTP: Final = "The request is not well-formed HTTP."
HEAD_TOO_SLOW: Final = "The headers took too long to arrive."
MAX_SURPLUS: Final = 16_384
"""Bytes that may come behind a request before it is answered."""
_HEAD_SLICE: Final = 4096  # bytes that are parsed at once; a head of more than its maximum is refused between them
_BODY_SLICE: Final = 16_384
_ORIGIN: Final = re.compile(rb"\norigin:[ \t]*([!-~]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Bounds:
    """What a connection may do.

    There may be `most`. One may be without a request under way for `head_seconds`. An answer is read at
    `bytes_per_second` at the least, looked at every `pause_seconds`. `shared` gives the headers by which a page of an
    origin, "" where it is not known, may read answers.
    """

    most: int
    head_seconds: float
    pause_seconds: float
    bytes_per_second: float
    shared: Callable[[str], Mapping[str, str]]


class Protocol(H11Protocol):
    """One connection. While no request is under way it waits for one: so long, and only while there is room."""

    def __init__(
        self, *args: Any, bounds: Bounds, turns: Turns, refused: Callable[[PublicError, str], None], **named: Any
    ) -> None:
        """`refused`: is told of what is answered here, with the id that the answer has."""
        super().__init__(*args, **named)
        self.conn: Parser = Parser(turns)
        self.flow: Flow
        self._bounds, self._turns, self._refused = bounds, turns, refused
        self._unparsed = bytearray()
        self._waiting: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._head = b""  # what has come since the last request, as far as it can be one's head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; where there are too many, in the place of the connection that has waited longest."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._wait()
        if len(self.connections) > self._bounds.most:
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
        self._read_enough()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, a little at a time."""
        self._unparsed += data
        if not self.flow.held:
            self._parse()

    def _parse(self) -> None:
        """Parse as much as may be in this turn, and go on in a later one; read on when all is parsed."""
        if self.transport.is_closing():
            return
        held, self.flow.held = self.flow.held, False
        if held:
            self.handle_events()
        while self._unparsed and not (self.conn.stopped or self.transport.is_closing()):
            body = self.conn.their_state is h11.SEND_BODY
            part = bytes(self._unparsed[: _BODY_SLICE if body else _HEAD_SLICE])
            del self._unparsed[: len(part)]
            self._head = b"" if body else (self._head + part)[-MAX_HEAD_BYTES:]
            super().data_received(part)
        if held and (self.cycle is None or len(self.cycle.body) <= HIGH_WATER_LIMIT):
            self.flow.resume_reading()

    def _read_on(self) -> None:
        """Read on behind a whole request, though uvicorn would not: else it is not seen that its caller leaves."""
        if len(self.conn.trailing_data[0]) > MAX_SURPLUS:
            self.transport.abort()
        else:
            self.flow.resume_reading()

    def handle_events(self) -> None:
        """Take what has been parsed, and wait no more once it is a request."""
        super().handle_events()
        if self.conn.stopped:
            self.flow.hold()
            self._turns.wait(self._parse)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = b""
            self._wait_no_more()
            if self.conn.their_state is not h11.SEND_BODY:
                self._read_on()

    def on_response_complete(self) -> None:
        """Wait for the next request, even if the rest of this one's body is still to come."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """More than a little of an answer is unread: look whether it is read."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """All but a little is read: from now on, the next request is waited for."""
        super().resume_writing()
        self._read_enough()
        if self._waiting is not None:
            self._wait()

    def _look_again(self, unread: int) -> None:
        self._reading = self.loop.call_later(self._bounds.pause_seconds, self._look, unread)

    def _look(self, before: int) -> None:
        """Close the connection whose answer is read too slowly. Nothing is added to it meanwhile."""
        unread = self.transport.get_write_buffer_size()
        if before - unread < self._bounds.bytes_per_second * self._bounds.pause_seconds:
            self.transport.abort()
        else:
            self._look_again(unread)

    def _read_enough(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words are not for the public
        """Answer and close."""
        self._refuse(PublicError("body_unreadable", message=NOT_HTTP))

    def _wait(self) -> None:
        self._wait_no_more()
        self._waiting = self.loop.call_later(self._bounds.head_seconds, self._late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        """Nothing, or no whole head, or never the end of the last body has come, or the last answer was not read."""
        begun = self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]
        if self._reading is not None:
            self._wait()
        elif begun and not self.transport.is_closing():
            self._refuse(PublicError("body_too_slow", message=HEAD_TOO_SLOW))
        else:
            self.transport.abort()

    def _refuse(self, problem: PublicError) -> None:
        """Answer, unless an answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer, request_id = render(problem), uuid.uuid4().hex
            bare = self.conn.our_state is h11.SEND_RESPONSE and self.conn.bare
            named = {name.lower(): value for name, value in answer.raw_headers}
            named |= {b"connection": b"close", b"x-request-id": request_id.encode(), **self._sharing()}
            events = (
                h11.Response(status_code=answer.status_code, headers=list(named.items())),
                h11.Data(data=b"" if bare else bytes(answer.body)),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
            self._refused(problem, request_id)
        if self.cycle is not None:
            self.cycle.disconnected = True
        self._wait()
        self.transport.close()

    def _sharing(self) -> dict[bytes, bytes]:
        """What lets pages of other origins read the answer, as far as it is known where the request comes from."""
        begun = _ORIGIN.search(self._head)
        origin = self.conn.origin if self.conn.our_state is h11.SEND_RESPONSE else begun[1] if begun else b""
        headers = self._bounds.shared(origin.decode("latin-1"))
        return {name.lower().encode(): value.encode() for name, value in headers.items()}


def _waits(connection: asyncio.Protocol) -> TypeGuard[Protocol]:
    return cast("Protocol", connection).waits_until() > 0

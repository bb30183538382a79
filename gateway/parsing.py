"""How finely HTTP is parsed on one connection, and how much of it at once: h11 and uvicorn's flow control, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from gateway.turns import Turns

MAX_HEAD_BYTES: Final = 16_384
MIN_CHUNK: Final = 64  # bytes that a chunk of a body has on the average, beside the first SPARE_CHUNKS
SPARE_CHUNKS: Final = 1024


class Parser(h11.Connection):
    """h11, which refuses what is framed in two ways at once, or in chunks so small that they hold up the event loop.

    Of chunks it parses as many as `turns` allow.
    """

    origin = b""
    """Where the page is from that sent the last request."""
    bare = False
    """Whether the answer to the last request has no content: it was a HEAD."""
    stopped = False
    """Whether it said that it needs data because its turn is over."""
    _chunked = False

    def __init__(self, turns: Turns) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._turns = turns

    def next_event(self) -> Any:
        self.stopped = self._chunked and self.their_state is h11.SEND_BODY and not self._turns.take()
        if self.stopped:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = dict(event.headers)
            self.origin, self.bare = names.get(b"origin", b""), event.method == b"HEAD"
            self._chunked, self._chunks, self._bytes = b"transfer-encoding" in names, 0, 0
            if self._chunked and b"content-length" in names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        elif isinstance(event, h11.Data) and self._chunked:
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > SPARE_CHUNKS + self._bytes // MIN_CHUNK:
                raise h11.RemoteProtocolError("chunks too small")
        return event


class Flow(FlowControl):
    """Uvicorn's, which reads nothing while there is something to parse still."""

    held = False

    def hold(self) -> None:
        """Read nothing for now."""
        self.held = True
        self.pause_reading()

    def pause_reading(self) -> None:
        """Read nothing, though it was said before: behind a body that nobody wanted uvicorn reads on by itself."""
        self.read_paused = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read, unless there is enough to parse."""
        if not self.held:
            super().resume_reading()

"""How much all connections together parse in one turn of the event loop, so that none of them holds up the others."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

CHUNKS: Final = 64
"""Chunks of bodies a turn: some two milliseconds, if they are of a few bytes each."""


class Turns:
    """Lets so many `chunks` be parsed in one turn. Who has more goes on in a later one, after those before him."""

    def __init__(self, chunks: int = CHUNKS) -> None:
        self._most = self._left = chunks
        self._waiting: deque[Callable[[], None]] = deque()
        self._called = False

    def take(self) -> bool:
        """Whether one more may be parsed now."""
        if not self._left:
            return False
        self._left -= 1
        self._call()
        return True

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a later turn."""
        self._waiting.append(go_on)
        self._call()

    def _call(self) -> None:
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._called, self._left = False, self._most
        for _ in range(len(self._waiting)):
            if not self._left:
                break
            self._waiting.popleft()()
        if self._waiting:
            self._call()

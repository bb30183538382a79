"""Places that callers share, so that a few who are slow do not have all. Knows nothing of what is done there."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Shares:
    """So many places, of which one caller has at most three quarters of what the others leave: two do not fill all."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._inside: Counter[str] = Counter()

    def of(self, caller: str) -> int:
        """How many places he has."""
        return self._inside[caller]

    def has(self, caller: str) -> bool:
        """Whether there is one more for him."""
        return self._inside[caller] < 3 * self._free

    def enter(self, caller: str) -> None:
        """Take one more, which there is."""
        self._free -= 1
        self._inside[caller] += 1

    def leave(self, caller: str) -> None:
        """Give one back."""
        self._free += 1
        self._inside -= Counter([caller])  # which forgets who has none


class Queue:
    """Places by `Shares`. Who is too many waits; the next is he whose caller has fewest, of several who came first."""

    def __init__(self, places: int) -> None:
        self._shares = Shares(places)
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def entered(self, caller: str) -> AsyncGenerator[None]:
        """Be inside for the block."""
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, admitted))
        self._admit()
        try:
            await admitted
            yield
        finally:
            if not admitted.cancelled():
                self._shares.leave(caller)
            self._admit()

    def _admit(self) -> None:
        """Let in who may."""
        self._waiting = [one for one in self._waiting if not one[1].cancelled()]
        while able := [one for one in self._waiting if self._shares.has(one[0])]:
            caller, admitted = first = min(able, key=lambda one: self._shares.of(one[0]))
            self._waiting.remove(first)
            self._shares.enter(caller)
            admitted.set_result(None)

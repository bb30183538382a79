"""Simulated time: a heap of what is to happen."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Clock:
    """Seconds since the beginning; they pass only from one event to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()  # of events at the same time: first set, first run

    def after(self, seconds: float, run: Callable[..., None], *arguments: Any) -> None:
        """Has `run` called so many seconds from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), run, arguments))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._events:
            self.now, _, run, arguments = heapq.heappop(self._events)
            run(*arguments)


class Station:
    """Takes one thing after another: an engine that makes one call at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._free = clock, 0.0

    def take(self, seconds: float, done: Callable[..., None], *arguments: Any) -> None:
        """Has `done` called when those before it and this one, which takes so many seconds, are through."""
        self._free = max(self._free, self._clock.now) + seconds
        self._clock.after(self._free - self._clock.now, done, *arguments)

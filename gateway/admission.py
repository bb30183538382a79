"""Counts what is in the house, and turns away what would be too much. Knows nothing of what it counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from gateway.errors import PublicError


class Gate:
    """Lets at most `limit` in at once, and none while `closed`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.inside = 0
        self.closed = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside for the block. Raises `PublicError`: `queue_full`, or `shutting_down` once closed."""
        if self.closed:
            raise PublicError("shutting_down")
        if self.inside >= self._limit:
            raise PublicError("queue_full")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Memory:
    """A budget of bytes that all requests share."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def hold(self) -> "Held":
        """A share of the budget, empty at first."""
        return Held(self)

    def change(self, difference: int) -> None:
        """Take more, or give back. Raises `PublicError("queue_full")` when there is no more."""
        if difference > 0 and self.held + difference > self._limit:
            raise PublicError("queue_full")
        self.held += difference


class Held:
    """One request's share of `Memory`, given back at the end of its `with`, whatever happens."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on. Raises `PublicError("queue_full")`, and then holds what it held."""
        self._memory.change(size - self.size)
        self.size = size

    def moved(self) -> "Held":
        """A new share that takes over what this one holds."""
        other = Held(self._memory)
        other.size, self.size = self.size, 0
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)

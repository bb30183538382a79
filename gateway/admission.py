"""Counts what is in the house, and turns away what would be too much. Knows nothing of what it counts."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from gateway.errors import PublicError

ENOUGH: Final = "You have as many edits under way as one caller may have here. Try again shortly."


class Gate:
    """Lets at most `limit` in at once, of one caller at most `each`, and none while `closed`."""

    def __init__(self, limit: int, each: int | None = None) -> None:
        self._limit, self._each = limit, limit if each is None else each
        self._inside: Counter[str] = Counter()
        self.inside = 0
        self.closed = False

    @property
    def most(self) -> int:
        """How many of one caller can be inside."""
        return min(self._limit, self._each)

    def check(self, caller: str = "", number: int = 1) -> None:
        """Raises `PublicError` where so many cannot enter now: `queue_full`, or `shutting_down` once closed."""
        if self.closed:
            raise PublicError("shutting_down")
        if self.inside + number > self._limit:
            raise PublicError("queue_full")
        if self._inside[caller] + number > self._each:
            raise PublicError("queue_full", message=ENOUGH)

    @contextmanager
    def entered(self, caller: str = "", number: int = 1) -> Iterator[None]:
        """Be inside for the block, as so many. Raises as `check` does."""
        self.check(caller, number)
        self.inside += number
        self._inside[caller] += number
        try:
            yield
        finally:
            self.inside -= number
            _less(self._inside, caller, number)


class Memory:
    """A budget of bytes that all requests share, and of which one caller has at most `each`.

    `held`: of all. `awaited`: of these, what someone waits for.
    """

    def __init__(self, limit: int, each: int | None = None) -> None:
        self._limit, self._each = limit, limit if each is None else each
        self._held: Counter[str] = Counter()
        self.held = self.awaited = 0

    def hold(self, caller: str = "", *, awaited: bool = True) -> "Held":
        """What one request of `caller` holds of the budget, nothing at first.

        `awaited`: whether someone waits for it; else it is kept for who may come.
        """
        return Held(self, caller, awaited)

    def check(self, caller: str, more: int) -> None:
        """Raises `PublicError("queue_full")` when there are not so many bytes more."""
        if more > 0 and (self.held + more > self._limit or self._held[caller] + more > self._each):
            raise PublicError("queue_full")

    def keep(self, caller: str, difference: int, awaited: bool) -> None:
        """Take more, even beyond the budget, or give back."""
        self.held += difference
        self.awaited += difference if awaited else 0
        _less(self._held, caller, -difference)


def _less(counts: Counter[str], caller: str, number: int) -> None:
    """Take `number` from what is counted of `caller`, and forget who has nothing."""
    counts[caller] -= number
    if not counts[caller]:
        del counts[caller]


class Held:
    """One request's part of `Memory`, given back at the end of its `with`, whatever happens."""

    def __init__(self, memory: Memory, caller: str, awaited: bool) -> None:
        self._memory, self._caller, self._awaited = memory, caller, awaited
        self.size = 0

    def check(self, size: int) -> None:
        """Raises `PublicError("queue_full")` when it could not hold `size` bytes now."""
        self._memory.check(self._caller, size - self.size)

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on. Raises `PublicError("queue_full")`, and then holds what it held."""
        self.check(size)
        self.keep(size)

    def keep(self, size: int) -> None:
        """Hold `size` bytes from now on, even beyond the budget: they are there already."""
        self._memory.keep(self._caller, size - self.size, self._awaited)
        self.size = size

    def moved(self) -> "Held":
        """A new part that takes over what this one holds."""
        other = Held(self._memory, self._caller, self._awaited)
        other.size, self.size = self.size, 0
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)

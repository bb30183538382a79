"""Counts what is in the house, and turns away what would be too much. Knows nothing of what it counts."""

from collections import Counter
from collections.abc import Callable, Iterator
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
        self._kept: dict[str, dict[Held, Callable[[], None]]] = {}
        self.held = self.awaited = 0

    def hold(self, caller: str = "", drop: Callable[[], None] | None = None) -> "Held":
        """What one request of `caller` holds of the budget, nothing at first.

        `drop`: of what nobody waits for, and is kept for who may come: called when its caller needs the room. It gives
        back all, unless someone has come.
        """
        return Held(self, caller, drop)

    def has(self, caller: str, more: int) -> bool:
        """Whether there are so many bytes more."""
        return more <= 0 or (self.held + more <= self._limit and self._held[caller] + more <= self._each)

    def check(self, caller: str, more: int) -> None:
        """Raises `PublicError("queue_full")` when there are not, even without what is kept of the caller's own."""
        for drop in [*self._kept.get(caller, {}).values()]:
            if self.has(caller, more):
                break
            drop()
        if not self.has(caller, more):
            raise PublicError("queue_full")

    def keep(self, caller: str, difference: int, awaited: bool) -> None:
        """Take more, even beyond the budget, or give back."""
        self.held += difference
        self.awaited += difference if awaited else 0
        _less(self._held, caller, -difference)

    def may_drop(self, caller: str, held: "Held", drop: Callable[[], None] | None) -> None:
        """Call `drop` for room, after those before it; None: no more."""
        kept = self._kept.setdefault(caller, {})
        if drop is None:
            kept.pop(held, None)
        else:
            kept[held] = drop
        if not kept:
            del self._kept[caller]


def _less(counts: Counter[str], caller: str, number: int) -> None:
    """Take `number` from what is counted of `caller`, and forget who has nothing."""
    counts[caller] -= number
    if not counts[caller]:
        del counts[caller]


class Held:
    """One request's part of `Memory`, given back at the end of its `with`, whatever happens."""

    def __init__(self, memory: Memory, caller: str, drop: Callable[[], None] | None) -> None:
        self._memory, self._caller, self._drop = memory, caller, drop
        self.size = 0

    def has(self, size: int) -> bool:
        """Whether it could hold `size` bytes now, and all else what it holds."""
        return self._memory.has(self._caller, size - self.size)

    def check(self, size: int) -> None:
        """Raises `PublicError("queue_full")` when it could not hold `size` bytes now."""
        self._memory.check(self._caller, size - self.size)

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on. Raises `PublicError("queue_full")`, and then holds what it held."""
        self.check(size)
        self.keep(size)

    def keep(self, size: int) -> None:
        """Hold `size` bytes from now on, even beyond the budget: they are there already."""
        self._memory.keep(self._caller, size - self.size, awaited=self._drop is None)
        self.size = size
        if self._drop is not None:
            self._memory.may_drop(self._caller, self, self._drop if size else None)

    def moved(self) -> "Held":
        """A new part that takes over what this one holds."""
        other = Held(self._memory, self._caller, self._drop)
        other.size, self.size = self.size, 0
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)

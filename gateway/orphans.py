"""Keeps work whose caller has left for a short grace, so that the same request coming again takes it over.

Friendli's SDK gives up after 5 s and sends the same request again, without end; without this, an edit longer than that
would be begun over and over and never delivered. Knows nothing of the work: only keys, tasks and time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
Keep: TypeAlias = Callable[[T, Callable[[], None]], Callable[[], None]]


@dataclass(eq=False)
class _Kept(Generic[T]):
    """A piece of work, how many callers await it, when it is to be dropped, and what is to be done then."""

    task: asyncio.Task[T]
    callers: int = 0
    timer: asyncio.TimerHandle | None = field(default=None)
    let_go: Callable[[], None] | None = field(default=None)
    forgotten: bool = False


class Orphans(Generic[T]):
    """All work under way. `taken_over` and `dropped` count what became of orphans."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._orphans: dict[bytes, list[_Kept[T]]] = {}
        self._named: dict[bytes, _Kept[T]] = {}
        self.taken_over = 0
        self.dropped = 0

    async def run(
        self,
        key: bytes,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        joined: Callable[[], None] = lambda: None,
        named: bool = False,
        kept: Keep[T] = lambda _result, _drop: lambda: None,
    ) -> T:
        """The result of an orphan with this key, after calling `joined`; or else of `work()`, begun now.

        Work that is `named` is shared by all who use its key and, unless it fails, kept for the grace after the last
        of them has gone. When the task that awaits this is cancelled, the work becomes an orphan; past the grace it is
        cancelled as well. `kept` is told the result of work that begins now, and what forgets it unless someone awaits
        it, and returns what to do once it is forgotten.
        """
        one = self._found(key, named)
        if one is None:
            one = self._begun(key, work, named, kept)
        else:
            joined()
        one.callers += 1
        try:
            return await asyncio.shield(one.task)
        except asyncio.CancelledError:
            if one.callers == 1 and not named:
                self._orphans.setdefault(key, []).append(one)
            raise
        finally:
            one.callers -= 1
            if not one.callers:
                self._leave(key, one, named)

    async def close(self) -> None:
        """Cancel all that is kept without a caller."""
        kept = [*self._named.values(), *(one for several in self._orphans.values() for one in several)]
        for one in kept:
            one.task.cancel()
            if one.timer is not None:
                one.timer.cancel()
        await asyncio.gather(*(one.task for one in kept), return_exceptions=True)

    def _begun(
        self,
        key: bytes,
        work: Callable[[], Coroutine[Any, Any, T]],
        named: bool,
        kept: Keep[T],
    ) -> _Kept[T]:
        one = _Kept(asyncio.ensure_future(work()))

        def drop() -> None:
            if not one.callers:
                self._forget(key, one)

        def done(task: asyncio.Task[T]) -> None:
            if not _failed(task) and not one.forgotten:
                one.let_go = kept(task.result(), drop)

        one.task.add_done_callback(done)
        if named:
            self._named[key] = one
        return one

    def _found(self, key: bytes, named: bool) -> _Kept[T] | None:
        waiting = self._orphans.get(key, [])
        kept = self._named.get(key) if named else waiting.pop(0) if waiting else None
        if not waiting:
            self._orphans.pop(key, None)
        if kept is None:
            return None
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        if _failed(kept.task):
            self._forget(key, kept)
            return None
        self.taken_over += not kept.callers
        return kept

    def _leave(self, key: bytes, kept: _Kept[T], named: bool) -> None:
        """The last caller is gone: keep an orphan and what has a name for the grace, and the rest not at all."""
        if (named or kept in self._orphans.get(key, [])) and not _failed(kept.task):
            kept.timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._forget, key, kept)
        else:
            self._forget(key, kept)

    def _forget(self, key: bytes, kept: _Kept[T]) -> None:
        self.dropped += kept.task.cancel()
        kept.forgotten = True
        if kept.timer is not None:
            kept.timer.cancel()
        if kept.let_go is not None:
            kept.let_go()
            kept.let_go = None
        if self._named.get(key) is kept:
            del self._named[key]
        rest = [one for one in self._orphans.pop(key, []) if one is not kept]
        if rest:
            self._orphans[key] = rest


def _failed(task: asyncio.Task[Any]) -> bool:
    """Whether `task` ended without a result. Reading the exception also tells asyncio that someone has seen it."""
    return task.done() and (task.cancelled() or task.exception() is not None)

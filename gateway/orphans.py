"""Keeps work whose caller has left for a short grace, so that the same request coming again takes it over.

Friendli's SDK gives up after 5 s and sends the same request again, without end; without this, an edit longer than that
would be begun over and over and never delivered. Knows nothing of the work: only keys, tasks and time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class _Kept(Generic[T]):
    """A piece of work, how many callers await it, and when it is to be dropped."""

    task: asyncio.Task[T]
    callers: int = 0
    timer: asyncio.TimerHandle | None = field(default=None)


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
    ) -> T:
        """The result of an orphan with this key, after calling `joined`; or else of `work()`, begun now.

        Work that is `named` is shared by all who use its key and, unless it fails, kept for the grace after the last
        of them has gone. When the task that awaits this is cancelled, the work becomes an orphan; past the grace it is
        cancelled as well.
        """
        kept = self._found(key, named)
        if kept is None:
            kept = self._begun(key, work, named)
        else:
            joined()
        kept.callers += 1
        try:
            return await asyncio.shield(kept.task)
        except asyncio.CancelledError:
            if kept.callers == 1 and not named:
                self._orphans.setdefault(key, []).append(kept)
            raise
        finally:
            kept.callers -= 1
            if not kept.callers:
                self._leave(key, kept, named)

    async def close(self) -> None:
        """Cancel all that is kept without a caller."""
        kept = [*self._named.values(), *(one for several in self._orphans.values() for one in several)]
        for one in kept:
            one.task.cancel()
            if one.timer is not None:
                one.timer.cancel()
        await asyncio.gather(*(one.task for one in kept), return_exceptions=True)

    def _begun(self, key: bytes, work: Callable[[], Coroutine[Any, Any, T]], named: bool) -> _Kept[T]:
        kept = _Kept(asyncio.ensure_future(work()))
        kept.task.add_done_callback(_failed)
        if named:
            self._named[key] = kept
        return kept

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
        if self._named.get(key) is kept:
            del self._named[key]
        rest = [one for one in self._orphans.pop(key, []) if one is not kept]
        if rest:
            self._orphans[key] = rest


def _failed(task: asyncio.Task[Any]) -> bool:
    """Whether `task` ended without a result. Reading the exception also tells asyncio that someone has seen it."""
    return task.done() and (task.cancelled() or task.exception() is not None)

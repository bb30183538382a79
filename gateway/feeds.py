"""Streams under way: what they tell goes to all who listen, each at his own pace. Knows nothing of HTTP or Triton.

With an `Idempotency-Key` a stream is shared by all who use the key, and kept for the grace after the last of them has
gone. Who comes later is told what happens from then on, and of what has happened the finished pictures alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog

from gateway.admission import Held, Memory
from gateway.errors import PublicError


@dataclass(frozen=True)
class Told:
    """One event, ready to be sent.

    `of`: what it is about; of two that are `latest` the later one takes the place of an unread earlier one about the
    same. `lasting`: whether it must be had, however little memory there is. `code`: of the error that it is.
    """

    kind: str
    content: bytes
    of: int = 0
    latest: bool = False
    lasting: bool = False
    code: str = ""


Publish: TypeAlias = Callable[[Told | None], None]


class Listener:
    """What one caller has still to be sent, and has in `held` until it is read."""

    def __init__(self, held: Held) -> None:
        self._held, self._unread = held, deque[Told]()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, told: Told) -> None:
        """Have `told` sent, unless it may be left out and there is no memory for it."""
        if told.latest and self._replaced(told):
            return
        if not (told.lasting or self._held.has(self._held.size + len(told.content))):
            return
        self._held.keep(self._held.size + len(told.content))
        self._unread.append(told)
        self._changed.set()

    def _replaced(self, told: Told) -> bool:
        for at, before in enumerate(self._unread):
            if before.latest and before.of == told.of:
                self._held.keep(self._held.size + len(told.content) - len(before.content))
                self._unread[at] = told
                return True
        return False

    def end(self) -> None:
        """There is no more to come."""
        self._ended = True
        self._changed.set()

    async def next(self) -> Told | None:
        """The next event, or none when there are no more."""
        while not self._unread:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._unread.popleft()

    def read(self, told: Told) -> None:
        """It is read: nothing of it is held any more."""
        self._held.keep(self._held.size - len(told.content))

    def close(self) -> None:
        """Hold nothing."""
        self._held.keep(0)


class Feed:
    """One stream: `work` runs, and publishes what it has to tell, None for its mere beginning.

    `failed`: makes an event of an error. `kept`: holds what who comes later must have; None where nobody does.
    """

    def __init__(
        self,
        work: Callable[[Publish], Coroutine[Any, Any, None]],
        failed: Callable[[PublicError], Told],
        kept: Held | None,
    ) -> None:
        self._failed, self._held = failed, kept
        self._kept: list[Told] = []
        self._listeners: set[Listener] = set()
        self._begun = asyncio.Event()
        self._unbegun: PublicError | None = None
        self.problem: PublicError | None = None
        self.callers = 0
        self.timer: asyncio.TimerHandle | None = None
        self._task = asyncio.ensure_future(self._run(work))

    async def begun(self) -> None:
        """Return once there is something to tell. Raises `PublicError` where it failed before."""
        await self._begun.wait()
        if self._unbegun is not None:
            raise self._unbegun

    @contextmanager
    def listened(self, memory: Memory, caller: str) -> Iterator[Listener]:
        """Be told of all that happens in the block, and of what must be had from before."""
        listener = Listener(memory.hold(caller))
        for told in self._kept:
            listener.put(told)
        if self._task.done():
            listener.end()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.close()

    @property
    def over(self) -> bool:
        """Whether it has ended, and nobody listens."""
        return self._task.done() and not self.callers

    def close(self) -> None:
        """End it, if it has not ended, and forget what it told."""
        self._task.cancel()
        self._kept.clear()
        if self._held is not None:
            self._held.keep(0)

    async def ended(self) -> None:
        """Wait until it has."""
        await asyncio.gather(self._task, return_exceptions=True)

    def _publish(self, told: Told | None) -> None:
        self._begun.set()
        if told is None:
            return
        if told.lasting and self._held is not None:
            self._held.keep(self._held.size + len(told.content))
            self._kept.append(told)
        for listener in self._listeners:
            listener.put(told)

    async def _run(self, work: Callable[[Publish], Coroutine[Any, Any, None]]) -> None:
        try:
            await work(self._publish)
        except PublicError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001 - the last net: whoever listens is told
            structlog.get_logger().exception("failure")
            self._fail(PublicError("internal_error"))
        finally:
            self._begun.set()
            for listener in self._listeners:
                listener.end()

    def _fail(self, problem: PublicError) -> None:
        """Tell who listens; who waits for the beginning is told by `begun`."""
        self.problem = problem
        if self._begun.is_set():
            self._publish(self._failed(problem))
        else:
            self._unbegun = problem


class Feeds:
    """All streams under way."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._named: dict[bytes, Feed] = {}
        self._all: set[Feed] = set()
        self.taken_over = 0
        self.dropped = 0

    @property
    def inside(self) -> int:
        """How many there are, those without a caller included."""
        return len(self._all)

    @contextmanager
    def joined(self, key: bytes | None, begin: Callable[[], Feed], joined: Callable[[], None]) -> Iterator[Feed]:
        """A stream for the block: the one of this key, after calling `joined`, or one that begins now.

        Without a key it ends with the block, and with one after the grace, unless it is joined again.
        """
        feed = self._named.get(key) if key else None
        if feed is not None and feed.problem is None:
            joined()
            self.taken_over += not feed.callers
        else:
            feed = begin()
            self._all.add(feed)
            if key:
                self._named[key] = feed
        if feed.timer is not None:
            feed.timer.cancel()
            feed.timer = None
        feed.callers += 1
        try:
            yield feed
        finally:
            feed.callers -= 1
            if not feed.callers and key and feed.problem is None:
                feed.timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._drop, key, feed)
            elif not feed.callers:
                self._forget(key, feed)

    async def close(self) -> None:
        """End all."""
        feeds = [*self._all]
        for feed in feeds:
            if feed.timer is not None:
                feed.timer.cancel()
            feed.close()
        await asyncio.gather(*(feed.ended() for feed in feeds))

    def drop(self, key: bytes) -> None:
        """Forget the one of this key, if it is over."""
        feed = self._named.get(key)
        if feed is not None and feed.over:
            self._forget(key, feed)

    def _drop(self, key: bytes, feed: Feed) -> None:
        self.dropped += 1
        self._forget(key, feed)

    def _forget(self, key: bytes | None, feed: Feed) -> None:
        if feed.timer is not None:
            feed.timer.cancel()
        feed.close()
        self._all.discard(feed)
        if key and self._named.get(key) is feed:
            del self._named[key]

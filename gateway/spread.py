"""The Tritons of one model: each edit goes to the one that has least in flight, of those that are ready.

What one could not do, though nothing is wrong with the edit, is asked of another, once: the seed is drawn before, so
that the picture is the same. Of a stream that holds as long as its caller was told nothing but that it has begun.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from itertools import count
from types import TracebackType
from typing import Any, Self

from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.failures import ELSEWHERE
from gateway.offer import Offer
from gateway.pictures import Begun, Event, Picture
from gateway.tensors import Ask
from gateway.triton import Triton


class Spread:
    """All of them, usable while entered. `again`: is told of each edit that is asked of another."""

    def __init__(self, addresses: Sequence[str], again: Callable[[PublicError], None] = lambda _: None) -> None:
        self.tritons = [Triton(address) for address in addresses]
        self._again, self._choices = again, count(1)

    async def __aenter__(self) -> Self:
        self._entered = AsyncExitStack()
        await asyncio.gather(*map(self._entered.enter_async_context, self.tritons))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.aclose()

    async def edit(self, ask: Ask, deadline: Deadline) -> list[Picture]:
        """Run one edit before `deadline`: its `n` pictures. Raises `PublicError`."""
        first = self._least()
        try:
            return await first.edit(ask, deadline)
        except PublicError as error:
            other = self._other(first, error)
        return await other.edit(ask.renewed(deadline.left()), deadline)

    async def stream(self, ask: Ask, deadline: Deadline) -> AsyncGenerator[Event]:
        """Run one edit before `deadline`, and tell what becomes of it as it does, `Begun` first.

        Raises as `edit` does. Closing the generator cancels the edit.
        """
        begun = told = False
        first = self._least()
        try:
            async with aclosing(first.stream(ask, deadline)) as events:
                async for event in events:
                    begun, told = True, not isinstance(event, Begun)
                    yield event
            return
        except PublicError as error:
            if told:
                raise
            other = self._other(first, error)
        async with aclosing(other.stream(ask.renewed(deadline.left()), deadline)) as events:
            async for event in events:
                if not (begun and isinstance(event, Begun)):
                    yield event

    async def ready(self) -> bool:
        """Whether one of them is, asked now."""
        return await any_of(triton.ready() for triton in self.tritons)

    async def offer(self) -> Offer:
        """What callers may ask for, which is the same of all. Raises `PublicError("unavailable")`."""
        return await self._there()[0].offer()

    def _least(self, but: Triton | None = None) -> Triton:
        """The one that has least in flight, of several such the one chosen longest ago."""
        found = min(self._there(but), key=lambda triton: (triton.in_flight, triton.chosen))
        found.chosen = next(self._choices)
        return found

    def _there(self, but: Triton | None = None) -> list[Triton]:
        """Those that are ready, or else have ever been, or else all; at least one."""
        others = [triton for triton in self.tritons if triton is not but]
        return [one for one in others if one.well] or [one for one in others if one.seen] or others

    def _other(self, first: Triton, error: PublicError) -> Triton:
        """Who is asked after `first` has failed so. Raises `error` where nobody is."""
        if error.code not in ELSEWHERE or not any(one.well for one in self.tritons if one is not first):
            raise error
        self._again(error)
        return self._least(but=first)


async def any_of(questions: Iterable[Coroutine[Any, Any, bool]]) -> bool:
    """Whether one of these is so, known as soon as one is."""
    asked = [asyncio.ensure_future(question) for question in questions]
    try:
        for answered in asyncio.as_completed(asked):
            if await answered:
                return True
        return False
    finally:
        for one in asked:
            one.cancel()

"""The models that there are, each with Tritons of its own, and which of them a request's `model` means.

What stands before the first `/` names a model, and the rest its adapters. Without one it is the name of a model, or
else adapters of the first. `base` is the first model, unless one is called so.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from gateway import adapters
from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.metrics import Metrics
from gateway.offer import Offer
from gateway.pictures import Event, Picture
from gateway.spread import Spread, any_of
from gateway.targets import BASE_MODEL
from gateway.tensors import Ask, Edit, Watch, infer_request
from gateway.threads import Threads


class Models:
    """All of them by name, the default first, usable while entered. Cancelling who awaits an edit cancels the edit."""

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        threads: Threads,
        metrics: Metrics,
        onward: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`onward`: the trace that a request made now is a part of, as headers."""
        self._threads, self._onward = threads, onward
        self._spreads: dict[str, Spread] = {}
        for name, addresses in targets.items():
            spread = Spread(addresses, metrics.sent_again(name))
            metrics.tritons(name, spread.tritons)
            self._spreads[name] = spread

    async def __aenter__(self) -> Self:
        self._entered = AsyncExitStack()
        for spread in self._spreads.values():
            await self._entered.enter_async_context(spread)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.aclose()

    async def edit(self, edit: Edit, *, deadline: Deadline, request_id: str = "") -> list[Picture]:
        """Run one edit before `deadline`: its `n` pictures. Raises `PublicError`, never with upstream text in it."""
        name, edit = self._chosen(edit)
        ask = await self._ask(edit, deadline, request_id)
        del edit  # Its images are large, and copied by now.
        with self._named(name):
            return await self._spreads[name].edit(ask, deadline)

    async def stream(
        self, edit: Edit, watch: Watch, *, deadline: Deadline, request_id: str = ""
    ) -> AsyncGenerator[Event]:
        """Run one edit before `deadline`, and tell what becomes of it as it does, `Begun` first.

        Raises as `edit` does. Closing the generator cancels the edit.
        """
        name, edit = self._chosen(edit)
        ask = await self._ask(edit, deadline, request_id, watch)
        del edit
        with self._named(name):
            async with aclosing(self._spreads[name].stream(ask, deadline)) as events:
                async for event in events:
                    yield event

    async def ready(self) -> bool:
        """Whether an edit would work now, of one model at least."""
        return await any_of(spread.ready() for spread in self._spreads.values())

    async def offers(self) -> dict[str, Offer]:
        """What callers may ask for, by the name of each model that is there. Raises `PublicError("unavailable")`."""
        asked = await asyncio.gather(*(one.offer() for one in self._spreads.values()), return_exceptions=True)
        found = {name: offer for name, offer in zip(self._spreads, asked, strict=True) if isinstance(offer, Offer)}
        if not found:
            raise PublicError("unavailable")
        return found

    async def max_pixels(self, edit: Edit) -> int | None:
        """The most of an answer by the model that makes the edit; None where nobody tells.

        Raises `PublicError("unknown_model")`.
        """
        name, _ = self._chosen(edit)
        try:
            return (await self._spreads[name].offer()).max_pixels
        except PublicError:
            return None

    def called(self, name: str, adapter: str) -> str:
        """What a request calls an adapter of the model `name`."""
        plain = name == next(iter(self._spreads)) and adapter not in self._spreads
        return adapter if plain else f"{name}{adapters.OF}{adapter}"

    async def known(self) -> list[str]:
        """All that a request's `model` may be, scales and sums aside. Raises `PublicError("unavailable")`."""
        offers = await self.offers()
        return [
            called
            for name, offer in offers.items()
            for called in (name, *(self.called(name, adapter) for adapter in offer.adapters))
        ]

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Lets an error say which model has no such adapter, where there are several: another may have it."""
        try:
            yield
        except PublicError as error:
            if error.code == "unknown_model" and len(self._spreads) > 1:
                error.message = error.message.replace("No adapter is", f"No adapter of {name} is")
            raise

    def away(self, model: str, there: Container[str]) -> bool:
        """Whether a request's `model` means one of these models, or adapters of it, that is not among those `there`."""
        name, _ = self._meant(model)
        return name in self._spreads and name not in there

    def _meant(self, model: str) -> tuple[str, str]:
        """The name of a model, of which nobody knows yet whether it is one, and its adapters."""
        name, rest = adapters.split(model)
        if not name and rest in self._spreads:
            name, rest = rest, ""
        first = name not in self._spreads and name in ("", BASE_MODEL)
        return next(iter(self._spreads)) if first else name, "" if rest == BASE_MODEL else rest

    def _chosen(self, edit: Edit) -> tuple[str, Edit]:
        """The model that makes it, and the edit as they are asked for it. Raises `PublicError("unknown_model")`."""
        name, rest = self._meant(edit.model)
        if name not in self._spreads:
            raise PublicError("unknown_model", param="model")
        return name, replace(edit, model=rest)

    async def _ask(self, edit: Edit, deadline: Deadline, request_id: str, watch: Watch | None = None) -> Ask:
        trace = self._onward()
        async with deadline.kept():
            request = await self._threads.run(_request_now, edit, deadline, request_id, watch, trace)
        return Ask(request, edit.response_format, edit.n, trace)


def _request_now(
    edit: Edit, deadline: Deadline, request_id: str, watch: Watch | None, trace: Mapping[str, str]
) -> bytes:
    """`infer_request` with the time that is left when a thread begins with it. Raises `PublicError`."""
    return infer_request(edit, deadline.left(), request_id, watch, trace)

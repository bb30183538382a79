"""The client: `Client`, and `AsyncClient` for asyncio. httpx does the work.

``Client("http://localhost:8000").edit("photo.jpg", "make it night").save("night.png")``
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import httpx

from tritouch.answer import EventReader
from tritouch.errors import BusyError, TritouchError
from tritouch.exchange import Send, exchange, lost
from tritouch.form import Images, Options, form_of
from tritouch.opening import opened
from tritouch.requests import Requests, Settings, Status, ended, stream_of, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tritouch.answer import Event, Picture
    from tritouch.exchange import Came, Flow, T


class Client(Requests):
    """Asks a Tritouch server; may be shared by threads. A context manager, which closes its connections."""

    def __init__(self, url: str | None = None, **settings: Unpack[Settings]) -> None:
        super().__init__(url, **settings)
        self._http = opened(httpx.Client, self.transport())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def edit(self, image: Images, prompt: str, **options: Unpack[Options]) -> Picture:
        """One picture, or several into one, edited as `prompt` says; `Options` has the rest. Raises `TritouchError`."""
        return self.edits(image, prompt, 1, **options)[0]

    def edits(self, image: Images, prompt: str, n: int, **options: Unpack[Options]) -> list[Picture]:
        """`n` different edits, of seeds `seed`, `seed` + 1, ... Raises `TritouchError`."""
        form = form_of(image, prompt, options, n=n)
        return self._run(self.ask_edits(form))

    def stream(
        self, image: Images, prompt: str, *, n: int = 1, previews: int = 0, **options: Unpack[Options]
    ) -> Iterator[Event]:
        """The same as it comes: `Progress`, up to 3 `Preview`s a picture, the `Picture`. Raises `TritouchError`."""
        form = form_of(image, prompt, options, n=n, previews=previews)
        request, tries, events = self.edit_request(form), self.tries(), EventReader(n, form.seed)
        while not events.complete:
            response = self._run(exchange(request, tries))
            problem: TritouchError = ended()
            try:
                for line in stream_of(response).iter_lines():
                    tries.left()
                    yield from events.feed(line)
            except httpx.RequestError as error:
                problem = lost(error, tries)
            except BusyError as error:
                problem = error
            finally:
                response.close()
            if not events.complete:
                time.sleep(tries.after(problem).seconds)

    def models(self) -> list[dict[str, Any]]:
        """The base model and its adapters, as `GET /v1/models` lists them. Raises `TritouchError`."""
        return self._run(self.ask_models())

    def status(self) -> Status:
        """Whether an edit would work now, and of what; asked once. Raises `TritouchError`: nothing answers there."""
        return self._run(self.ask_status())

    def _run(self, flow: Flow[T]) -> T:
        came: Came = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as done:
                return cast("T", done.value)
            if isinstance(step, Send):
                came = self._send(step.request)
            else:
                time.sleep(step.seconds)
                came = None

    def _send(self, request: httpx.Request) -> httpx.Response | httpx.RequestError:
        try:
            response = self._http.send(request, stream=True)
            if not streams(response):
                response.read()
        except httpx.RequestError as error:
            return error
        return response


class AsyncClient(Requests):
    """`Client` for asyncio. An edit whose task is cancelled is dropped by the server after a short grace."""

    def __init__(self, url: str | None = None, **settings: Unpack[Settings]) -> None:
        super().__init__(url, **settings)
        self._http = opened(httpx.AsyncClient, self.transport())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def edit(self, image: Images, prompt: str, **options: Unpack[Options]) -> Picture:
        """One picture, or several into one, edited as `prompt` says; `Options` has the rest. Raises `TritouchError`."""
        return (await self.edits(image, prompt, 1, **options))[0]

    async def edits(self, image: Images, prompt: str, n: int, **options: Unpack[Options]) -> list[Picture]:
        """`n` different edits, of seeds `seed`, `seed` + 1, ... Raises `TritouchError`."""
        form = form_of(image, prompt, options, n=n)
        return await self._run(self.ask_edits(form))

    async def stream(
        self, image: Images, prompt: str, *, n: int = 1, previews: int = 0, **options: Unpack[Options]
    ) -> AsyncIterator[Event]:
        """The same as it comes: `Progress`, up to 3 `Preview`s a picture, the `Picture`. Raises `TritouchError`."""
        form = form_of(image, prompt, options, n=n, previews=previews)
        request, tries, events = self.edit_request(form), self.tries(), EventReader(n, form.seed)
        while not events.complete:
            response = await self._run(exchange(request, tries))
            problem: TritouchError = ended()
            try:
                async for line in stream_of(response).aiter_lines():
                    tries.left()
                    for event in events.feed(line):
                        yield event
            except httpx.RequestError as error:
                problem = lost(error, tries)
            except BusyError as error:
                problem = error
            finally:
                await response.aclose()
            if not events.complete:
                await asyncio.sleep(tries.after(problem).seconds)

    async def models(self) -> list[dict[str, Any]]:
        """The base model and its adapters, as `GET /v1/models` lists them. Raises `TritouchError`."""
        return await self._run(self.ask_models())

    async def status(self) -> Status:
        """Whether an edit would work now, and of what; asked once. Raises `TritouchError`: nothing answers there."""
        return await self._run(self.ask_status())

    async def _run(self, flow: Flow[T]) -> T:
        came: Came = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as done:
                return cast("T", done.value)
            if isinstance(step, Send):
                came = await self._send(step.request)
            else:
                await asyncio.sleep(step.seconds)
                came = None

    async def _send(self, request: httpx.Request) -> httpx.Response | httpx.RequestError:
        try:
            response = await self._http.send(request, stream=True)
            if not streams(response):
                await response.aread()
        except httpx.RequestError as error:
            return error
        return response

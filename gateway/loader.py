"""The images of a call become bytes, wherever they are given: by URL, as base64, or as they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from gateway import images
from gateway.admission import Held
from gateway.call import Source
from gateway.errors import KINDS, PublicError
from gateway.fetch import Fetcher
from gateway.settings import Settings
from gateway.threads import Threads


class Loader:
    """Loads images within the bounds of `settings`. `span`: what is entered for each `fetch` and `decode`."""

    def __init__(
        self,
        settings: Settings,
        fetcher: Fetcher,
        threads: Threads,
        span: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._settings, self._fetcher, self._threads, self._span = settings, fetcher, threads, span

    async def load(
        self, sources: list[Source], masks: list[Source], held: Held, *, caller: str = "", named: str = images.IMAGE
    ) -> tuple[list[bytes], bytes]:
        """The encoded pictures, in order, and the mask, empty where there is none.

        `caller`: who asks for them. `named`: the field that the pictures are of.

        `sources` and `masks` are empty then, and `held` of their size. Raises `PublicError`.
        """
        if len(sources) > self._settings.max_images:
            bound = f"This server takes at most {self._settings.max_images} images."
            message = f"{KINDS['too_many_images'].message} {bound}"
            raise PublicError("too_many_images", param=named, message=message)
        loaded: list[bytes] = []
        mask, total = b"", 0
        for waiting, name in ((sources, named), (masks, images.MASK)):
            while waiting:
                most = min(self._settings.max_request_image_bytes - total, self._settings.max_image_bytes)
                content = await self._one(waiting.pop(0), most, partial(_grown, held, total), name, caller)
                total += len(content)
                if name == images.MASK:
                    mask = content
                else:
                    loaded.append(content)
        held.resize(total)
        return loaded, mask

    async def _one(self, source: Source, max_bytes: int, grown: Callable[[int], None], name: str, caller: str) -> bytes:
        if isinstance(source, bytes):
            return images.checked(source, max_bytes, name)
        if not images.is_url(source):
            with self._span("decode"):
                return await self._threads.run(images.decode, source, max_bytes, name)
        try:
            with self._span("fetch"):
                content = await self._fetcher.fetch(source, max_bytes, grown, caller)
        except PublicError as error:
            param = name if error.param else None
            raise PublicError(error.code, param=param, message=error.message) from error
        return images.checked(content, max_bytes, name)


def _grown(held: Held, before: int, size: int) -> None:
    """Hold what was loaded before and what there is of the next; never less than now, for the rest needs that."""
    held.resize(max(held.size, before + size))

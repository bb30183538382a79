"""Fetches a picture from a URL that a stranger gave, and reaches nothing else by it.

The address is checked where the connection is made, so that no name, redirect or second answer of a name server gets
past. Every failure is one and the same error: what lies at an address is not to be learned here.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final, Self

import certifi
import h11
import httpcore

from gateway import images, urls
from gateway.addresses import is_own, is_public
from gateway.download import Download, RefusedError
from gateway.errors import PublicError
from gateway.resolver import Resolver
from gateway.settings import Settings
from gateway.shares import Queue

Address = IPv4Address | IPv6Address
Grown = Callable[[int], None]
Resolve = Callable[[str, int], Awaitable[list[Address]]]

MAX_REDIRECTS: Final = 3
LEAST_ATTEMPT_SECONDS: Final = 0.25  # An equal share of the time is too little where there are many addresses.
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_FAILURES: Final = (
    RefusedError,
    TimeoutError,
    OSError,
    ValueError,
    h11.ProtocolError,
    httpcore.NetworkError,
    httpcore.TimeoutException,
)


@cache
def _trust() -> ssl.SSLContext:
    """The authorities that browsers trust. Slow to read, and the same for all."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Guard:
    """Connects to a host only when every address it has is public and another machine's, and then to one of these."""

    def __init__(self, private_hosts: Iterable[str], backend: httpcore.AsyncNetworkBackend) -> None:
        self._private_hosts, self._backend = frozenset(private_hosts), backend

    async def connect(self, host: str, port: int, seconds: float, resolve: Resolve) -> httpcore.AsyncNetworkStream:
        """A connection to `host`, whose addresses `resolve` knows, within so many seconds."""
        end = time.monotonic() + seconds
        async with asyncio.timeout(seconds):
            addresses = self._checked(host, await resolve(host, port))
            for done, address in enumerate(addresses):
                share = max((end - time.monotonic()) / (len(addresses) - done), LEAST_ATTEMPT_SECONDS)
                with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                    return await self._backend.connect_tcp(str(address), port, share)
        raise RefusedError

    def _checked(self, host: str, addresses: list[Address]) -> list[Address]:
        """The addresses of `host`, when all of them may be connected to."""
        trusted = host in self._private_hosts
        if not addresses or not (trusted or all(is_public(one) and not is_own(one) for one in addresses)):
            raise RefusedError
        return addresses


class Fetcher:
    """Fetches pictures within the bounds of `settings`, usable while entered. `resolve`, `backend`: seams for tests."""

    def __init__(
        self,
        settings: Settings,
        resolve: Resolve | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._settings = settings
        self._resolver, self._resolve = Resolver(settings.url_fetches), resolve
        self._guard = _Guard(settings.url_private_hosts, backend or httpcore.AnyIOBackend())
        self._running = Queue(settings.url_fetches)

    async def __aenter__(self) -> Self:
        _trust()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resolver.close()

    async def fetch(self, text: str, max_bytes: int, grown: Grown, caller: str = "") -> bytes:
        """The picture at a URL, of at most `max_bytes`. Raises `PublicError`, the same for every failure of the host's,
        and `queue_full` where `caller` has too many names looked up.

        `grown` is told how many bytes there are so far, and may end the fetch by raising.
        """
        if not self._settings.url_images:
            raise PublicError("image_url_unsupported", param="image")
        resolve = self._resolve or partial(self._resolver.resolve, caller=caller)
        async with self._running.entered(caller):
            try:
                async with asyncio.timeout(self._settings.url_total_seconds):
                    content = await self._followed(text, max_bytes, grown, resolve)
            except _FAILURES as error:
                raise PublicError("image_url_unusable", param="image") from error
        if not images.begins_as_picture(content):
            raise PublicError("image_url_unusable", param="image")
        return content

    async def _followed(self, text: str, max_bytes: int, grown: Grown, resolve: Resolve) -> bytes:
        """The body at `text`, or where its redirects end; each of them is checked anew."""
        for _ in range(MAX_REDIRECTS + 1):
            url = self._permitted(urls.parse(text))
            found = await self._get(url, max_bytes, grown, resolve)
            if isinstance(found, bytes):
                return found
            text = _joined(url, found)
        raise RefusedError

    def _permitted(self, url: urls.Url) -> urls.Url:
        private = url.host in self._settings.url_private_hosts
        listed = not self._settings.url_hosts or private or url.host in self._settings.url_hosts
        if not listed or url.port not in self._settings.url_ports:
            raise RefusedError
        if urls.is_inner_name(url.host) and not private:
            raise RefusedError
        return url

    async def _get(self, url: urls.Url, max_bytes: int, grown: Grown, resolve: Resolve) -> bytes | str:
        """One request: the body of a 200 as bytes, or the location of a redirect as text."""
        stream = await self._connected(url, resolve)
        try:
            download = Download(stream, url)
            status, headers = await download.head()
            if status in _REDIRECTS:
                return headers.get(b"location", b"").decode("ascii")
            if status != 200 or headers.get(b"content-encoding", b"identity").lower() != b"identity":
                raise RefusedError
            return await download.body(headers, max_bytes, grown)
        finally:
            await stream.aclose()

    async def _connected(self, url: urls.Url, resolve: Resolve) -> httpcore.AsyncNetworkStream:
        seconds = self._settings.url_connect_seconds
        stream = await self._guard.connect(url.host, url.port, seconds, resolve)
        if url.scheme == "http":
            return stream
        try:
            return await stream.start_tls(_trust(), url.host, seconds)
        except BaseException:
            await stream.aclose()
            raise


def _joined(base: urls.Url, location: str) -> str:
    """The URL a redirect leads to. Of relative ones, only those that name a whole path are followed."""
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    return f"{base.scheme}://{base.authority}{location}" if location.startswith("/") else location

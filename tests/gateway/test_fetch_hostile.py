"""Servers that answer so that reading them costs much: refused early, and others have their turn all the while."""

import asyncio
import gc
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import httpcore
import pytest

from gateway.errors import PublicError
from gateway.fetch import Fetcher
from gateway.settings import Settings
from tests.gateway.asking import PNG

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MOST_BYTES = 50_000_000
MOST_SECONDS = 0.02
"""Of the thread's own time: what others compute on this machine does not count."""

ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 10_000),
    "early hints of many lines": (b"", b"HTTP/1.1 103 E\r\n" + b"a:\r\n" * 200 + b"\r\n", 10_000),
    "continue": (b"", b"HTTP/1.1 100 C\r\n\r\n", 10_000),
    "header lines": (OK, b"a:\r\n", 6000),
    "folded header lines": (OK + b"a: b\r\n", b" c\r\n", 6000),
    "a header": (OK + b"a: ", b"b", 30_000),
    "blank lines": (b"", b"\r\n", 30_000),
    "chunks of a byte": (CHUNKED, b"1\r\nx\r\n", 10_000),
    "chunks of few bytes": (CHUNKED, b"1F\r\n" + b"x" * 31 + b"\r\n", 100_000),
    "chunks with extensions": (CHUNKED, b"100;" + b"y" * 250 + b"\r\n" + b"x" * 256 + b"\r\n", 200_000),
    "a chunk extension": (CHUNKED + b"1;", b"y", 30_000),
    "leading zeros": (CHUNKED, b"0", 30_000),
    "trailers": (CHUNKED + b"0\r\n", b"a:\r\n", 30_000),
}
"""How an answer begins, what then comes again and again, and how much of it is read at the most."""


class Torrent(httpcore.AsyncNetworkStream):
    """A stream whose next bytes are always there, `at_once` of them at the most. Counts them."""

    def __init__(self, begins: bytes, goes_on: bytes, at_once: int = 1 << 20) -> None:
        self._begins, self._goes_on, self._at_once = begins, goes_on * (2 + (1 << 17) // len(goes_on)), at_once
        self._period = len(goes_on)
        self.read_bytes = 0

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        most = min(max_bytes, self._at_once)
        beyond = self.read_bytes - len(self._begins)
        found = self._begins[self.read_bytes :] if beyond < 0 else self._goes_on[beyond % self._period :]
        self.read_bytes += len(found[:most])
        return found[:most]

    async def aclose(self) -> None:
        pass


class Network(httpcore.AsyncNetworkBackend):
    """Connects to one stream after another."""

    def __init__(self, streams: list[Torrent]) -> None:
        self._streams = iter(streams)

    async def connect_tcp(self, *_: Any, **__: Any) -> Torrent:
        return next(self._streams)


async def _public(host: str, port: int) -> list[Any]:
    return [ip_address("1.1.1.1")]


class Lag:
    """The longest time that the event loop's thread computed between two of its rounds, while entered."""

    async def __aenter__(self) -> "Lag":
        self.seconds = 0.0
        gc.disable()  # one collection of all that the tests have made may take longer
        self._task = asyncio.ensure_future(self._measured())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._task.cancel()
        gc.enable()

    async def _measured(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.seconds, before = max(self.seconds, now - before), now


def least_lag(measured: Callable[[], float]) -> float:
    """Of three measurements, for any may have taken in what the machine did meanwhile: page faults, stolen time."""
    return min(measured() for _ in range(3))


async def _fetched(streams: list[Torrent], seconds: float = 10) -> tuple[list[Any], float]:
    """What comes of a fetch from each of `streams`, all at once; and the lag meanwhile."""
    settings = Settings(url_total_seconds=seconds)
    async with Fetcher(settings, _public, Network(streams)) as fetcher, Lag() as lag:
        fetches = [fetcher.fetch("http://cat.example.com/", MOST_BYTES, lambda size: None) for _ in streams]
        return await asyncio.gather(*fetches, return_exceptions=True), lag.seconds


def _refused(answers: list[Any]) -> bool:
    return all(isinstance(one, PublicError) and one.code == "image_url_unusable" for one in answers)


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_refused_early_and_holds_nobody_up(what: str) -> None:
    begins, goes_on, most = ENDLESS[what]

    def lag() -> float:
        stream = Torrent(begins, goes_on)
        answers, seconds = asyncio.run(_fetched([stream]))
        assert _refused(answers)
        assert stream.read_bytes <= most + len(begins)
        return seconds

    assert least_lag(lag) < MOST_SECONDS


@pytest.mark.parametrize("what", ENDLESS)
def test_sixteen_at_once_hold_nobody_up(what: str) -> None:
    answers, lag = asyncio.run(_fetched([Torrent(*ENDLESS[what][:2]) for _ in range(16)]))
    assert _refused(answers)
    assert lag < 16 * MOST_SECONDS


AS_SLOW_AS_MAY_BE = [
    *((CHUNKED, b"40\r\n" + b"x" * 64 + b"\r\n", at_once) for at_once in (64, 1 << 20)),
    *((CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n", at_once) for at_once in (64, 1 << 20)),
    (OK + b"\r\n", b"x", 64),
]


@pytest.mark.parametrize(("begins", "goes_on", "at_once"), AS_SLOW_AS_MAY_BE)
def test_the_limit_is_the_limit(begins: bytes, goes_on: bytes, at_once: int) -> None:
    """Of what is taken, however much there is: it ends in time, and holds nobody up until then."""
    streams = [Torrent(begins, goes_on, at_once) for _ in range(16)]
    answers, lag = asyncio.run(_fetched(streams, 0.3))
    assert _refused(answers)
    assert all(stream.read_bytes < MOST_BYTES for stream in streams), "for the time was over"
    assert lag < 16 * MOST_SECONDS


@pytest.mark.parametrize("size", [1, 10, 100, 5000])
def test_small_pieces_of_an_honest_picture_are_taken(size: int) -> None:
    """Up to a thousand of them: as servers write that know no better."""
    content = PNG.ljust(min(1000 * size, 400_000), b"\xa5")
    cuts = [content[at : at + size] for at in range(0, len(content), size)]
    whole = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in cuts) + b"0\r\n\r\n"
    answers, _ = asyncio.run(_fetched([Torrent(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 8 + whole, b"-")]))
    assert answers == [content]

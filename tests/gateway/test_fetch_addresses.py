"""How the fetcher comes by an address: look-ups in threads of its own, and one address after another."""

import asyncio
import socket
import threading
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import httpcore
import pytest

from gateway.errors import PublicError
from gateway.fetch import Fetcher
from gateway.settings import Settings
from tests.gateway import clock
from tests.gateway.asking import PNG
from tests.gateway.test_fetch import whole


def _fetched(fetcher: Fetcher, caller: str = "", host: str = "cat.example.com") -> Any:
    return fetcher.fetch(f"http://{host}/", 1000, lambda size: None, caller)


def test_as_many_names_are_looked_up_as_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than asyncio's own threads, of which there are never over 32."""
    together = threading.Barrier(40)

    def look_up(*_: Any, **__: Any) -> Any:
        together.wait(60)
        raise socket.gaierror

    async def scene() -> list[Any]:
        async with Fetcher(Settings(url_fetches=40, url_connect_seconds=60, url_total_seconds=60)) as fetcher:
            return await asyncio.gather(*(_fetched(fetcher, str(one)) for one in range(40)), return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert {type(one) for one in asyncio.run(scene())} == {PublicError}
    assert not together.broken


def test_the_end_waits_for_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over, looked_up = threading.Event(), threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        over.wait(60)
        looked_up.set()
        return []

    async def scene() -> None:
        async with Fetcher(Settings(url_connect_seconds=0.1)) as fetcher:
            with pytest.raises(PublicError):
                await _fetched(fetcher)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(scene())
    assert not looked_up.is_set()
    over.set()
    assert looked_up.wait(60)


def test_names_that_hang_leave_threads_to_other_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    over, begun = threading.Event(), threading.Semaphore(0)

    def look_up(host: str, port: int, *_: Any, **__: Any) -> Any:
        if host.startswith("slow"):
            begun.release()
            over.wait(60)
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", port))]

    async def refused(fetcher: Fetcher, caller: str) -> str:
        with pytest.raises(PublicError) as error:
            await _fetched(fetcher, caller, "slow.example.com")
        return error.value.code

    async def scene() -> None:
        settings = Settings(url_fetches=4, url_connect_seconds=60, url_total_seconds=60)
        async with Fetcher(settings, backend=Silent("1.1.1.1")) as fetcher:
            for _ in range(3):
                hanging = asyncio.ensure_future(_fetched(fetcher, "one", "slow.example.com"))
                assert await asyncio.to_thread(begun.acquire, timeout=60)
                hanging.cancel()
            assert await refused(fetcher, "one") == "queue_full"
            assert await _fetched(fetcher, "other") == PNG
            hanging = asyncio.ensure_future(_fetched(fetcher, "other", "slow.example.com"))
            assert await asyncio.to_thread(begun.acquire, timeout=60)
            assert await refused(fetcher, "third") == "queue_full"
            over.set()
            await asyncio.gather(hanging, return_exceptions=True)
            while await refused(fetcher, "one") == "queue_full":  # its threads end in any order
                await asyncio.sleep(0.01)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(scene())


class Silent(httpcore.AsyncNetworkBackend):
    """Connects to the address `there` alone; the others never answer. Notes which were tried."""

    def __init__(self, there: str) -> None:
        self._there, self.tried = there, list[str]()

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, *_: Any) -> Any:
        self.tried.append(host)
        if host == self._there:
            return httpcore.AsyncMockStream([whole(PNG)])
        await asyncio.sleep(timeout or 60)
        raise httpcore.ConnectTimeout


@pytest.mark.parametrize(("number", "reached"), [(1, True), (2, True), (3, True), (50, False)])
def test_an_address_that_never_answers_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, number: int, reached: bool
) -> None:
    monkeypatch.setattr("gateway.fetch.LEAST_ATTEMPT_SECONDS", 0.1)
    now = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr("gateway.fetch.time", now)
    addresses = [f"1.1.1.{one}" for one in range(number)]
    backend = Silent(addresses[-1])

    async def several(host: str, port: int) -> list[Any]:
        return [ip_address(one) for one in addresses]

    async def scene() -> Any:
        async with Fetcher(Settings(url_connect_seconds=0.36), several, backend) as fetcher:
            return await asyncio.gather(_fetched(fetcher), return_exceptions=True)

    (answer,) = clock.run(scene())
    assert (answer == PNG) is reached
    assert backend.tried == addresses[: len(backend.tried)]
    assert 1 <= len(backend.tried) <= 4

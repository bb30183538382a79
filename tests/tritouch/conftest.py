"""One fake server for all tests of this folder, and the real gateway before a fake Triton; reset for each test."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from PIL import Image

from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway, Loop, serving, unhurried
from tests.tritouch.fake_server import FakeServer
from tritouch import AsyncClient, Client, exchange


@pytest.fixture(scope="session")
def _server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The fake server, at TRITOUCH_URL."""
    _server.reset()
    monkeypatch.setenv("TRITOUCH_URL", _server.url)
    monkeypatch.delenv("TRITOUCH_API_KEY", raising=False)
    return _server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for retries are as short as they can be."""
    monkeypatch.setattr(exchange, "FIRST_WAIT", 0.001)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small JPEG."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(jpeg())
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures, and of what is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.PNG", "c.webp", "notes.txt", ".hidden.jpg"):
        (folder / name).write_bytes(jpeg())
    return folder


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 8), (200, 30, 60)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="session")
def _gateway() -> Iterator[Gateway]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    loop, triton = Loop(), FakeTriton()
    loop.run(triton.start())
    with unhurried(), serving(loop, triton, api_keys=("secret",), max_edits=2) as gateway:
        yield gateway
    loop.run(triton.stop())
    loop.close()


@pytest.fixture
def gateway(_gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The real gateway, at TRITOUCH_URL, with a key at TRITOUCH_API_KEY; two edits in flight at most."""
    _gateway.triton.reset()
    monkeypatch.setenv("TRITOUCH_URL", _gateway.url)
    monkeypatch.setenv("TRITOUCH_API_KEY", "secret")
    return _gateway


@dataclass
class Asks:
    """Calls either client by the same words."""

    kind: str

    def __call__(self, method: str, *arguments: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
        if self.kind == "sync":
            with Client(**settings or {}) as client:
                result = getattr(client, method)(*arguments, **options)
                return list(result) if method == "stream" else result
        return asyncio.run(self._asynchronous(method, arguments, settings or {}, options))

    async def _asynchronous(self, method: str, arguments: Any, settings: dict[str, Any], options: Any) -> Any:
        async with AsyncClient(**settings) as client:
            result = getattr(client, method)(*arguments, **options)
            return [event async for event in result] if isinstance(result, AsyncIterator) else await result


@pytest.fixture(params=["sync", "async"])
def asks(request: pytest.FixtureRequest) -> Asks:
    return Asks(request.param)

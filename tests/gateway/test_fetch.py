"""Pictures by URL from a server of the test's own: fetched right, or refused with the one text."""

import asyncio
import gzip
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from tests.gateway.asking import PNG, PNG64, body, failure, post, until
from tests.gateway.fake_triton import FakeTriton, element, tensors
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_addresses import FOREIGN, PRIVATE_V4, PRIVATE_V6, SPELLINGS

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
LONG = PNG + bytes(5000)


def whole(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def moved(location: str, status: str = "302 Found") -> bytes:
    return whole(b"", status, f"Location: {location}")


class Host:
    """A server that answers each path as it is told, byte for byte, and notes what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Answer] = {"/cat.png": whole(PNG)}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.asked.append(path)
            self.headers.append(dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2]))
            answer = self.answers.get(path.partition("?")[0], whole(b"", "404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def _host(loop: Loop) -> Iterator[Host]:
    host = Host()
    loop.run(host.start())
    yield host
    loop.run(host.stop())


@pytest.fixture
def host(_host: Host) -> Host:
    _host.answers = {"/cat.png": whole(PNG)}
    _host.asked, _host.headers = [], []
    return _host


@contextmanager
def reaching(loop: Loop, triton: FakeTriton, host: Host, **settings: Any) -> Iterator[Gateway]:
    """A gateway that may fetch from `host`."""
    allowed = {"url_private_hosts": ("127.0.0.1",), "url_ports": (host.port,)}
    patient = {"url_connect_seconds": 60, "url_total_seconds": 60}
    with serving(loop, triton, **(allowed | patient | settings)) as gateway:
        yield gateway


def ask(gateway: Gateway, host: Host, path: str) -> Any:
    return post(gateway, json=body(image={"image": f"http://127.0.0.1:{host.port}{path}"}))


def test_fetched(loop: Loop, triton: FakeTriton, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with reaching(loop, triton, host) as gateway:
        assert ask(gateway, host, "/cat.png?size=1#part").status_code == 200
    assert element(tensors(triton.requests[0])["image"]) == PNG
    assert host.asked == ["/cat.png?size=1"]
    (headers,) = host.headers
    assert headers["Host"] == f"127.0.0.1:{host.port}"
    assert headers["Accept-Encoding"] == "identity"
    assert not headers.keys() & {"Authorization", "Cookie", "X-Request-Id"}


def test_beside_base64(loop: Loop, triton: FakeTriton, host: Host) -> None:
    images = [{"image": PNG64}, {"image": f"http://127.0.0.1:{host.port}/cat.png"}]
    with reaching(loop, triton, host) as gateway:
        assert post(gateway, json=body(image=images)).status_code == 200
    assert list(triton.requests[0].inputs[0].shape) == [2]


async def _slowly(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + PNG)
    for _ in range(9000):
        await asyncio.sleep(0.1)
        writer.write(b"x")
        await writer.drain()


async def _never(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(900)


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        writer.write(b"1000\r\n" + PNG.ljust(0x1000) + b"\r\n")
        await writer.drain()


BAD: dict[str, bytes | Answer] = {
    "not there": whole(b"", "404 Not Found"),
    "forbidden": whole(PNG, "403 Forbidden"),
    "an error": whole(PNG, "500 Internal Server Error"),
    "empty": whole(b""),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not a picture": whole(b"<html>"),
    "GIF": whole(b"GIF89a"),
    "gzip": whole(gzip.compress(PNG), "200 OK", "Content-Encoding: gzip"),
    "a bomb": whole(gzip.compress(bytes(10_000_000)), "200 OK", "Content-Encoding: gzip"),
    "too short": whole(PNG)[:-5],
    "a length too long": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + PNG,
    "a wrong length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + PNG,
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + PNG,
    "declared too large": whole(PNG + bytes(20_000)),
    "truncated chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nab",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a huge header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
    "nothing": b"",
    "an endless body": _endless,
    "redirect to nowhere": whole(b"", "302 Found"),
    "redirect to loopback by name": moved("http://localhost/"),
    "redirect to loopback": moved("http://127.0.0.2/"),
    "redirect to metadata": moved("http://169.254.169.254/latest/meta-data/"),
    "redirect to IPv6 loopback": moved("http://[::1]/"),
    "redirect to a mapped address": moved("http://[::ffff:127.0.0.1]/"),
    "redirect to a decimal address": moved("http://2130706433/"),
    "redirect to a file": moved("file:///etc/passwd"),
    "redirect to another port": moved("http://127.0.0.1:22/"),
    "redirect with credentials": moved("http://user:pass@127.0.0.1/"),
    "redirect without a scheme": moved("//localhost/"),
    "redirect to itself": moved("/bad"),
    "redirect with non-ASCII": moved("/\u00e9"),
}


@pytest.fixture(scope="module")
def near(loop: Loop, _triton: FakeTriton, _host: Host) -> Iterator[Gateway]:
    with reaching(loop, _triton, _host, max_image_bytes=10_000) as gateway:
        yield gateway


def _check_failure(gateway: Gateway, host: Host, given: bytes | Answer) -> None:
    host.answers["/bad"] = given
    answer = ask(gateway, host, "/bad")
    assert failure(answer) == (422, "image_url_unusable")
    assert answer.json()["detail"] == "An image could not be had from its URL."
    assert not gateway.triton.requests


@pytest.mark.parametrize("what", BAD)
def test_every_failure_is_the_same(near: Gateway, triton: FakeTriton, host: Host, what: str) -> None:
    _check_failure(near, host, BAD[what])
    assert len(host.asked) == (4 if "itself" in what else 1)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [_slowly, _never])
def test_taking_too_long_is_that_failure_too(loop: Loop, triton: FakeTriton, host: Host, slow: Answer) -> None:
    with reaching(loop, triton, host, url_total_seconds=1) as gateway:
        _check_failure(gateway, host, slow)
    assert len(host.asked) == 1


def _elsewhere() -> list[str]:
    """Hosts that a redirect must not lead to. 127.0.0.1 itself is left out, for these tests allow it."""
    addresses = [f"[{one}]" if ":" in one else one for one in (PRIVATE_V4 + PRIVATE_V6).split() if one != "127.0.0.1"]
    return [*addresses, *SPELLINGS.split(), *FOREIGN]


@pytest.mark.parametrize("to", _elsewhere())
def test_no_redirect_leads_elsewhere(near: Gateway, triton: FakeTriton, host: Host, to: str) -> None:
    host.answers["/bad"] = moved(f"http://{to}:{host.port}/cat.png")
    assert failure(ask(near, host, "/bad")) == (422, "image_url_unusable")
    assert host.asked == ["/bad"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(near: Gateway, triton: FakeTriton, host: Host, status: int) -> None:
    here = f"127.0.0.1:{host.port}"
    host.answers |= {
        "/1": moved(f"http://{here}/2", f"{status} X"),
        "/2": moved("/3"),
        "/3": moved(f"//{here}/cat.png"),
    }
    assert ask(near, host, "/1").status_code == 200
    host.answers["/0"] = moved("/1")
    assert failure(ask(near, host, "/0")) == (422, "image_url_unusable")


def test_bytes_without_a_length(near: Gateway, triton: FakeTriton, host: Host) -> None:
    host.answers |= {
        "/closed": b"HTTP/1.1 200 OK\r\n\r\n" + PNG,
        "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(PNG), PNG),
    }
    for path in ("/closed", "/chunked"):
        assert ask(near, host, path).status_code == 200
    assert element(tensors(triton.requests[-1])["image"]) == PNG


def test_a_private_host_must_be_named(loop: Loop, triton: FakeTriton, host: Host) -> None:
    with reaching(loop, triton, host, url_private_hosts=()) as gateway:
        assert failure(ask(gateway, host, "/cat.png")) == (422, "image_url_unusable")
    assert not host.asked


def test_an_allow_list_fails_closed(loop: Loop, triton: FakeTriton, host: Host) -> None:
    with reaching(loop, triton, host, url_hosts=("images.example.com",), url_private_hosts=()) as gateway:
        assert failure(ask(gateway, host, "/cat.png")) == (422, "image_url_unusable")
    with reaching(loop, triton, host, url_hosts=("images.example.com",)) as gateway:
        assert ask(gateway, host, "/cat.png").status_code == 200


def test_turned_off(loop: Loop, triton: FakeTriton, host: Host) -> None:
    with reaching(loop, triton, host, url_images=False) as gateway:
        assert failure(ask(gateway, host, "/cat.png")) == (422, "image_url_unsupported")
    assert not host.asked


def test_what_is_fetched_counts_as_held(loop: Loop, triton: FakeTriton, host: Host) -> None:
    host.answers["/large.png"] = whole(PNG.ljust(50_000))
    limits = {"max_body_bytes": 20_000, "max_held_bytes": 20_000}
    with reaching(loop, triton, host, **limits) as gateway:
        assert failure(ask(gateway, host, "/large.png")) == (429, "queue_full")
        assert ask(gateway, host, "/cat.png").status_code == 200
        assert until(lambda: gateway.app.state.edits.memory.held == 0)


def test_waiting_for_a_turn_is_bounded_by_the_deadline(loop: Loop, triton: FakeTriton, host: Host) -> None:
    host.answers["/never"] = _never
    limits = {"url_fetches": 1, "edit_timeout_seconds": 0.3}
    with reaching(loop, triton, host, **limits) as gateway:
        assert failure(ask(gateway, host, "/never")) == (504, "deadline_exceeded")


def test_fetches_are_bounded_in_number(loop: Loop, triton: FakeTriton, host: Host) -> None:
    running = most = 0
    released = threading.Event()

    @asynccontextmanager
    async def counted() -> AsyncGenerator[None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield
        running -= 1

    async def answer(writer: asyncio.StreamWriter) -> None:
        async with counted():
            while not released.is_set():
                await asyncio.sleep(0.01)
            writer.write(whole(PNG))
            await writer.drain()

    host.answers["/counted"] = answer
    with reaching(loop, triton, host, url_fetches=2) as gateway, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, gateway, host, "/counted") for _ in range(8)]
        assert until(lambda: gateway.app.state.edits.running.inside == 8)
        assert until(lambda: running == 2)
        released.set()
        assert [answer.result().status_code for answer in answers] == [200] * 8
    assert most == 2

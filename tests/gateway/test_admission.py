"""Who gets in: tokens, places, bytes, time; and that a refusal comes before the body."""

import asyncio
import base64
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from fastapi import Request

from families.picture import DecodingLimits
from gateway.admission import Gate, Memory
from gateway.auth import Keys
from gateway.errors import PublicError
from gateway.settings import Settings
from tests.gateway.asking import EDITS, PNG, PNG64, body, failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, when
from tests.gateway.serving import Gateway, Loop, serving

HEAD = f"POST {EDITS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def raw(gateway: Gateway, sent: bytes, timeout: float = 5) -> bytes:
    """What comes back for these bytes, until the connection closes or nothing comes any more."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout) as connection:
        connection.sendall(sent)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """What comes until the connection closes, or an object of JSON ends."""
    found = b""
    while b"}" not in found and (part := connection.recv(65536)):
        found += part
    return found


def code_of(answer: bytes) -> tuple[int, str]:
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)["error"]["code"]


def test_gate() -> None:
    gate = Gate(2)
    with gate.entered(), gate.entered():
        with pytest.raises(PublicError, match="queue_full"), gate.entered():
            pass
        assert gate.inside == 2
    gate.closed = True
    with pytest.raises(PublicError, match="shutting_down"), gate.entered():
        pass
    assert gate.inside == 0


def test_memory() -> None:
    memory = Memory(10)
    with memory.hold() as first, memory.hold() as second:
        first.resize(6)
        second.resize(4)
        with pytest.raises(PublicError, match="queue_full"):
            second.resize(5)
        assert memory.held == 10
        moved = first.moved()
        first.resize(0)
        assert memory.held == 10
        moved.resize(1)
        assert memory.held == 5
    assert memory.held == 1


def test_a_body_must_fit_into_memory() -> None:
    for limit in ("max_held_bytes", "max_caller_bytes"):
        with pytest.raises(ValueError, match=f"TRITOUCH_{limit.upper()}"):
            Settings(**{limit: 10})


@pytest.fixture(scope="module")
def locked(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    """A gateway that wants a token."""
    with serving(loop, _triton, api_keys=("one", "two")) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("Bearer one", True),
        ("bearer  two", True),
        ("Bearer three", False),
        ("Basic one", False),
        ("one", False),
        ("Bearer", False),
        ("", False),
        ("Bearer on\xe9", False),
    ],
)
def test_tokens(locked: Gateway, triton: FakeTriton, given: str, right: bool) -> None:
    answer = post(locked, headers={"authorization": given.encode("latin-1")} if given else {})
    assert get(locked, "/v1/models").status_code == 401
    assert get(locked, "/livez").status_code == get(locked, "/readyz").status_code == 200
    if right:
        assert answer.status_code == 200
    else:
        assert failure(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_stranger_is_refused_before_the_body(locked: Gateway) -> None:
    assert code_of(raw(locked, (HEAD + "Content-Length: 1000000\r\n\r\n").encode())) == (401, "unauthorized")


def test_a_full_house_refuses_before_the_body(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton, max_edits=2) as gateway, ThreadPoolExecutor() as pool:
        admitted = [pool.submit(post, gateway) for _ in range(2)]
        assert until(lambda: triton.active == 2)
        answer = raw(gateway, (HEAD + "Content-Length: 1000000\r\n\r\n").encode())
        assert code_of(answer) == (429, "queue_full")
        assert b"retry-after: 1" in answer.lower()
        released.set()
        assert [one.result().status_code for one in admitted] == [200, 200]
        assert post(gateway).status_code == 200


@contextmanager
def sending(gateway: Gateway, size: int, content: bytes = b"", *headers: str) -> Iterator[socket.socket]:
    """A connection that has announced a body of `size` bytes, and sent the beginning of it."""
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as connection:
        lines = "".join(f"{one}\r\n" for one in headers)
        connection.sendall(f"{HEAD}{lines}Content-Length: {size}\r\n\r\n".encode() + content)
        yield connection


def test_what_is_announced_takes_no_memory_and_no_place(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_edits=4) as gateway, ExitStack() as idle:
        edits = gateway.app.state.edits
        for _ in range(3):
            idle.enter_context(sending(gateway, 100_000_000))
        assert until(lambda: edits.arriving.inside == 3)
        assert (edits.memory.held, edits.callers.inside) == (0, 0)
        assert [post(gateway).status_code for _ in range(3)] == [200] * 3


def test_a_body_over_the_budget_is_refused_before_it_is_read(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_held_bytes=1000, max_body_bytes=1000) as gateway:
        with sending(gateway, 950, b"x" * 900):
            assert until(lambda: gateway.app.state.edits.memory.held == 900)
            assert code_of(raw(gateway, (HEAD + "Content-Length: 200\r\n\r\n").encode())) == (429, "queue_full")
            chunked = (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode()
            assert code_of(raw(gateway, chunked + b"c8\r\n" + b"x" * 200 + b"\r\n")) == (429, "queue_full")
        assert until(lambda: gateway.app.state.edits.memory.held == 0)


def _shared(loop: Loop, triton: FakeTriton, **limits: int) -> AbstractContextManager[Gateway]:
    return serving(loop, triton, api_keys=("one", "two"), body_pause_seconds=1, **limits)


@pytest.mark.parametrize("again", ["Bearer one", "bearer  one"])
def test_one_caller_has_a_share_of_the_memory(loop: Loop, triton: FakeTriton, again: str) -> None:
    limits = {"max_held_bytes": 1500, "max_caller_bytes": 1000, "max_body_bytes": 1000}
    with (
        _shared(loop, triton, **limits) as gateway,
        sending(gateway, 950, b"x" * 900, "Authorization: Bearer one"),
    ):
        assert until(lambda: gateway.app.state.edits.memory.held == 900)
        with sending(gateway, 200, b"", f"Authorization: {again}") as more:
            assert code_of(received(more)) == (429, "queue_full")
        with sending(gateway, 200, b"x" * 200, "Authorization: Bearer two") as other:
            assert code_of(received(other)) == (400, "body_unreadable")


def test_one_caller_has_a_share_of_the_places_for_arriving_bodies(loop: Loop, triton: FakeTriton) -> None:
    with (
        _shared(loop, triton, max_edits=1) as gateway,
        sending(gateway, 9, b"", "Authorization: Bearer one") as first,
    ):
        assert until(lambda: gateway.app.state.edits.arriving.inside == 1)
        with sending(gateway, 9, b"x" * 9, "Authorization: Bearer one") as more:
            assert code_of(received(more)) == (429, "queue_full")
        with sending(gateway, 9, b"x" * 9, "Authorization: Bearer two") as other:
            assert code_of(received(other)) == (400, "body_unreadable")
        assert code_of(received(first)) == (408, "body_too_slow")


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2600::1", "2600::ffff:1", True),
        ("2600::1", "2600:0:0:1::1", False),
    ],
)
def test_without_tokens_a_caller_is_an_address(one: str, another: str, same: bool) -> None:
    first, second = (Request({"type": "http", "headers": [], "client": (host, 1)}) for host in (one, another))
    assert (Keys(()).caller(first) == Keys(()).caller(second)) is same


@pytest.mark.parametrize("framing", ["Content-Length: 100663297\r\n\r\n", "Content-Length: 9" + "9" * 30 + "\r\n\r\n"])
def test_a_declared_body_over_the_cap(gateway: Gateway, framing: str) -> None:
    status = raw(gateway, (HEAD + framing).encode()).split()[1]
    assert status in (b"413", b"400")


def test_a_chunked_body_over_the_cap_is_refused_while_it_is_read(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_body_bytes=10_000) as gateway:
        chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        answer = raw(gateway, HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
    assert code_of(answer) == (413, "body_too_large")


def _trickled(gateway: Gateway, pieces: list[bytes], pause: float = 0.02) -> tuple[int, str]:
    """What becomes of a body that comes in these pieces and then no further."""
    with sending(gateway, 1_000_000) as connection:
        for one in pieces:
            connection.sendall(one)
            if select.select([connection], [], [], pause)[0]:
                break
        return code_of(received(connection))


@pytest.mark.parametrize(
    ("pieces", "slow"),
    [([], {}), ([b"{"], {}), ([b"x"] * 500, {}), ([b"x" * 500_000], {})],
    ids=["nothing", "a byte", "a byte now and then", "much, then nothing"],
)
def test_a_body_must_go_on_arriving(loop: Loop, triton: FakeTriton, pieces: list[bytes], slow: dict[str, Any]) -> None:
    with serving(loop, triton, **({"body_pause_seconds": 0.2} | slow)) as gateway:
        start = time.monotonic()
        assert _trickled(gateway, pieces) == (408, "body_too_slow")
        assert time.monotonic() - start < 3
        assert until(lambda: gateway.app.state.edits.memory.held == 0)


def test_a_body_has_so_much_time_in_all(loop: Loop, triton: FakeTriton) -> None:
    limits = {"body_timeout_seconds": 0.3, "body_pause_seconds": 60, "body_bytes_per_second": 1}
    with serving(loop, triton, **limits) as gateway:
        assert _trickled(gateway, [b"x"] * 3) == (408, "body_too_slow")


def test_a_steady_body_is_read_though_it_takes_longer_than_a_pause(loop: Loop, triton: FakeTriton) -> None:
    content = json.dumps(body()).encode().ljust(100)
    with (
        serving(loop, triton, body_pause_seconds=0.5, body_bytes_per_second=10) as gateway,
        sending(gateway, len(content), content[:-40]) as connection,
    ):
        for one in content[-40:]:
            time.sleep(0.03)
            connection.sendall(bytes([one]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_caller_who_leaves_while_sending(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(HEAD.encode() + b"Content-Length: 100\r\n\r\n{")
        assert until(lambda: gateway.app.state.edits.memory.held == 1)
        assert gateway.app.state.edits.arriving.inside == 1
    assert until(lambda: gateway.app.state.edits.arriving.inside == 0)
    assert gateway.app.state.edits.memory.held == 0


@pytest.mark.parametrize("encoding", ["gzip", "br", "x"])
def test_encoded_bodies_are_415(gateway: Gateway, encoding: str) -> None:
    answer = post(gateway, json=body(), headers={"content-encoding": encoding})
    assert failure(answer) == (415, "unsupported_media_type")


def test_the_size_of_an_image_is_known_before_it_is_decoded(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_image_bytes=len(PNG), max_request_image_bytes=2 * len(PNG)) as gateway:
        longer = base64.b64encode(PNG + b"\0").decode()
        assert post(gateway).status_code == 200
        assert failure(post(gateway, json=body(image={"image": longer}))) == (422, "image_too_large")
        told = post(gateway, json=body(image={"image": longer})).json()["detail"]
        assert told.endswith(f"This one may have at most {len(PNG)} bytes.")
        too_long_and_broken = "!" * (len(PNG64) + 4)
        assert failure(post(gateway, json=body(image={"image": too_long_and_broken}))) == (422, "image_too_large")
        form = {"files": {"image": PNG + b"\0"}, "data": {"prompt": "x"}}
        assert failure(post(gateway, **form)) == (422, "image_too_large")
        assert post(gateway, json=body(image=[{"image": PNG64}] * 2)).status_code == 200
        assert failure(post(gateway, json=body(image=[{"image": PNG64}] * 3))) == (422, "image_too_large")


@pytest.mark.slow
@pytest.mark.parametrize("extra", [0, 1])
def test_exactly_50_mebibytes(gateway: Gateway, triton: FakeTriton, extra: int) -> None:
    content = PNG + bytes(52_428_800 - len(PNG) + extra)
    answer = post(
        gateway,
        content=json.dumps(body(image={"image": base64.b64encode(content).decode()})).encode(),
        headers={"content-type": "application/json"},
    )
    if extra:
        assert failure(answer) == (422, "image_too_large")
    else:
        assert answer.status_code == 200
        assert len(triton.requests[0].raw_input_contents[0]) == 52_428_800 + 4


def test_the_image_limit_is_preprocesss_own() -> None:
    assert DecodingLimits.from_environment({}).max_bytes == Settings().max_image_bytes
    assert DecodingLimits.from_environment({"TRITOUCH_MAX_IMAGE_BYTES": "7"}).max_bytes == 7


def test_draining(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton) as gateway:
        gateway.app.state.edits.close()
        assert failure(get(gateway, "/readyz")) == (503, "shutting_down")
        answer = post(gateway)
        assert failure(answer) == (503, "shutting_down")
        assert "retry-after" in answer.headers
        assert get(gateway, "/livez").status_code == 200


@pytest.mark.slow
def test_live_while_large_bodies_are_worked_on(gateway: Gateway, triton: FakeTriton) -> None:
    content = json.dumps(body(image={"image": "A" * 66_000_000})).encode()
    waits: list[float] = []

    async def scene() -> Any:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as client:
            large = asyncio.ensure_future(
                client.post(EDITS, content=content, headers={"content-type": "application/json"})
            )
            while not large.done():
                start = time.perf_counter()
                assert (await client.get("/livez")).status_code == 200
                waits.append(time.perf_counter() - start)
            return large.result()

    assert failure(asyncio.run(scene())) == (422, "image_unreadable")
    assert max(waits) < 1

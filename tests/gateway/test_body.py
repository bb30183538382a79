"""The body on its way in: its size, its framing, its pace."""

import asyncio
import base64
import json
import select
import socket
import time
from typing import Any

import httpx
import pytest
from fastapi import Request

from families.picture import DecodingLimits
from gateway.admission import Memory
from gateway.body import Bounds, read
from gateway.errors import PublicError
from gateway.settings import Settings
from tests.gateway import clock
from tests.gateway.asking import EDITS, PNG, PNG64, body, failure, post, until
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.sending import HEAD, code_of, raw, received, sending
from tests.gateway.serving import Gateway, Loop, serving


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
    "pieces",
    [[], [b"{"], [b"x"] * 500, [b"x" * 500_000]],
    ids=["nothing", "a byte", "a byte now and then", "much, then nothing"],
)
def test_a_body_must_go_on_arriving(loop: Loop, triton: FakeTriton, pieces: list[bytes]) -> None:
    with serving(loop, triton, body_pause_seconds=0.2) as gateway:
        assert _trickled(gateway, pieces) == (408, "body_too_slow")
        assert until(lambda: gateway.app.state.edits.memory.held == 0)


async def _read(pieces: int, pause: float, bounds: Bounds) -> bytes:
    """The body that comes so, a byte at a time."""

    async def receive() -> dict[str, Any]:
        nonlocal pieces
        await asyncio.sleep(pause)
        pieces -= 1
        return {"type": "http.request", "body": b"x", "more_body": pieces > 0}

    request = Request({"type": "http", "headers": []}, receive)
    with Memory(1000).hold() as held:
        return await read(request, held, bounds)


def test_a_steady_body_is_read_though_it_takes_longer_than_a_pause() -> None:
    bounds = Bounds(max_bytes=100, seconds=60, bytes_per_second=10, pause_seconds=0.5)
    assert clock.run(_read(40, 0.03, bounds)) == b"x" * 40


@pytest.mark.parametrize(
    ("slow", "seconds"), [({"pause_seconds": 0.02}, 0.02), ({"bytes_per_second": 1000}, 0.517), ({"seconds": 1.0}, 1.0)]
)
def test_who_is_too_slow_is_not_waited_for(slow: dict[str, float], seconds: float) -> None:
    async def scene() -> float:
        bounds = Bounds(**({"max_bytes": 100, "seconds": 60, "bytes_per_second": 10, "pause_seconds": 0.5} | slow))
        with pytest.raises(PublicError, match="body_too_slow"):
            await _read(40, 0.03, bounds)
        return asyncio.get_running_loop().time()

    assert clock.run(scene()) == pytest.approx(seconds, abs=0.001)


def test_a_body_has_so_much_time_in_all(loop: Loop, triton: FakeTriton) -> None:
    limits = {"body_timeout_seconds": 0.3, "body_pause_seconds": 60, "body_bytes_per_second": 1}
    with serving(loop, triton, **limits) as gateway:
        assert _trickled(gateway, [b"x"] * 3) == (408, "body_too_slow")


def test_a_caller_who_leaves_while_sending(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(HEAD.encode() + b"Content-Length: 100\r\n\r\n{")
        assert until(lambda: gateway.app.state.edits.memory.held == 1)
        assert gateway.app.state.edits.arriving.inside == 1
    edits = gateway.app.state.edits
    assert until(lambda: (edits.arriving.inside, edits.memory.held) == (0, 0))


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


@pytest.mark.slow
def test_live_while_large_bodies_are_worked_on(gateway: Gateway, triton: FakeTriton) -> None:
    content = json.dumps(body(image={"image": "A" * 66_000_000})).encode()
    waits: list[float] = []

    async def scene() -> Any:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
            large = asyncio.ensure_future(
                client.post(EDITS, content=content, headers={"content-type": "application/json"})
            )
            while not large.done():
                start = time.process_time()  # what others compute meanwhile does not count
                assert (await client.get("/livez")).status_code == 200
                waits.append(time.process_time() - start)
            return large.result()

    assert failure(asyncio.run(scene())) == (422, "image_unreadable")
    assert max(waits) < 1

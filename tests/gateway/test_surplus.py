"""What comes behind a request that is not answered yet: it does not hide that its caller leaves."""

import json
import threading

import pytest

from gateway.protocol import MAX_SURPLUS
from tests.gateway.asking import body, until
from tests.gateway.fake_triton import FakeTriton, begun, telling, when
from tests.gateway.sending import HEAD
from tests.gateway.serving import Gateway
from tests.gateway.test_protocol import GET, connected, rest

UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
"""What Java's client sends, which would go on in HTTP/2."""


def edit(prompt: str, headers: str = "", **fields: object) -> bytes:
    content = json.dumps(body(prompt=prompt, **fields)).encode()
    return f"{HEAD}{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


@pytest.mark.parametrize("headers", ["", UPGRADE])
@pytest.mark.parametrize("surplus", [b"X", GET, GET + b"X" * 10_000])
def test_who_sends_more_and_leaves_is_seen_to_leave(
    gateway: Gateway, triton: FakeTriton, headers: str, surplus: bytes
) -> None:
    edits, released = gateway.app.state.edits, threading.Event()
    triton.behave = when(released)
    with connected(gateway, edit(f"left with {len(headers)} and {len(surplus)}", headers)) as connection:
        assert until(lambda: triton.active == 1)
        connection.sendall(surplus)
    assert until(lambda: not edits.callers.inside)
    released.set()
    assert until(lambda: not triton.active)


@pytest.mark.parametrize("headers", ["", UPGRADE])
def test_and_so_does_a_stream(gateway: Gateway, triton: FakeTriton, headers: str) -> None:
    triton.tell = telling(begun(), threading.Event())
    with connected(gateway, edit("x", headers, stream=True)) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.sendall(b"X")
    assert until(lambda: not gateway.app.state.edits.streams.inside and not triton.active)


def test_a_request_behind_an_edit_is_answered_after_it(gateway: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with connected(gateway, edit("followed")) as connection:
        assert until(lambda: triton.active == 1)
        connection.sendall(GET + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        released.set()
        assert rest(connection).count(b"HTTP/1.1 200 OK") == 3


def test_much_that_comes_before_the_answer_ends_the_connection(gateway: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with connected(gateway, edit("flooded")) as connection:
        assert until(lambda: triton.active == 1)
        connection.sendall(b"X" * (MAX_SURPLUS + 1))
        assert rest(connection) == b""
    assert until(lambda: not gateway.app.state.edits.callers.inside)
    released.set()
    assert until(lambda: not triton.active)

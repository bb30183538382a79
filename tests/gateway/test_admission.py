"""Who gets in: tokens, places, bytes, time; and that a refusal comes before the body."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack

import pytest
from fastapi import Request

from gateway.admission import Gate, Memory
from gateway.auth import Keys
from gateway.errors import PublicError
from gateway.settings import Settings
from tests.gateway.asking import body, failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, when
from tests.gateway.sending import HEAD, code_of, raw, received, sending
from tests.gateway.serving import Gateway, Loop, serving


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
    return serving(loop, triton, api_keys=("one", "two"), **limits)


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
        first.sendall(b"x" * 9)
        assert code_of(received(first)) == (400, "body_unreadable"), "it had its place all the while"


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2600::1", "2600::ffff:1", True),
        ("2600::1", "2600:0:0:1::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_without_tokens_a_caller_is_an_address(one: str, another: str, same: bool) -> None:
    first, second = (Request({"type": "http", "headers": [], "client": (host, 1)}) for host in (one, another))
    assert (Keys(()).caller(first) == Keys(()).caller(second)) is same


def test_draining(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton) as gateway:
        gateway.app.state.edits.close()
        assert failure(get(gateway, "/readyz")) == (503, "shutting_down")
        answer = post(gateway)
        assert failure(answer) == (503, "shutting_down")
        assert "retry-after" in answer.headers
        assert get(gateway, "/livez").status_code == 200


def test_a_key_that_is_none_is_refused_before_the_body(gateway: Gateway) -> None:
    with sending(gateway, 9, b"", "Idempotency-Key: a b") as connection:
        assert code_of(received(connection)) == (422, "idempotency_key_invalid")


@pytest.mark.parametrize("key", ["", " \t"])
def test_an_empty_key_is_as_good_as_left_out(gateway: Gateway, triton: FakeTriton, key: str) -> None:
    content = json.dumps(body()).encode()
    for _ in range(2):
        with sending(gateway, len(content), content, f"Idempotency-Key: {key}", "Connection: close") as connection:
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert len(triton.requests) == 2

"""Connections that send nothing, or too little, or in too many ways; and how many there may be."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from gateway.server import most_connections
from tests.gateway.asking import EDITS, body, get, post, until
from tests.gateway.fake_triton import FakeTriton, answering, response, when
from tests.gateway.sending import HEAD, SECONDS, code_of, raw, received
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_fetch_hostile import MOST_SECONDS, Lag, least_lag
from tests.gateway.test_observe import counted, shown

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def connected(gateway: Gateway, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), SECONDS) as connection:
        connection.sendall(sent)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.fixture(scope="module")
def hasty(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    with serving(loop, _triton, head_timeout_seconds=1, api_keys=("one",)) as gateway:
        yield gateway


@pytest.mark.slow
def test_silence_is_closed_and_a_head_that_does_not_end_is_408(hasty: Gateway) -> None:
    with ExitStack() as stack:
        begun = [stack.enter_context(connected(hasty, sent)) for sent in (b"", b"G", GET[:-2], GET[:-4])]
        silent, *others = map(rest, begun)
    assert silent == b""
    assert [code_of(one) for one in others] == [(408, "body_too_slow")] * 3


def trickled(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"a")
        time.sleep(0.05)


@pytest.mark.slow
def test_a_head_that_trickles_in_has_no_more_time(hasty: Gateway) -> None:
    with connected(hasty, GET[:-4]) as connection, pytest.raises(ConnectionError):
        trickled(connection)


@pytest.mark.slow
def test_nor_has_the_next_one(hasty: Gateway) -> None:
    with connected(hasty, GET + GET + GET[:-4]) as connection:
        answers = rest(connection)
    assert answers.count(b" 200 OK") == 2
    assert answers.count(b" 408 ") == 1


@pytest.mark.slow
def test_the_rest_of_a_refused_body_is_not_waited_for_any_longer(hasty: Gateway) -> None:
    with connected(hasty, (HEAD + "Content-Length: 1000000\r\n\r\n").encode()) as connection:
        assert code_of(received(connection)) == (401, "unauthorized")
        assert rest(connection) == b""


@pytest.mark.slow
def test_an_edit_takes_as_long_as_it_takes(hasty: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, hasty, headers={"authorization": "Bearer one"})
        assert until(lambda: triton.active == 1)
        time.sleep(1.5)
        released.set()
        assert answer.result().status_code == 200


def test_over_the_limit_those_go_that_have_waited_longest(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_connections=4) as gateway, ExitStack() as stack:
        silent = [stack.enter_context(connected(gateway)) for _ in range(4)]
        assert get(gateway, "/livez").status_code == 200
        assert rest(silent[0]) == b""
        silent[-1].sendall(GET)
        assert received(silent[-1]).startswith(b"HTTP/1.1 200")


def test_where_none_waits_the_next_is_told(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton, max_connections=2) as gateway, ThreadPoolExecutor() as pool:
        asked = [pool.submit(post, gateway) for _ in range(2)]
        assert until(lambda: triton.active == 2)
        with connected(gateway) as connection:
            answer = rest(connection)
        assert code_of(answer) == (429, "queue_full")
        assert b"retry-after: 1" in answer.lower()
        released.set()
        assert [one.result().status_code for one in asked] == [200] * 2
        assert until(lambda: shown(gateway, counted("none", "429", "queue_full")))


def test_half_of_the_files_are_the_gateways_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4096))
    assert [most_connections(wanted) for wanted in (100, 1024)] == [100, 128]
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert most_connections(1024) == 1024


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_two_framings_are_400_and_the_end(gateway: Gateway, triton: FakeTriton, order: int, coding: str) -> None:
    framing = "".join([f"Transfer-Encoding: {coding}\r\n", "Content-Length: 5\r\n"][::order])
    with connected(gateway, f"{HEAD}{framing}\r\n0\r\n\r\n".encode() + GET) as connection:
        answer = rest(connection)
    assert code_of(answer) == (400, "body_unreadable")
    assert b"\r\nconnection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"x-request-id: " in answer.lower()


def test_tiny_chunks_are_400(gateway: Gateway) -> None:
    head = (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode()
    assert code_of(raw(gateway, head + b"1\r\nx\r\n" * 2000)) == (400, "body_unreadable")
    assert until(lambda: not gateway.app.state.edits.arriving.inside)
    few = b"1\r\n{\r\n" + b"1\r\n \r\n" * 900 + b"0\r\n\r\n"
    assert code_of(raw(gateway, head + few)) == (400, "body_unreadable")
    assert b"not well-formed JSON" in raw(gateway, head + few)


def test_a_head_that_is_too_large_is_refused_even_when_it_comes_at_once(gateway: Gateway) -> None:
    with connected(gateway, GET[:-2] + b"a:\r\n" * 15_000 + b"\r\n") as connection:
        assert code_of(rest(connection)) == (400, "body_unreadable")


def test_what_is_wrong_with_a_head_request_is_told_without_content(gateway: Gateway) -> None:
    asked = GET.replace(b"GET", b"HEAD")[:-2] + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"
    with connected(gateway, asked) as connection:
        head, _, content = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert content == b""


HEAVY = {
    "chunks of a byte": (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode() + b"1\r\nx\r\n" * 200_000,
    "header lines": f"POST {EDITS} HTTP/1.1\r\n".encode() + b"a:\r\n" * 300_000,
    "as many header lines as fit": f"POST {EDITS} HTTP/1.1\r\n".encode() + b"a:\r\n" * 4000 + b"\r\n",
    "header lines that end": f"POST {EDITS} HTTP/1.1\r\n".encode() + b"a:\r\n" * 15_000 + b"\r\n",
}


@pytest.mark.parametrize("what", HEAVY)
def test_no_request_holds_the_others_up(gateway: Gateway, what: str) -> None:
    def send() -> None:
        with socket.create_connection(("127.0.0.1", gateway.port), SECONDS) as connection:
            try:
                connection.sendall(HEAVY[what])
            except ConnectionError:
                return
            rest(connection)

    async def lag_meanwhile() -> float:
        async with Lag() as lag:
            await gateway.loop.loop.run_in_executor(None, send)
        return lag.seconds

    assert least_lag(lambda: gateway.loop.run(lag_meanwhile())) < 2 * MOST_SECONDS


LARGE = response(bytes(3 * 4000 * 1000), 4000, 1000)


@contextmanager
def large_answer(gateway: Gateway, triton: FakeTriton) -> Iterator[socket.socket]:
    """The connection on which an answer of 16 MB comes, more than the system takes by itself."""
    triton.behave = answering(LARGE)
    content = json.dumps(body(response_format="raw")).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(SECONDS)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(f"{HEAD}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield connection


def test_an_answer_that_is_not_read_is_held(gateway: Gateway, triton: FakeTriton) -> None:
    edits = gateway.app.state.edits
    with large_answer(gateway, triton) as connection:
        assert until(lambda: edits.memory.held >= 16_000_000)
        assert not edits.idle
        assert connection.recv(1)
    assert until(lambda: edits.idle)


@pytest.mark.slow
def test_and_not_for_long(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, body_pause_seconds=0.5, body_bytes_per_second=100_000) as gateway:
        with large_answer(gateway, triton) as connection:
            assert until(lambda: shown(gateway, counted(EDITS, "200", "ok"))), "it is done with, though nobody read it"
            assert len(rest(connection)) < 16_000_000
        assert until(lambda: gateway.app.state.edits.idle)


@pytest.mark.slow
def test_an_answer_that_is_read_slowly_arrives(loop: Loop, triton: FakeTriton) -> None:
    """Later than a connection may be without a request, which is counted from when it has been read."""
    found, start = bytearray(), time.monotonic()
    limits = {"head_timeout_seconds": 2, "body_pause_seconds": 2, "body_bytes_per_second": 1000}
    with serving(loop, triton, **limits) as gateway, large_answer(gateway, triton) as connection:
        while b"\r\n\r\n" not in found:
            found += connection.recv(65536)
        head, _, content = bytes(found).partition(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        arrived = len(content)
        while arrived < size:
            part = connection.recv(65536)
            assert part, "cut"
            arrived += len(part)
            time.sleep(0.01)
        assert time.monotonic() - start > 2
        connection.sendall(GET)
        assert received(connection).startswith(b"HTTP/1.1 200")


PAGE = "https://app.example.com"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nb d: c\r\n\r\n", 400),
        (f"{HEAD}Origin: {PAGE}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (f"{HEAD}Origin: {PAGE}\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (f"GET /livez HTTP/1.1\r\nHost: localhost\r\norigin:{PAGE}\r\n", 408),
    ],
)
@pytest.mark.parametrize("origins", [(PAGE, "https://other.example.com"), ("*",)])
def test_pages_may_read_what_is_answered_before_a_request_is(
    loop: Loop, triton: FakeTriton, sent: str, status: int, origins: tuple[str, ...]
) -> None:
    foreign = sent.replace(PAGE, "https://evil.example.com")
    with (
        serving(loop, triton, head_timeout_seconds=1, cors_origins=origins) as gateway,
        connected(gateway, sent.encode()) as one,
        connected(gateway, foreign.encode()) as other,
    ):
        answer, evil = rest(one), rest(other)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    allowed = origins[0] if len(origins) == 1 else PAGE
    assert f"access-control-allow-origin: {allowed}\r\n".encode() in answer.lower()
    assert (b"access-control" in evil.lower()) == (origins == ("*",))


@pytest.mark.parametrize(
    ("origins", "told"), [((PAGE,), PAGE), (("*",), "*"), ((PAGE, "https://b.example"), ""), ((), "")]
)
def test_where_no_page_is_known_yet_only_one_answer_is_right(
    loop: Loop, triton: FakeTriton, origins: tuple[str, ...], told: str
) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton, max_connections=1, cors_origins=origins) as gateway, ThreadPoolExecutor() as pool:
        asked = pool.submit(post, gateway)
        assert until(lambda: triton.active == 1)
        with connected(gateway) as connection:
            answer = rest(connection).lower()
        released.set()
        assert asked.result().status_code == 200
    assert code_of(answer) == (429, "queue_full")
    assert (b"access-control-allow-origin: " in answer) == bool(told)
    assert told.encode() in answer

"""Bodies in small chunks, a few of which are parsed in one turn of the event loop, whoever sends them."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.parsing import MIN_CHUNK
from gateway.protocol import Bounds, Protocol
from gateway.turns import Turns
from tests.gateway import clock
from tests.gateway.sending import HEAD

CHUNKS = 8
NUMBER = 300
CHUNK = b"%x\r\n" % MIN_CHUNK + b" " * MIN_CHUNK + b"\r\n"
BODY = CHUNK * NUMBER + b"0\r\n\r\n"
BOUNDS = Bounds(most=99, head_seconds=60, pause_seconds=60, bytes_per_second=1, shared=lambda _: {})


class Wire(asyncio.Transport):
    """A connection that is made of nothing: whether it is read, and what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.closed, self.written = True, False, b""

    def pause_reading(self) -> None:
        self.read = False

    def resume_reading(self) -> None:
        self.read = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def write(self, data: Any) -> None:
        self.written += data


class App:
    """Reads bodies and answers each, when it is `let`."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content = b""
        while (message := await receive())["type"] == "http.request":
            content += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(content)
        await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def connected(app: Any, turns: Turns) -> tuple[Protocol, Wire]:
    state, wire = ServerState(), Wire()
    config = uvicorn.Config(app, log_config=None, access_log=False)
    one = Protocol(config=config, server_state=state, app_state={}, bounds=BOUNDS, turns=turns, refused=print)
    one.connection_made(wire)
    return one, wire


def chunked() -> bytes:
    return f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()


def test_of_all_that_has_come_a_few_chunks_are_parsed_in_one_turn() -> None:
    async def scene() -> None:
        app = App()
        one, wire = connected(app, Turns(CHUNKS))
        one.data_received(chunked() + BODY)
        parsed, turns = len(one.cycle.body), 0
        while not app.bodies:
            assert wire.read == (not one.flow.held)
            await asyncio.sleep(0)
            turns += 1
        assert parsed <= CHUNKS * MIN_CHUNK
        assert turns >= NUMBER // CHUNKS
        assert app.bodies == [b" " * MIN_CHUNK * NUMBER]
        assert wire.read

    clock.run(scene())


def test_all_connections_share_the_turns() -> None:
    async def scene() -> None:
        app, turns, passed = App(), Turns(CHUNKS), 0
        several = [connected(app, turns) for _ in range(5)]
        for one, _ in several:
            one.data_received(chunked() + BODY)
        while len(app.bodies) < len(several):
            await asyncio.sleep(0)
            passed += 1
        assert passed >= len(several) * NUMBER // CHUNKS
        assert app.bodies == [b" " * MIN_CHUNK * NUMBER] * len(several)

    clock.run(scene())


def test_who_sends_no_chunks_waits_for_no_turn() -> None:
    async def scene() -> None:
        app, turns = App(), Turns(CHUNKS)
        chunks, _ = connected(app, turns)
        plain, wire = connected(app, turns)
        chunks.data_received(chunked() + BODY)
        plain.data_received(f"{HEAD}Content-Length: 5\r\n\r\n12345".encode())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert app.bodies == [b"12345"]
        assert wire.read

    clock.run(scene())


def test_a_request_behind_another_has_its_turns_too() -> None:
    async def scene() -> None:
        app = App()
        one, wire = connected(app, Turns(CHUNKS))
        few = CHUNK * (2 * CHUNKS) + b"0\r\n\r\n"
        one.data_received(chunked() + few + chunked() + few)
        app.let.set()
        while wire.written.count(b"HTTP/1.1 200") < 2:
            await asyncio.sleep(0)
        assert app.bodies == [b" " * MIN_CHUNK * 2 * CHUNKS] * 2

    clock.run(scene())


def test_behind_a_body_that_nobody_wanted_no_more_is_read_than_is_parsed() -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def scene() -> None:
        one, wire = connected(refusing, Turns(CHUNKS))
        few = CHUNK * (2 * CHUNKS) + b"0\r\n\r\n"
        one.data_received(chunked() + few + chunked() + BODY)
        while wire.written.count(b"HTTP/1.1 404") < 2 or one.flow.held:
            assert wire.read == (not one.flow.held)
            await asyncio.sleep(0)
        assert wire.read

    clock.run(scene())


def test_who_leaves_meanwhile_has_no_turn() -> None:
    async def scene() -> None:
        app, turns = App(), Turns(CHUNKS)
        gone, wire = connected(app, turns)
        other, _ = connected(app, turns)
        gone.data_received(chunked() + BODY)
        wire.close()
        gone.connection_lost(None)
        parsed = len(gone.cycle.body)
        other.data_received(chunked() + BODY)
        while app.bodies[-1:] != [b" " * MIN_CHUNK * NUMBER]:
            await asyncio.sleep(0)
        assert len(gone.cycle.body) == parsed

    clock.run(scene())

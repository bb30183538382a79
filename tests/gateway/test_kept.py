"""Answers that are kept for who may come again: held, until they are forgotten or their caller needs the room."""

import asyncio
from typing import Any

import pytest

from gateway.admission import Memory
from gateway.errors import PublicError
from gateway.orphans import Orphans
from tests.gateway import clock
from tests.gateway.asking import body, post, until
from tests.gateway.fake_triton import TOKENS, FakeTriton, answering, begun, outputs, response, telling, used
from tests.gateway.serving import Loop, serving
from tests.gateway.test_orphans import GRACE, Work, left

WIDTH, HEIGHT = 1000, 100
PIXELS = bytes(3 * WIDTH * HEIGHT)
NUMBERS = {"size": [WIDTH, HEIGHT], "step": [12, 12], "index": [0], "tokens": [*TOKENS], "foretold": [3]}
FINISHED = outputs([PIXELS], {name: ("INT32", told) for name, told in NUMBERS.items()} | used())


def test_what_is_kept_goes_when_its_caller_needs_the_room() -> None:
    memory, dropped = Memory(20, each=10), list[str]()

    def kept(caller: str, name: str, awaited: bool = False) -> None:
        def drop() -> None:
            dropped.append(name)
            if not awaited:
                held.keep(0)

        held = memory.hold(caller, drop)
        held.keep(4)

    for caller, name in (("a", "first"), ("a", "second"), ("b", "other")):
        kept(caller, name)
    assert (memory.held, memory.awaited) == (12, 0)
    with memory.hold("a") as held:
        assert not held.has(6)
        held.check(2)
        assert dropped == []
        held.resize(6)
        assert dropped == ["first"]
        held.resize(10)
        assert dropped == ["first", "second"]
        with pytest.raises(PublicError, match="queue_full"):
            held.resize(11)
    assert memory.held == 4, "another's stays"
    dropped.clear()
    kept("b", "awaited", awaited=True)
    with memory.hold("b") as held, pytest.raises(PublicError, match="queue_full"):
        held.resize(7)
    assert dropped == ["other", "awaited"]


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_are_kept_count_as_memory_until_their_caller_needs_it(
    loop: Loop, triton: FakeTriton, stream: bool
) -> None:
    triton.behave, triton.tell = answering(response(PIXELS, WIDTH, HEIGHT)), telling(begun(), FINISHED)
    limits = dict.fromkeys(("max_held_bytes", "max_caller_bytes", "max_body_bytes"), 1_000_000)
    with serving(loop, triton, **limits) as gateway:
        edits = gateway.app.state.edits

        def ask(key: str) -> int:
            answer = post(gateway, json=body(response_format="raw", stream=stream), headers={"Idempotency-Key": key})
            assert answer.status_code == 200
            assert until(lambda: edits.idle)
            return len(answer.content)

        sizes = [ask(key) for key in "abc"]
        assert until(lambda: edits.memory.held == sum(sizes))
        assert edits.memory.held > 1_000_000
        ask("d")
        ask("d")
        assert len(triton.requests) == 4
        ask("a")
        assert len(triton.requests) == 5, "it went first"


@pytest.mark.parametrize("named", [True, False])
def test_a_result_is_held_until_it_is_forgotten(named: bool) -> None:
    held: list[int] = []

    def kept(result: int, _: Any) -> Any:
        held.append(result)
        return lambda: held.remove(result)

    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(asyncio.ensure_future(orphans.run(b"k", work, named=named, kept=kept)))
        assert held == []
        work.ended.set()
        await asyncio.sleep(GRACE / 2)
        assert held == [1]
        assert await orphans.run(b"k", work, named=named, kept=kept) == 1
        assert held == ([1] if named else [])
        await asyncio.sleep(2 * GRACE)
        assert held == []

    clock.run(scene())


def test_of_work_that_failed_or_was_dropped_nothing_is_held() -> None:
    def kept(_result: int, _drop: Any) -> Any:
        raise AssertionError

    async def scene() -> None:
        orphans, failing, dropped = Orphans[int](GRACE), Work(), Work()
        failing.error = ValueError("no")
        failing.ended.set()
        with pytest.raises(ValueError, match="no"):
            await orphans.run(b"k", failing, named=True, kept=kept)
        await left(asyncio.ensure_future(orphans.run(b"k", dropped, kept=kept)))
        await asyncio.sleep(2 * GRACE)
        assert dropped.cancelled == 1

    clock.run(scene())


def test_what_someone_awaits_is_not_dropped_for_room() -> None:
    drops, held = list[Any](), list[int]()

    def kept(result: int, drop: Any) -> Any:
        drop()
        drops.append(drop)
        held.append(result)
        return lambda: held.remove(result)

    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        work.ended.set()
        for _ in range(2):
            assert await orphans.run(b"k", work, named=True, kept=kept) == 1
        assert held == [1]
        drops[0]()
        assert held == []
        assert await orphans.run(b"k", work, named=True, kept=kept) == 2
        assert held == [2]

    clock.run(scene())

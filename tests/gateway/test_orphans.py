"""Work whose caller has left: taken over by the same request, or dropped after the grace."""

import asyncio
import base64
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from friendli import SyncFriendli

from gateway.orphans import Orphans
from tests.gateway import clock
from tests.gateway.asking import PNG64, body, failure, post, until
from tests.gateway.fake_triton import JPEG, FakeTriton, after, at_once, failing, when
from tests.gateway.sending import leave
from tests.gateway.serving import Gateway, Loop, serving

GRACE = 0.15


class Work:
    """A piece of work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = asyncio.Event()
        self.cancelled = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        try:
            await self.ended.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return mine


async def left(task: "asyncio.Task[int]") -> None:
    """Let the caller in `task` begin, and leave."""
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _caller(orphans: Orphans[int], work: Work, key: bytes = b"k", named: bool = False) -> "asyncio.Task[int]":
    return asyncio.ensure_future(orphans.run(key, work, named=named))


def test_the_same_key_takes_an_orphan_over() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(_caller(orphans, work))
        second = _caller(orphans, work)
        await asyncio.sleep(GRACE * 2)
        work.ended.set()
        assert await second == 1
        assert (work.begun, work.cancelled, orphans.taken_over, orphans.dropped) == (1, 0, 1, 0)
        assert await _caller(orphans, work) == 2

    clock.run(scene())


@pytest.mark.parametrize("named", [True, False])
def test_only_who_joins_is_told(named: bool) -> None:
    async def scene() -> None:
        orphans, work, told = Orphans[int](GRACE), Work(), list[str]()

        def caller(name: str) -> "asyncio.Task[int]":
            return asyncio.ensure_future(orphans.run(b"k", work, joined=lambda: told.append(name), named=named))

        await left(caller("first"))
        second = caller("second")
        await asyncio.sleep(0.01)
        assert told == ["second"]
        work.ended.set()
        assert await second == 1

    clock.run(scene())


def test_an_orphan_that_ended_keeps_its_result_for_the_grace() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(_caller(orphans, work))
        work.ended.set()
        await asyncio.sleep(0.02)
        assert await _caller(orphans, work) == 1

    clock.run(scene())


def test_past_the_grace_it_is_cancelled_and_forgotten() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(_caller(orphans, work))
        await asyncio.sleep(GRACE * 2)
        assert (work.cancelled, orphans.dropped) == (1, 1)
        assert vars(orphans)["_orphans"] == {}
        work.ended.set()
        assert await _caller(orphans, work) == 2

    clock.run(scene())


def test_the_grace_begins_anew_each_time() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        for _ in range(4):
            await left(_caller(orphans, work))
            await asyncio.sleep(GRACE * 0.6)
        last = _caller(orphans, work)
        work.ended.set()
        assert await last == 1

    clock.run(scene())


def test_two_that_are_both_connected_are_two() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        both = [_caller(orphans, work), _caller(orphans, work)]
        await asyncio.sleep(0.01)
        assert work.begun == 2
        for one in both:
            await left(one)
        again = [_caller(orphans, work) for _ in range(3)]
        work.ended.set()
        assert sorted(await asyncio.gather(*again)) == [1, 2, 3]

    clock.run(scene())


def test_other_keys_take_nothing_over() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(_caller(orphans, work))
        other = _caller(orphans, work, b"other")
        work.ended.set()
        assert await other == 2

    clock.run(scene())


def test_a_failed_orphan_is_not_taken_over() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        await left(_caller(orphans, work))
        work.error = ValueError()
        work.ended.set()
        await asyncio.sleep(0.02)
        work.error = None
        assert await _caller(orphans, work) == 2

    clock.run(scene())


def test_named_work_is_shared_while_connected_and_for_the_grace_after() -> None:
    async def scene() -> None:
        orphans, work = Orphans[int](GRACE), Work()
        both = [_caller(orphans, work, named=True), _caller(orphans, work, named=True)]
        await left(both[0])
        work.ended.set()
        assert await both[1] == 1
        assert await _caller(orphans, work, named=True) == 1
        await asyncio.sleep(GRACE * 2)
        assert await _caller(orphans, work, named=True) == 2

    clock.run(scene())


def test_a_lost_connection_cancels_the_edit_after_the_grace(loop: Loop, triton: FakeTriton) -> None:
    triton.behave = after(600)
    with serving(loop, triton, orphan_grace_seconds=0.1) as gateway:
        leave(gateway.url, lambda: triton.active == 1)
        assert until(lambda: triton.cancelled == 1)
        edits = gateway.app.state.edits
        assert until(lambda: (edits.callers.inside, edits.running.inside, edits.memory.held) == (0, 0, 0))


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "a"}])
def test_a_retry_that_takes_over_holds_nothing_of_its_own(
    loop: Loop, triton: FakeTriton, headers: dict[str, str]
) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton) as gateway, ThreadPoolExecutor() as pool:
        edits = gateway.app.state.edits
        leave(gateway.url, lambda: triton.active == 1, headers=headers)
        assert until(lambda: edits.callers.inside == 0)
        alone = edits.memory.held
        again = pool.submit(post, gateway, headers=headers)
        assert until(lambda: edits.orphans.taken_over == 1)
        assert until(lambda: edits.memory.held == alone)
        assert edits.callers.inside == 1
        released.set()
        assert again.result().status_code == 200
        assert len(triton.requests) == 1


@pytest.mark.parametrize(
    "second",
    [
        {"json": body(prompt="another")},
        {"json": body(seed=1)},
        {"headers": {"authorization": "Bearer other"}},
        {"headers": {"idempotency-key": "k"}},
    ],
)
def test_only_the_same_request_takes_over(loop: Loop, triton: FakeTriton, second: dict[str, Any]) -> None:
    triton.behave = after(600)
    with serving(loop, triton) as gateway:
        leave(gateway.url, lambda: triton.active == 1)
        triton.behave = at_once
        assert post(gateway, **second).status_code == 200
    assert len(triton.requests) == 2


def test_an_idempotency_key_joins(gateway: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(post, gateway, headers={"Idempotency-Key": "a"}) for _ in range(3)]
        assert until(lambda: gateway.app.state.edits.callers.inside == 3)
        released.set()
        answers = [one.result().json() for one in asked]
    assert len(triton.requests) == 1
    assert answers[0] == answers[1] == answers[2]
    assert failure(post(gateway, headers={"Idempotency-Key": "a b"})) == (422, "idempotency_key_invalid")


def test_a_retry_after_a_failure_is_a_new_edit(gateway: Gateway, triton: FakeTriton) -> None:
    triton.behave = failing(grpc.StatusCode.UNAVAILABLE, "gone")
    assert post(gateway).status_code == 503
    triton.behave = at_once
    assert post(gateway).status_code == 200


@pytest.mark.slow
def test_friendlis_stock_time_out_and_an_edit_of_8_seconds(gateway: Gateway, triton: FakeTriton) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    triton.behave = after(8)
    with SyncFriendli(token="t", x_friendli_team="") as friendli:
        answer = friendli.container.image.edit(image={"image": PNG64}, prompt="snow", server_url=gateway.url)
    assert base64.b64decode(answer.image) == JPEG
    assert len(triton.requests) == 1
    assert threading.active_count() < 50

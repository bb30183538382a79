"""Places that callers share: of what others leave one has three quarters, and who has fewest is next."""

import asyncio

import pytest

from gateway.shares import Queue, Shares
from tests.gateway import clock


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (16, 12)])
def test_of_what_others_leave_a_caller_has_three_quarters(places: int, most: int) -> None:
    shares, had = Shares(places), []
    for caller in "abc":
        while shares.has(caller):
            shares.enter(caller)
        had.append(shares.of(caller))
    assert had[0] == most
    assert sum(had) == places
    for _ in range(most):
        shares.leave("a")
    assert shares.has("d")
    assert shares.of("a") == 0


def test_two_callers_do_not_fill_all() -> None:
    shares = Shares(16)
    for caller in "ab" * 16:
        if shares.has(caller):
            shares.enter(caller)
    assert (shares.of("a"), shares.of("b")) == (7, 7)
    assert shares.has("c")


def test_who_waits_in_a_queue_waits_for_his_own() -> None:
    inside: list[str] = []

    async def stay(queue: Queue, caller: str) -> None:
        async with queue.entered(caller):
            inside.append(caller)
            await asyncio.sleep(10)
            inside.remove(caller)

    async def scene() -> None:
        queue = Queue(4)
        tasks = [asyncio.ensure_future(stay(queue, caller)) for caller in "aaaaabbb"]
        await asyncio.sleep(1)
        assert inside == ["a", "a", "a", "b"]
        tasks[-1].cancel()
        await asyncio.sleep(10)
        assert inside == ["b", "a", "a"]
        await asyncio.sleep(10)
        assert inside == []
        await asyncio.gather(*tasks, return_exceptions=True)
        assert vars(queue) == vars(queue) | {"_waiting": []}
        async with queue.entered("b"), queue.entered("b"), queue.entered("a"):
            pass

    clock.run(scene())


def test_who_has_fewest_is_next() -> None:
    async def scene() -> None:
        queue, order = Queue(2), list[str]()

        async def stay(caller: str, seconds: float) -> None:
            async with queue.entered(caller):
                order.append(caller)
                await asyncio.sleep(seconds)

        await asyncio.gather(*(stay(caller, 1 + place) for place, caller in enumerate("aaab")))
        assert order == ["a", "a", "b", "a"]

    clock.run(scene())


def test_who_leaves_as_he_is_let_in_takes_no_place() -> None:
    async def scene() -> None:
        queue = Queue(1)

        async def enter() -> None:
            async with queue.entered("b"):
                pass

        async with queue.entered("a"):
            waiting = asyncio.ensure_future(enter())
            await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        async with queue.entered("c"):
            pass

    clock.run(scene())

"""What is told to several, each at his own pace, and held only within the budget."""

import asyncio

from gateway.admission import Memory
from gateway.errors import PublicError
from gateway.feeds import Feed, Publish, Told
from gateway.work import failed


def passing(step: int, of: int = 0) -> Told:
    return Told("progress", b"%d" % step, of=of, latest=True)


PREVIEW, PICTURE = Told("partial_image", b"p" * 60), Told("completed", b"c" * 60, lasting=True)


async def _all(feed: Feed, memory: Memory, caller: str = "a") -> list[Told]:
    """What a caller is told who reads nothing before all has been told."""
    found = []
    with feed.listened(memory, caller) as listener:
        await feed.ended()
        while (told := await listener.next()) is not None:
            found.append(told)
            listener.read(told)
        assert memory.held == 0
    return found


async def _told(told: list[Told], memory: Memory) -> list[Told]:
    async def work(publish: Publish) -> None:
        await asyncio.sleep(0)
        for one in told:
            publish(one)

    return await _all(Feed(work, failed, None), memory)


def test_of_what_passes_the_latest_of_each_is_kept() -> None:
    told = [passing(1), passing(1, of=1), passing(2), PREVIEW, passing(3), passing(2, of=1)]
    memory = Memory(1000)
    assert asyncio.run(_told(told, memory)) == [passing(3), passing(2, of=1), PREVIEW]


def test_previews_are_left_out_where_there_is_no_memory_and_pictures_are_not() -> None:
    assert asyncio.run(_told([PREVIEW, PREVIEW, PICTURE, PICTURE, PREVIEW], Memory(100))) == [PREVIEW, PICTURE, PICTURE]


def test_who_is_gone_holds_nothing() -> None:
    async def scene() -> None:
        memory = Memory(1000)
        kept = memory.hold()

        async def work(publish: Publish) -> None:
            publish(PICTURE)
            publish(PREVIEW)

        feed = Feed(work, failed, kept)
        with feed.listened(memory, "a"):
            await feed.ended()
            assert memory.held == 180
        assert memory.held == 60, "what a later caller must have"
        assert await _later(feed, memory) == [PICTURE]
        feed.close()
        assert memory.held == 0

    asyncio.run(scene())


async def _later(feed: Feed, memory: Memory) -> list[Told]:
    found = []
    with feed.listened(memory, "b") as listener:
        while (told := await listener.next()) is not None:
            found.append(told)
    return found


def test_an_error_of_our_own_is_told_without_its_words() -> None:
    async def work(publish: Publish) -> None:
        publish(None)
        await asyncio.sleep(0)
        raise RuntimeError("sesame")

    async def scene() -> None:
        feed = Feed(work, failed, None)
        await feed.begun()
        ((told),) = await _all(feed, Memory(1000))
        assert (told.kind, told.code) == ("error", "internal_error")
        assert b"sesame" not in told.content
        assert isinstance(feed.problem, PublicError)

    asyncio.run(scene())

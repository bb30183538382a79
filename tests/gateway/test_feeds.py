"""What is told to several, each at his own pace, and held only within the budget."""

import asyncio
from contextlib import ExitStack

from starlette.types import Message

from gateway.admission import Memory
from gateway.errors import PublicError
from gateway.event_stream import EventStream
from gateway.feeds import Feed, Listener, Publish, Told
from gateway.work import failed
from tests.gateway import clock


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


def test_who_leaves_as_soon_as_he_is_told_of_a_failure_has_not_left_before() -> None:
    async def scene() -> str:
        listener, gone, scope = Listener(Memory(1000).hold()), asyncio.Event(), {"state": {}}
        listener.put(failed(PublicError("edit_failed")))
        listener.end()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if not message.get("more_body", True):
                gone.set()
                await asyncio.sleep(60)

        await EventStream(listener, ExitStack(), 10, lambda _: None)(scope, receive, send)
        return scope["state"]["reason"]

    assert clock.run(scene()) == "edit_failed"

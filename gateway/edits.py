"""`POST /v1/images/edits`, in Friendli's JSON and in OpenAI's form: admit, read, edit, answer.

`POST /v1/images/generations` is the same without pictures, in either client's JSON.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from fastapi import APIRouter, Depends, Request, Response

from gateway import body, form_call, generation_call, idempotency, json_call, priority, work
from gateway.admission import Gate, Held, Memory
from gateway.auth import Keys
from gateway.call import Call, Stream
from gateway.deadline import Deadline
from gateway.disconnects import until_disconnect
from gateway.errors import PublicError
from gateway.event_stream import EventStream
from gateway.feeds import Feed, Feeds
from gateway.loader import Loader
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.openapi import edit_operation, generation_operation
from gateway.orphans import Orphans
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.unread import Unread
from gateway.work import Job, Work

Parser: TypeAlias = Callable[[bytes, str], Call]
OF_EDITS: Final[Mapping[str, Parser]] = {
    "application/json": json_call.parse,
    "multipart/form-data": form_call.parse,
}
OF_GENERATIONS: Final[Mapping[str, Parser]] = {"application/json": generation_call.parse}
ARRIVING: Final = 4
"""How many times as many bodies may be arriving as edits may be in flight."""


class Edits:
    """All that an edit passes through, and how many are where."""

    def __init__(self, settings: Settings, models: Models, loader: Loader, threads: Threads, metrics: Metrics) -> None:
        self._settings, self._models = settings, models
        self._threads, self._metrics = threads, metrics
        self._bounds = body.Bounds(
            max_bytes=settings.max_body_bytes,
            seconds=settings.body_timeout_seconds,
            bytes_per_second=settings.body_bytes_per_second,
            pause_seconds=settings.body_pause_seconds,
        )
        # Who is slow to send a body takes no place from others; so there are more of these, and no caller has them all.
        self.arriving = Gate(ARRIVING * settings.max_edits, each=settings.max_edits)
        self.callers = Gate(settings.max_edits, each=settings.max_edits_per_key)
        self.running = Gate(settings.max_edits, each=settings.max_edits_per_key)
        self.memory = Memory(settings.max_held_bytes, each=settings.max_caller_bytes)
        self.orphans = Orphans[bytes](settings.orphan_grace_seconds)
        self.streams = Feeds(settings.orphan_grace_seconds)
        self._work = Work(self.running, models, loader, threads, metrics)
        self._show(metrics)

    def _show(self, metrics: Metrics) -> None:
        """Have `metrics` tell how much is where."""
        orphans, streams = self.orphans, self.streams
        metrics.gauge("arriving", "Requests for an edit whose body is arriving", lambda: self.arriving.inside)
        metrics.gauge("callers", "Requests for an edit that are connected", lambda: self.callers.inside)
        metrics.gauge("edits_in_flight", "Edits under way, orphans included", lambda: self.running.inside)
        metrics.gauge("held_bytes", "Bytes of bodies, images and unread answers in memory", lambda: self.memory.held)
        metrics.gauge(
            "orphans_taken_over",
            "Orphaned edits whose caller came back",
            lambda: orphans.taken_over + streams.taken_over,
        )
        metrics.gauge(
            "orphans_dropped", "Orphaned edits that were cancelled", lambda: orphans.dropped + streams.dropped
        )
        metrics.gauge("streams_in_flight", "Streams under way, those without a caller included", lambda: streams.inside)

    def close(self) -> None:
        """Take no new requests; those whose body is arriving are served."""
        self.arriving.closed = True

    @property
    def closed(self) -> bool:
        """Whether no new requests are taken."""
        return self.arriving.closed

    @property
    def idle(self) -> bool:
        """Whether there is nothing to wait for."""
        return not (self.arriving.inside or self.callers.inside or self.running.inside or self.memory.awaited)

    async def serve(self, request: Request, caller: str, parsers: Mapping[str, Parser]) -> Response:
        """The answer to one request, whose body `parsers` read by its content type. `caller`: who asks.

        Raises `PublicError`, `CallerGoneError`.
        """
        parser, low_priority = parser_of(request, parsers), priority.is_low(request)
        named = bool(idempotency.idempotency_key(request))
        with self.memory.hold(caller) as held, ExitStack() as place:
            call, deadline = await self._called(request, parser, caller, held, place)
            self._check_number(call.edit.n)
            call = replace(call, edit=replace(call.edit, low_priority=low_priority))
            job = Job(call, caller, deadline, request.state.request_id)
            key = idempotency.fingerprint(request, call.digest)
            if call.stream is not None:
                feed = self._fed(job, call.stream, held, key if named else None, place)
                listener = place.enter_context(feed.listened(self.memory, caller))
                await until_disconnect(request.receive, feed.begun())
                return EventStream(listener, place.pop_all(), self._settings.ping_seconds, self._metrics.event)
            work = self.orphans.run(
                key,
                lambda: self._work.answered(job, held.moved()),
                joined=lambda: _let_go(call, held),
                named=named,
                kept=partial(self._kept, caller),
            )
            return Unread(await until_disconnect(request.receive, work), self.memory, caller)

    def _fed(self, job: Job, stream: Stream, held: Held, key: bytes | None, place: ExitStack) -> Feed:
        """What is told of the job while `place` is held; of a `key` that is known, the job that bears it."""

        def begun() -> Feed:
            kept = self.memory.hold(job.caller, partial(self.streams.drop, key)) if key else None
            return Feed(partial(self._work.streamed, job, stream, held.moved()), work.failed, kept)

        return place.enter_context(self.streams.joined(key, begun, lambda: _let_go(job.call, held)))

    def _kept(self, caller: str, answer: bytes, drop: Callable[[], None]) -> Callable[[], None]:
        """Hold an answer for as long as it is kept for who may come again; what is returned lets go of it."""
        held = self.memory.hold(caller, drop)
        held.keep(len(answer))
        return partial(held.keep, 0)

    def _check_number(self, n: int) -> None:
        """Raises `PublicError` for more pictures than there can ever be of one caller at once."""
        if n > self.running.most:
            message = f"n: may be at most {self.running.most} here."
            raise PublicError("parameter_invalid", param="n", message=message)

    async def close_all(self) -> None:
        """End what goes on without a caller."""
        await self.orphans.close()
        await self.streams.close()

    async def explained(self, error: PublicError) -> PublicError:
        """`error`, with the names that would have been known if it is about one that is not and Triton tells them."""
        if error.code != "unknown_model":
            return error
        try:
            known = ", ".join(await self._models.known())
        except PublicError:
            return error
        return PublicError(error.code, param="model", message=f"{error.message} There are: {known}.")

    async def _called(
        self, request: Request, parser: Parser, caller: str, held: Held, place: ExitStack
    ) -> tuple[Call, Deadline]:
        """What is asked for, and until when; the time runs from the body's end, and so does the `place` that is taken.

        Raises `PublicError`.
        """
        with self.arriving.entered(caller), self._metrics.stage("read"):
            self.callers.check(caller)
            content = await body.read(request, held, self._bounds)
        place.enter_context(self.callers.entered(caller))
        deadline = Deadline(self._settings.edit_timeout_seconds)
        with self._metrics.stage("parse"):
            async with deadline.kept():
                return await self._threads.run(parser, content, request.headers["content-type"]), deadline


def _let_go(call: Call, held: Held) -> None:
    """Free the images of a call that another's edit answers."""
    call.sources.clear()
    call.masks.clear()
    held.resize(0)


def parser_of(request: Request, parsers: Mapping[str, Parser]) -> Parser:
    """What reads a body of the request's content type. Raises `PublicError("unsupported_media_type")`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in parsers:
        raise PublicError("unsupported_media_type", message=f"Send {' or '.join(parsers)}.")
    return parsers[content_type]


def router(edits: Edits, keys: Keys) -> APIRouter:
    """The routes of edits and of pictures from text alone, for those that `keys` let in."""
    routes = APIRouter(dependencies=[Depends(keys.check)])

    async def served(request: Request, parsers: Mapping[str, Parser]) -> Response:
        try:
            return await edits.serve(request, keys.caller(request), parsers)
        except PublicError as error:
            raise await edits.explained(error) from None

    @routes.post("/v1/images/edits", **edit_operation())
    async def edit(request: Request) -> Response:
        return await served(request, OF_EDITS)

    @routes.post("/v1/images/generations", **generation_operation())
    async def generate(request: Request) -> Response:
        return await served(request, OF_GENERATIONS)

    return routes

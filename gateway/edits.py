"""`POST /v1/images/edits`, in Friendli's JSON and in OpenAI's form: admit, read, edit, answer.

`POST /v1/images/generations` is the same without pictures, in either client's JSON.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, TypeAlias

import structlog
from fastapi import APIRouter, Depends, Request, Response

from gateway import body, failures, form_call, generation_call, idempotency, json_call
from gateway.adapters import BASE_MODEL
from gateway.admission import Gate, Held, Memory
from gateway.auth import Keys
from gateway.call import Call
from gateway.deadline import Deadline
from gateway.disconnects import until_disconnect
from gateway.errors import PublicError
from gateway.loader import Loader
from gateway.metrics import Metrics
from gateway.openapi import edit_operation, generation_operation
from gateway.orphans import Orphans
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.triton import Triton
from gateway.unread import Unread

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

    def __init__(self, settings: Settings, triton: Triton, loader: Loader, threads: Threads, metrics: Metrics) -> None:
        self._settings, self._triton, self._loader = settings, triton, loader
        self._threads, self._metrics = threads, metrics
        self._log = structlog.get_logger()
        self._bounds = body.Bounds(
            max_bytes=settings.max_body_bytes,
            seconds=settings.body_timeout_seconds,
            bytes_per_second=settings.body_bytes_per_second,
            pause_seconds=settings.body_pause_seconds,
        )
        # Who is slow to send a body takes no place from others; so there are more of these, and no caller has them all.
        self.arriving = Gate(ARRIVING * settings.max_edits, each=settings.max_edits)
        self.callers = Gate(settings.max_edits)
        self.running = Gate(settings.max_edits)
        self.memory = Memory(settings.max_held_bytes, each=settings.max_caller_bytes)
        self.orphans = Orphans[bytes](settings.orphan_grace_seconds)

        metrics.gauge("arriving", "Requests for an edit whose body is arriving", lambda: self.arriving.inside)
        metrics.gauge("callers", "Requests for an edit that are connected", lambda: self.callers.inside)
        metrics.gauge("edits_in_flight", "Edits under way, orphans included", lambda: self.running.inside)
        metrics.gauge("held_bytes", "Bytes of bodies, images and unread answers in memory", lambda: self.memory.held)
        metrics.gauge("orphans_taken_over", "Orphaned edits whose caller came back", lambda: self.orphans.taken_over)
        metrics.gauge("orphans_dropped", "Orphaned edits that were cancelled", lambda: self.orphans.dropped)

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
        return not (self.arriving.inside or self.callers.inside or self.running.inside or self.memory.held)

    async def serve(self, request: Request, caller: str, parsers: Mapping[str, Parser]) -> Response:
        """The answer to one request, whose body `parsers` read by its content type. `caller`: who asks.

        Raises `PublicError`, `CallerGoneError`.
        """
        parser = parser_of(request, parsers)
        with self.memory.hold(caller) as held, ExitStack() as place:
            call, deadline = await self._called(request, parser, caller, held, place)
            key, named = idempotency.fingerprint(request, call.digest), bool(idempotency.idempotency_key(request))
            request_id = request.state.request_id
            work = self.orphans.run(
                key,
                lambda: self._edited(call, held.moved(), deadline, request_id),
                joined=lambda: _let_go(call, held),
                named=named,
            )
            return Unread(await until_disconnect(request.receive, work), self.memory, caller)

    async def explained(self, error: PublicError) -> PublicError:
        """`error`, with the names that would have been known if it is about one that is not and Triton tells them."""
        if error.code != "unknown_model":
            return error
        try:
            known = ", ".join([BASE_MODEL, *(await self._triton.offer()).adapters])
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
            self.callers.check()
            content = await body.read(request, held, self._bounds)
        place.enter_context(self.callers.entered())
        deadline = Deadline(self._settings.edit_timeout_seconds)
        with self._metrics.stage("parse"):
            async with deadline.kept():
                return await self._threads.run(parser, content, request.headers["content-type"]), deadline

    async def _edited(self, call: Call, held: Held, deadline: Deadline, request_id: str) -> bytes:
        """The answer's JSON, within the deadline. Goes on without its caller, until it is cancelled."""
        with held, self.running.entered():
            with self._metrics.stage("load"):
                async with deadline.kept():
                    edit = [call.edit.of(await self._loader.load(call.sources, held))]
            with self._metrics.stage("edit"), self._failure_logged(request_id, call.edit.prompt):
                # Popped, so that its images, which are large, do not stay here for as long as the edit takes.
                picture = await self._triton.edit(edit.pop(), deadline=deadline, request_id=request_id)
            with self._metrics.stage("encode"):
                async with deadline.kept():
                    return await self._threads.run(call.answer, picture)

    @contextmanager
    def _failure_logged(self, request_id: str, prompt: str) -> Iterator[None]:
        """Say in the log why an edit failed, whether or not anyone still waits for it."""
        try:
            yield
        except PublicError as error:
            if error.cause:
                self._log.error(error.code, request_id=request_id, cause=failures.loggable(error.cause, prompt))
            raise


def _let_go(call: Call, held: Held) -> None:
    """Free the images of a call that another's edit answers."""
    call.sources.clear()
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

"""What is done for one call: its images are loaded, Triton edits, and its answer or its events are encoded.

Knows nothing of HTTP. All of it goes on without its caller, until it is cancelled.
"""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import structlog

from gateway import events, failures, sides
from gateway.admission import Gate, Held
from gateway.call import Call, Stream
from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.feeds import Publish, Told
from gateway.images import IMAGE
from gateway.loader import Loader
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.pictures import Begun, Event, Finished, Progress
from gateway.tensors import Edit
from gateway.threads import Threads


@dataclass(frozen=True)
class Job:
    """A call, who asks, until when, and the request's id."""

    call: Call
    caller: str
    deadline: Deadline
    request_id: str


class Work:
    """All edits under way, counted by `running`, each of a call's `n` as one."""

    def __init__(self, running: Gate, models: Models, loader: Loader, threads: Threads, metrics: Metrics) -> None:
        self._running, self._models, self._loader = running, models, loader
        self._threads, self._metrics = threads, metrics
        self._log = structlog.get_logger()

    async def answered(self, job: Job, held: Held) -> bytes:
        """The answer's JSON, within the deadline. Raises `PublicError`."""
        with held, self._running.entered(job.caller, job.call.edit.n):
            edit = await self._loaded(job, held)
            with self._metrics.stage("edit"), self._failure_logged(job):
                # Popped, so that its images, which are large, do not stay here for as long as the edit takes.
                pictures = await self._models.edit(edit.pop(), deadline=job.deadline, request_id=job.request_id)
            with self._metrics.stage("encode"):
                async with job.deadline.kept():
                    return await self._threads.run(job.call.answer, pictures)

    async def streamed(self, job: Job, stream: Stream, held: Held, publish: Publish) -> None:
        """Publish what becomes of the edit as it does, within the deadline. Raises `PublicError`."""
        with held, self._running.entered(job.caller, job.call.edit.n):
            edit = await self._loaded(job, held)
            with self._metrics.stage("edit"), self._failure_logged(job):
                told = self._models.stream(edit.pop(), stream.watch, deadline=job.deadline, request_id=job.request_id)
                async with aclosing(told):
                    async for event in told:
                        async with job.deadline.kept():
                            publish(await self._told(stream, event))

    async def _told(self, stream: Stream, event: Event) -> Told | None:
        """`event` as it is sent; none of the beginning."""
        if isinstance(event, Begun):
            return None
        kind, content = await self._threads.run(stream.told, event)
        latest, lasting = isinstance(event, Progress), isinstance(event, Finished)
        return Told(kind, content, of=event.index, latest=latest, lasting=lasting)

    async def _loaded(self, job: Job, held: Held) -> list[Edit]:
        """The edit with its images, in a list to be emptied."""
        with self._metrics.stage("load"):
            async with job.deadline.kept():
                call = job.call
                loaded = self._loader.load(call.sources, call.masks, held, caller=job.caller, named=call.images)
                edit = call.edit.of(*await loaded)
                await self._require_fitting(edit, call.output_format)
                return [edit]

    async def _require_fitting(self, edit: Edit, output_format: str) -> None:
        """Raises `PublicError` where the answer's size follows from the picture's, and such a file cannot hold it."""
        if not edit.images or any(edit.size) or output_format not in sides.MOST:
            return
        own = await self._threads.run(sides.too_long, edit.images[0], output_format)
        most = await self._models.max_pixels(edit) if own else None
        if own and most:
            sides.check(sides.within(own, most), output_format)

    @contextmanager
    def _failure_logged(self, job: Job) -> Iterator[None]:
        """Say in the log why an edit failed, whether or not anyone still waits for it.

        An error that is about its images names the field that they are of.
        """
        try:
            yield
        except PublicError as error:
            if error.param == IMAGE:
                error.param = job.call.images
            if error.cause:
                said = f"{job.call.edit.prompt} {job.call.edit.negative_prompt}"
                cause = failures.loggable(error.cause, said)
                self._log.error(error.code, request_id=job.request_id, cause=cause)
            raise


def failed(problem: PublicError) -> Told:
    """The event that a stream ends with when it fails."""
    return Told(events.ERROR, events.error(problem), lasting=True, code=problem.code)

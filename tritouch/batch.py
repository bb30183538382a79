"""Runs the edits of one command, several at once, from pictures to files. One that fails stops no other."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritouch.answer import SEEDS, Picture, Progress
from tritouch.errors import TritouchError, UsageError
from tritouch.files import STANDARD, Job, refuse_unwritable, write
from tritouch.flags import in_flags
from tritouch.form import content_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritouch.client import AsyncClient
    from tritouch.form import Options
    from tritouch.screen import Screen


@dataclass(frozen=True)
class Order:
    """What is to be done with each of the pictures."""

    prompt: str
    options: Options
    n: int = 1
    stream: bool = False
    overwrite: bool = False


@dataclass
class Tally:
    """What has become of the jobs; `failures`: exit codes by the job's place."""

    edited: int = 0
    skipped: int = 0
    failures: dict[int, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or that of the first job that failed."""
        return self.failures[min(self.failures)] if self.failures else 0

    def __str__(self) -> str:
        parts = [f"{self.edited} edited"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped, for they are there already (--force edits them again)")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return ", ".join(parts)


class Batch:
    """The edits of one command. `counts`: whether the screen's bar counts jobs, and not one edit's steps.

    `answer`: the picture for standard output, if one was made. What may wait for another process, a pipe that is read
    or written, does so outside of asyncio's loop, in which the first Ctrl-C would wait for it, too.
    """

    def __init__(self, client: AsyncClient, order: Order, screen: Screen, *, counts: bool) -> None:
        self._client, self._order, self._screen, self._counts = client, order, screen, counts
        self.tally = Tally()
        self.answer: bytes | None = None
        self._read: dict[str, bytes] = {}

    def read_pipes(self, jobs: Sequence[Job]) -> None:
        """Read standard input, and whatever else is no file on a disk. One that cannot be read fails in its turn."""
        for one in (one for job in jobs for one in job.inputs):
            if one not in self._read and (one == STANDARD or not Path(one).is_file()):
                with suppress(TritouchError):
                    self._read[one] = _content_of(one)

    async def run(self, jobs: Sequence[Job], at_once: int) -> None:
        """Run all of them, `at_once` at a time."""
        places = iter(enumerate(jobs))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(jobs))):
                group.create_task(self._work(places))

    async def _work(self, places: Iterator[tuple[int, Job]]) -> None:
        for place, job in places:
            try:
                await self._one(job)
            except (TritouchError, OSError) as problem:
                self._failed(place, job, problem)
            if self._counts:
                self._screen.advance()

    async def _one(self, job: Job) -> None:
        """Raises `TritouchError`, or OSError."""
        parts = [job] if self._order.overwrite else job.missing()
        if not parts:
            self.tally.skipped += 1
            self._screen.event(_record(job, "skipped"))
            return
        for part in parts:
            await self._part(part)
        self.tally.edited += 1

    async def _part(self, job: Job) -> None:
        """One request. Raises `TritouchError`, or OSError."""
        refuse_unwritable(job.outputs)
        began = time.monotonic()
        pictures = await self._edited(job)
        self._deliver(job, pictures)
        seconds = time.monotonic() - began
        for number, picture in enumerate(pictures):
            output = str(job.outputs[number]) if job.outputs else STANDARD
            self._screen.result(_sentence(output, picture, seconds), _edited(job, output, picture, seconds))

    def _failed(self, place: int, job: Job, problem: TritouchError | OSError) -> None:
        if not isinstance(problem, TritouchError):
            problem = TritouchError(problem.strerror or str(problem))
        self.tally.failures[place] = problem.exit_code
        message = in_flags(str(problem).removeprefix(f"{job.name}: "))  # which is going to be told
        error = {"message": message, "code": problem.code, "status": problem.status}
        self._screen.event(_record(job, "failed", error=error))
        self._screen.note(f"tritouch: {job.name}: {message}")

    async def _edited(self, job: Job) -> list[Picture]:
        order, n = self._order, _pictures(job)
        images = [self._read[one] if one in self._read else _content_of(one) for one in job.inputs]
        options: Options = {**order.options, "format": job.format, "seed": _seed(order.options.get("seed"), job.first)}
        if not order.stream:
            return await self._client.edits(images, order.prompt, n, **options)
        pictures: dict[int, Picture] = {}
        made: dict[int, int] = {}
        async for event in self._client.stream(images, order.prompt, n=n, **options):
            if isinstance(event, Picture):
                pictures[event.index] = event
            elif isinstance(event, Progress):
                self._screen.event(_record(job, "progress", index=event.index, step=event.step, steps=event.steps))
                made[event.index] = event.step
                if not self._counts:
                    self._screen.advance(sum(made.values()), n * event.steps)
        return [pictures[index] for index in sorted(pictures)]

    def _deliver(self, job: Job, pictures: list[Picture]) -> None:
        wanted = _pictures(job)
        if len(pictures) != wanted:
            raise TritouchError(f"the server made {len(pictures)} pictures of the {wanted} that were asked for")
        if job.outputs:
            write(job.outputs, [picture.content for picture in pictures], overwrite=self._order.overwrite)
        else:
            self.answer = pictures[0].content


def _pictures(job: Job) -> int:
    return len(job.outputs) or 1


def _seed(given: int | None, place: int) -> int | None:
    """That of the picture in this place. What is no seed stays as it is: that is the server's to tell."""
    return (given + place) % SEEDS if given is not None and 0 <= given < SEEDS else given


def _edited(job: Job, output: str, picture: Picture, seconds: float) -> dict[str, Any]:
    size = {"width": picture.width, "height": picture.height}
    cached = {"cache": picture.cache, "foretold_steps": picture.foretold_steps} if picture.cache else {}
    return _record(job, "edited", output=output, seed=picture.seed, **size, **cached, seconds=round(seconds, 3))


def _sentence(output: str, picture: Picture, seconds: float) -> str:
    foretold = f"{picture.foretold_steps} steps foretold, " if picture.foretold_steps else ""
    return f"{output}: {picture.width} x {picture.height}, seed {picture.seed}, {foretold}{seconds:.1f} s"


def _record(job: Job, status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "inputs": list(job.inputs), **more}


def _content_of(one: str) -> bytes:
    """Raises `UsageError`: it cannot be read."""
    if one != STANDARD:
        return content_of(one)
    try:
        return sys.stdin.buffer.read()
    except (OSError, AttributeError):  # a closed one is None
        raise UsageError("standard input cannot be read") from None

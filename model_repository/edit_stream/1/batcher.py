"""In-flight batching: edits join and leave the batch at every step of their denoising loops.

In a turn a thread takes edits that may share a call, makes ONE denoiser call for all their rows, each at its own
timestep, and moves every edit a step on: one that arrives behind a long one joins at the next step. While the engine
computes one thread's call, the other steps other edits and has its next call ready. Workers do what is before the loop
and after. A caller's request is one job or several, which are conditioned together and otherwise make their way alone.

Knows plans, jobs, rows and one denoiser callable; nothing of Triton, of models, or of what tensors mean.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from numpy.typing import NDArray

from choosing import Turns
from disconnect_watcher import DisconnectWatcher
from families.errors import EDIT_TOO_LARGE, InvalidEditError
from families.interface import Tensors
from jobs import OUTCOMES, Intake, Job, Metrics, QueueFullError, Request, StoppingError
from rows import Denoiser
from side_by_side import SideBySide

log = logging.getLogger(__name__)


class Batcher:
    """Denoises jobs with at most `max_jobs` jobs in flight, and at most `max_rows` rows and `max_tokens` tokens a call.

    Tokens of a call are rows x tokens of a row, summed over its jobs. `calls` of the denoiser are under way at once.
    `preparers` run what comes before the loop and `answerers` what comes after it, so that no answer waits behind edits
    that have not begun. `padded`: inputs whose second axis may differ between jobs of a call. `side_by_side` steps the
    edits of a call. `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        max_rows: int,
        max_tokens: int,
        max_jobs: int,
        metrics: Metrics,
        intake: Intake,
        preparers: Executor,
        answerers: Executor,
        calls: int = 1,
        padded: Collection[str] = (),
        side_by_side: SideBySide | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._denoiser, self._intake, self._metrics, self._clock = denoiser, intake, metrics, clock
        self._max_jobs, self._max_rows, self._max_tokens, self._padded = max_jobs, max_rows, max_tokens, padded
        self._preparers, self._answerers, self._side_by_side = preparers, answerers, side_by_side or SideBySide()
        self._turns = Turns(max_rows, max_tokens)
        self._in_flight, self._stopping = set[Job](), False
        self._waiting: dict[Request, Sequence[Job]] = {}  # those that no preparer has taken up, oldest first
        self._ready: list[Job] = []  # those with a plan, oldest first
        self._changed = threading.Condition()  # guards the collections of jobs, and the metrics
        self._asking = threading.Lock()  # held while a caller is asked for: never after its job has moved on
        self._choosing = threading.Lock()  # held while jobs are dropped or chosen: before the two above
        self._threads = [threading.Thread(target=self._run, name="batcher", daemon=True) for _ in range(calls)]
        self._watcher = DisconnectWatcher(self.ask, metrics.publish)

    def start(self) -> None:
        """Starts the batcher's threads."""
        for thread in self._threads:
            thread.start()
        self._watcher.start()

    def submit(self, request: Request, jobs: Sequence[Job]) -> None:
        """Takes all jobs of a request in, from any thread.

        Raises QueueFullError, StoppingError, InvalidEditError, and then never calls it back.
        """
        with self._changed:
            try:
                self._require_places(len(jobs))
            except (QueueFullError, StoppingError, InvalidEditError) as error:
                self.turned_away(error, len(jobs))
                raise
            self._in_flight.update(jobs)
            self._waiting[request] = jobs
            for job in jobs:
                job.since = self._clock()
            self._report()
        self._watcher.wake()
        self._preparers.submit(self._prepare_next)

    def turned_away(self, error: Exception, edits: int = 1) -> None:
        """Counts edits that are not taken in, those that never became a request too; from any thread."""
        with self._changed:
            self._metrics.left(OUTCOMES.get(type(error), "failed"), edits)
        self._watcher.wake()

    def _require_places(self, count: int) -> None:
        if self._stopping:
            raise StoppingError("the server is stopping")
        if count > self._max_jobs:
            raise InvalidEditError(EDIT_TOO_LARGE, f"{count} pictures are asked for, and {self._max_jobs} can be made")
        if len(self._in_flight) + count > self._max_jobs:
            raise QueueFullError(f"{len(self._in_flight)} edits are in flight")
        self._intake.enter()

    def stop(self) -> None:
        """Fails every job left and ends the threads, after the denoiser calls under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        left = tuple(self._ready)
        for job in left:
            self._leave(job, StoppingError("the server is stopping"))
        self._forget(left)
        self._preparers.shutdown()
        self._answerers.shutdown()
        self._watcher.stop()

    def ask(self) -> bool:
        """Notes which callers are gone. False when there are no edits at all.

        Their jobs leave before the next call, those that no preparer has taken up at once.
        """
        for request in tuple(self._waiting):
            self._leave_if_unwanted(request)
        for request in {job.request: None for job in tuple(self._ready)}:
            with self._asking:
                if any(job.request is request for job in self._ready) and not (request.outcome or request.gone):
                    request.gone = request.cancelled()
        return bool(self._in_flight)

    def _leave_if_unwanted(self, request: Request) -> None:
        with self._asking:
            error = request.unwanted(self._clock(), request.cancelled()) if request in self._waiting else None
            if error is None:
                return
            with self._changed:
                jobs = self._waiting.pop(request)
        self._answerers.submit(self._fail_all, jobs, error)

    def _prepare_next(self) -> None:
        """Prepares a request that waits; there may be none, when some have left meanwhile."""
        with self._asking, self._changed:
            request = self._turns.prepared_next(self._waiting)
            jobs = self._waiting.pop(request) if request else ()
        if request:
            self._prepare(request, jobs)

    def _prepare(self, request: Request, jobs: Sequence[Job]) -> None:
        try:
            request.require_wanted(self._clock(), request.cancelled())
            for job, plan in zip(jobs, request.prepare(), strict=True):
                job.planned(plan, self._padded)
                job.require_fitting(self._max_rows, self._max_tokens)
            del request.prepare  # what it holds may be large, and is needed no more
            request.conditioned(jobs[0].plan)
        except Exception as error:  # noqa: BLE001 - whatever preparing raises is this request's own
            self._fail_all(jobs, error)
            return
        with self._changed:
            if not self._stopping:
                for job in jobs:
                    self._mark(job, "condition")
                self._ready.extend(jobs)
                self._changed.notify()
                return
        self._fail_all(jobs, StoppingError("the server is stopping"))

    def _run(self) -> None:
        """Takes turns until stopping; sleeps while there is none to take."""
        while not self._stopping:
            if not self.turn():
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or self._turns.possible(self._ready))

    def turn(self) -> bool:
        """One turn: drop who is gone, choose, call once, step. Whether there was a call. Never raises what fails."""
        began, jobs = self._clock(), self._chosen()
        if jobs:
            self._step(jobs)
            self._forget(jobs)
            with self._changed:
                self._turns.done(jobs)
                self._metrics.turn(began, self._clock())
        return bool(jobs)

    def _chosen(self) -> tuple[Job, ...]:
        """The jobs of a call; another thread is woken where there are more to choose."""
        with self._choosing:
            left = []
            for job in self._turns.free(tuple(self._ready)):
                if error := job.request.unwanted(self._clock(), job.request.gone):
                    self._leave(job, error)
                    left.append(job)
            self._forget(left)
            with self._changed:
                jobs = self._turns.choose(self._ready)
                if len(jobs) < len(self._ready) and self._turns.possible(self._ready):
                    self._changed.notify()
                return jobs

    def _step(self, jobs: tuple[Job, ...]) -> None:
        """One denoiser call and one step of each job. A failed call fails these jobs alone."""
        began, new = self._clock(), [job for job in jobs if not job.begun]
        with self._changed:
            for job in new:
                job.begun = True
                self._mark(job, "queue")
            if new:
                self._report()
        try:
            predictions = self._denoiser([job.part() for job in jobs])
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            for job in jobs:
                self._leave(job, error)
            return
        with self._changed:
            self._metrics.call(sum(job.rows for job in jobs), len(jobs), began, self._clock())
        idle = all(one.low for one in (*self._waiting, *(job.request for job in tuple(self._ready) if not job.begun)))
        steps = [partial(self._advance, *one, idle) for one in zip(jobs, predictions, strict=True)]
        self._side_by_side(steps, min(prediction.nbytes for prediction in predictions))

    def _advance(self, job: Job, prediction: NDArray[Any], idle: bool) -> None:
        """`idle`: no edit waits for a place but in the background, so that there is time for previews."""
        try:
            called = False
            while not called:
                called = job.advance(prediction)
                if job.reports is not None:
                    job.reports.note(job.steps, job.plan.steps, job.pending.preview if idle else None)
        except StopIteration as finished:
            self._leave(job, done=finished.value)
        except Exception as error:  # noqa: BLE001 - one job's fault stays its own
            self._leave(job, error)

    def _leave(self, job: Job, error: Exception | None = None, done: Any = None) -> None:
        """Takes the job out of the batch; an answerer answers it."""
        with self._asking, self._changed:
            self._ready.remove(job)
            if error is None:
                self._mark(job, "denoise")
        self._answerers.submit(partial(self._finish, job, done) if error is None else partial(self._fail, job, error))

    def _forget(self, jobs: Sequence[Job]) -> None:
        """For those groups of which none is left. All jobs of a call are a step on: its memory may be of any group."""
        for group in {job.group for job in jobs} - {job.group for job in tuple(self._ready)}:
            self._denoiser.forget(group)

    def _finish(self, job: Job, done: Tensors) -> None:
        try:
            job.request.require_wanted(self._clock(), job.request.cancelled())
            job.finish(done, job.foretold)
        except Exception as error:  # noqa: BLE001 - whatever finishing raises is this job's own
            self._fail(job, error)
        else:
            with self._changed:
                self._mark(job, "render")
            self._end(job, "done")

    def _fail_all(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        """Ends the job, and with it the request: the first of its jobs to fail tells why, the others just leave."""
        request = job.request
        with self._asking:
            first = not request.outcome
            request.outcome = request.outcome or OUTCOMES.get(type(error), "failed")
        if first:
            try:
                request.failed(error)
            except Exception:
                log.exception("an answer could not be delivered")
        self._end(job, request.outcome)

    def _end(self, job: Job, outcome: str) -> None:
        with self._changed:
            self._in_flight.remove(job)
            if not self._in_flight:
                self._intake.leave()
            self._metrics.left(outcome)
            self._report()
        self._watcher.wake()

    def _mark(self, job: Job, stage: str) -> None:
        """The job has come to the end of a stage."""
        now = self._clock()
        self._metrics.stage(stage, now - job.since)
        job.since = now

    def _report(self) -> None:
        active = sum(job.begun for job in self._in_flight)
        self._metrics.in_flight(active, len(self._in_flight) - active)

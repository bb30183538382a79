"""Spans of edits: what each waited for and was computed by, from its arrival to its last picture.

    edit                        a request, until it is answered
      condition                 with a span for each model that is called: text_encoder, reference
      picture                   each of its pictures
        queue                   from its plan to its first step
        denoise
          step                  each denoiser call, with the rows and the edits that shared it
        preview, render

The batcher's thread only notes the times of its calls: a picture's spans are made once it is done. Nothing in them was
written by a caller.
"""

import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from numpy.typing import NDArray
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from calls import Adapters, EditCall
from families.errors import InvalidEditError
from families.interface import Plan, Tensors
from families.settings import Settings
from jobs import OUTCOMES, CancelledError, Job, Request
from rows import Denoiser, Part

Submit = Callable[[Request, Sequence[Job]], None]
"""The batcher's."""
SERVICE = "tritouch-batcher"
FLUSH_SECONDS = 2.0
"""How long the end waits for a collector that does not answer."""

CONTEXT = TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


class Spans:
    """Implements `tracing.Tracing`. Where spans go, and how many, the `OTEL_` variables say, which the SDK reads."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tritouch.batcher")
        self._pictures: weakref.WeakValueDictionary[int, Picture] = weakref.WeakValueDictionary()  # by the job's number
        self.call = functools.partial(TracedCall, self._tracer)

    def denoiser(self, denoiser: Denoiser) -> Denoiser:
        """As Tracing says."""
        return TracedDenoiser(denoiser, self._pictures)

    def submit(self, submit: Submit, parent: Mapping[str, str], request: Request, jobs: Sequence[Job]) -> None:
        """As Tracing says; what is not to be kept costs no more than to learn that."""
        attributes = {"tritouch.pictures": len(jobs), "tritouch.low_priority": request.low}
        span = self._tracer.start_span("edit", CONTEXT.extract(parent), attributes=attributes)
        if not span.is_recording():
            submit(request, jobs)
            return
        edit = Edit(self._tracer, span, len(jobs))
        edit.follow(request)
        for job, picture in zip(jobs, edit.pictures, strict=True):
            picture.follow(job)
            self._pictures[job.number] = picture
        try:
            submit(request, jobs)
        except Exception as error:
            edit.end(error)
            raise

    def close(self) -> None:
        """As Tracing says."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)


class TracedDenoiser:
    """A Denoiser that notes the times of its calls, for each edit that shares them."""

    def __init__(self, denoiser: Denoiser, pictures: Mapping[int, "Picture"]) -> None:
        self._denoiser, self._pictures = denoiser, pictures

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """As Denoiser says."""
        began = time.time_ns()
        try:
            return self._denoiser(parts)
        finally:
            step = Step(began, time.time_ns(), sum(part.rows for part in parts), len(parts))
            for part in parts:
                picture = self._pictures.get(part.edit)
                if picture is not None:
                    picture.steps.append(step)

    def forget(self, group: Hashable) -> None:
        """As Denoiser says."""
        self._denoiser.forget(group)


class TracedCall(EditCall):
    """The calls of an edit, each a part of the span under which this was made; of none where there is none."""

    def __init__(self, tracer: Tracer, settings: Settings, adapters: Adapters, workers: ThreadPoolExecutor) -> None:
        super().__init__(settings, adapters, workers)
        self._tracer, self._above, self._kept = tracer, get_current(), trace.get_current_span().is_recording()

    def __call__(self, model: str, inputs: Tensors) -> Tensors:
        """As EditCall says."""
        if not self._kept:
            return super().__call__(model, inputs)
        with spanned(self._tracer, model, self._above):
            return super().__call__(model, inputs)


class Step(NamedTuple):
    """One denoiser call: nanoseconds since 1970, its rows, and the edits that shared it."""

    began: int
    ended: int
    rows: int
    edits: int


class Edit:
    """What becomes of one request, and its `pictures`."""

    def __init__(self, tracer: Tracer, span: Span, pictures: int) -> None:
        self._tracer, self._span = tracer, span
        self.above = trace.set_span_in_context(span, Context())
        self.pictures = [Picture(self, tracer, index) for index in range(pictures)]
        self._lock = threading.Lock()  # guards the one below
        self._unfinished = set(range(pictures))

    def follow(self, request: Request) -> None:
        """Be told of what is done for the request as a whole."""
        prepare, conditioned, failed = request.prepare, request.conditioned, request.failed

        def prepare_traced() -> Sequence[Plan]:
            with spanned(self._tracer, "condition", self.above):
                return prepare()

        def conditioned_traced(plan: Plan) -> None:
            self._span.set_attributes({"tritouch.steps": plan.steps, "tritouch.tokens": plan.tokens})
            for picture in self.pictures:
                picture.begin()
            conditioned(plan)

        def failed_traced(error: Exception) -> None:
            self.end(error)
            with self.noted():
                failed(error)

        request.prepare, request.conditioned, request.failed = prepare_traced, conditioned_traced, failed_traced

    @contextmanager
    def noted(self) -> Iterator[None]:
        """What is raised in the block is logged with the trace's id."""
        try:
            yield
        except Exception as error:
            error.add_note(f"trace_id={self._trace_id()}")
            raise

    def finished(self, index: int) -> None:
        """One picture is answered; the last ends the edit."""
        with self._lock:
            last = self._unfinished == {index}
            self._unfinished.discard(index)
        if last:
            self._span.end()

    def end(self, error: Exception) -> None:
        """It has failed; what there is of its pictures is told."""
        with self._lock:
            unfinished, self._unfinished = self._unfinished, set()
        if not unfinished:
            return
        for index in sorted(unfinished):
            self.pictures[index].end(error)
        mark(self._span, error)
        self._span.end()
        if type(error) not in OUTCOMES:  # The caller is told why, and the gateway's log; this is to find both by.
            log.error("an edit has failed: %s, trace_id=%s", type(error).__name__, self._trace_id())

    def _trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)


class Picture:
    """What becomes of one picture of an edit. `steps`: its denoiser calls so far."""

    def __init__(self, edit: Edit, tracer: Tracer, index: int) -> None:
        self._edit, self._tracer, self._index = edit, tracer, index
        self.steps: list[Step] = []
        self._planned = 0
        self._span: Span = trace.INVALID_SPAN
        self._above = edit.above

    def follow(self, job: Job) -> None:
        """Be told of what is done for the job."""
        finish, reports = job.finish, job.reports

        def finish_traced(done: Tensors, foretold: int) -> None:
            with self._edit.noted():
                with spanned(self._tracer, "render", self._above):
                    finish(done, foretold)
                self.end()
                self._edit.finished(self._index)

        job.finish = finish_traced
        if reports is None:
            return
        tell_preview = reports.tell_preview

        def preview_traced(step: int, latents: Tensors) -> None:
            with self._edit.noted(), spanned(self._tracer, "preview", self._above):
                tell_preview(step, latents)

        reports.tell_preview = preview_traced

    def begin(self) -> None:
        """It has a plan."""
        self._planned = time.time_ns()
        self._span = self._tracer.start_span(
            "picture", self._edit.above, start_time=self._planned, attributes={"tritouch.picture": self._index}
        )
        self._above = trace.set_span_in_context(self._span, Context())

    def end(self, error: Exception | None = None) -> None:
        """Tell of its steps, and that it is done."""
        if self._span.is_recording():
            self._tell(tuple(self.steps))
        if error is not None:
            mark(self._span, error)
        self._span.end()

    def _tell(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        self._made("queue", self._above, self._planned, steps[0].began)
        denoise = self._made("denoise", self._above, steps[0].began, steps[-1].ended)
        above = trace.set_span_in_context(denoise, Context())
        for number, step in enumerate(steps, 1):
            attributes = {"tritouch.step": number, "tritouch.rows": step.rows, "tritouch.edits": step.edits}
            self._made("step", above, step.began, step.ended, attributes)

    def _made(
        self, name: str, above: Context, began: int, ended: int, attributes: Mapping[str, int] | None = None
    ) -> Span:
        span = self._tracer.start_span(name, above, start_time=began, attributes=attributes)
        span.end(ended)
        return span


@contextmanager
def spanned(tracer: Tracer, name: str, above: Context) -> Iterator[None]:
    """The block as a span, however it ends."""
    span = tracer.start_span(name, above)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except Exception as error:
            mark(span, error)
            raise


def mark(span: Span, error: Exception) -> None:
    """Say why, in words of our own; what the caller has done is no failure of the server's."""
    code = error.code if isinstance(error, InvalidEditError) else OUTCOMES.get(type(error), type(error).__name__)
    span.set_attribute("error.type", code)
    if not isinstance(error, InvalidEditError | CancelledError):
        span.set_status(StatusCode.ERROR)

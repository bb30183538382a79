"""The spans of edits, beside a batcher that is driven turn by turn; and that there are none unless they are wanted."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from numpy.typing import NDArray

import tracing
from bench.collector import Collector, Span, collecting
from families.errors import InvalidEditError
from families.interface import Plan, Tensors
from gateway.collector import ENDPOINT, TRACES_ENDPOINT, traces_url
from jobs import Job, QueueFullError, Request
from reports import Reports
from tests.conftest import ROOT
from tests.edit import stand_in
from tests.edit.harness import Harness, Here, denoiser, plan

TRACE, CALLER = "1" * 32, "2" * 16
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def traced(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What makes spans; when it is closed the collector has them all."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in.module())
    monkeypatch.setenv(ENDPOINT, collector.endpoint)
    made = tracing.start({ENDPOINT: collector.endpoint})
    assert made is not None
    monkeypatch.setattr(sys.modules["spans"], "FLUSH_SECONDS", 60)
    yield made
    made.close()
    for name in ("calls", "spans"):
        sys.modules.pop(name, None)


def asked(
    prepare: Callable[[], Sequence[Plan]], pictures: int = 1, reports: Reports | None = None
) -> tuple[Request, list[Job]]:
    """A request, whose caller is told nothing."""
    request = Request(prepare, lambda error: None)
    return request, [Job(request, lambda *_: None, reports) for _ in range(pictures)]


def named(spans: Sequence[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def tree(spans: Sequence[Span], parent: str = CALLER) -> list[Any]:
    """The spans below another by name, each with those below it."""
    return [(span.name, tree(spans, span.id)) for span in spans if span.parent == parent]


def test_an_edit_is_what_it_waited_for_and_was_computed_by(
    traced: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["calls"], "call", lambda *_: {})
    settings = SimpleNamespace(banks={}, outputs={"text_encoder": (), "another": ()})

    def prepare() -> list[Plan]:
        with ThreadPoolExecutor(1) as workers:
            traced.call(settings, (), workers).together(("text_encoder", {"a": [1]}), ("another", {"a": [1]}))
        return [plan(1.0, 2), plan(2.0, 2)]

    harness = Harness(around=traced.denoiser)
    traced.submit(harness.batcher.submit, PARENT, *asked(prepare, 2))
    harness.turns(2)
    traced.close()
    spans = collector.of(TRACE)
    picture = ("picture", [("queue", []), ("denoise", [("step", []), ("step", [])]), ("render", [])])
    (edit,) = tree(spans)
    name, (condition, *pictures) = edit
    assert (name, pictures) == ("edit", [picture, picture])
    assert (condition[0], sorted(condition[1])) == ("condition", [("another", []), ("text_encoder", [])])
    by_id = {span.id: span for span in spans}
    for span in spans:
        if span.parent != CALLER:
            assert by_id[span.parent].start <= span.start <= span.end <= by_id[span.parent].end
    assert {span.service for span in spans} == {"tritouch-batcher"}
    assert not any(span.failed for span in spans)
    (edit,) = named(spans, "edit")
    assert edit.attributes == {
        "tritouch.pictures": 2,
        "tritouch.low_priority": False,
        "tritouch.steps": 2,
        "tritouch.tokens": 4,
    }
    assert [one.attributes["tritouch.picture"] for one in named(spans, "picture")] == [0, 1]


def test_a_step_tells_what_shared_its_call(traced: Any, collector: Collector) -> None:
    harness = Harness(around=traced.denoiser)
    traced.submit(harness.batcher.submit, PARENT, *asked(lambda: [plan(1.0, 3, rows=3)]))
    harness.turns(1)
    traced.submit(harness.batcher.submit, {}, *asked(lambda: [plan(2.0, 1, rows=2)]))
    harness.turns(2)
    traced.close()
    steps = [span.attributes for span in named(collector.of(TRACE), "step")]
    assert [tuple(step[f"tritouch.{what}"] for what in ("step", "rows", "edits")) for step in steps] == [
        (1, 3, 1),
        (2, 5, 2),
        (3, 3, 1),
    ]
    (other,) = {span.trace for span in collector.spans} - {TRACE}
    assert not named(collector.of(other), "edit")[0].parent, "it has no caller, and begins a trace"


def test_a_failed_call_is_marked_and_logged_by_its_trace(
    traced: Any, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(rows: Tensors) -> NDArray[Any]:
        raise ArithmeticError("SECRET")

    harness = Harness(fail, around=traced.denoiser)
    with caplog.at_level(logging.ERROR):
        traced.submit(harness.batcher.submit, PARENT, *asked(lambda: [plan(1.0, 3), plan(1.0, 3)], 2))
        harness.turns(1)
        traced.close()
    spans = collector.of(TRACE)
    assert {span.name for span in spans if span.failed} == {"edit", "picture"}
    assert len(named(spans, "step")) == 2
    assert named(spans, "edit")[0].attributes["error.type"] == "ArithmeticError"
    assert [line.getMessage() for line in caplog.records if line.name == "spans"] == [
        f"an edit has failed: ArithmeticError, trace_id={TRACE}"
    ]
    assert "SECRET" not in str(spans)


def test_what_the_caller_has_done_is_no_failure(traced: Any, collector: Collector) -> None:
    def refuse() -> list[Plan]:
        raise InvalidEditError("image_unreadable", "SECRET")

    harness = Harness(around=traced.denoiser)
    traced.submit(harness.batcher.submit, PARENT, *asked(refuse))
    traced.close()
    spans = collector.of(TRACE)
    assert [(span.name, span.attributes["error.type"], span.failed) for span in spans] == [
        ("edit", "image_unreadable", False),
        ("condition", "image_unreadable", False),
    ]


def test_an_edit_that_is_not_taken_in_is_told(traced: Any, collector: Collector) -> None:
    harness = Harness(max_jobs=1, around=traced.denoiser)
    harness.submit("before", plan(1.0, 3))
    with pytest.raises(QueueFullError):
        traced.submit(harness.batcher.submit, PARENT, *asked(lambda: [plan(1.0, 3)]))
    traced.close()
    (edit,) = collector.of(TRACE)
    assert edit.attributes["error.type"] == "rejected"
    assert edit.failed


def test_previews_are_spans_of_their_picture(traced: Any, collector: Collector) -> None:
    shown: list[int] = []
    reports = Reports(Here(), 1, None, lambda step, latents: shown.append(step))
    request, jobs = asked(lambda: [plan(1.0, 2)], reports=reports)
    traced.submit(Harness(around=traced.denoiser).batcher.submit, PARENT, request, jobs)
    reports.tell_preview(1, {})
    request.failed(ArithmeticError())
    traced.close()
    assert shown == [1]
    assert tree(collector.of(TRACE)) == [("edit", [("condition", []), ("picture", [("preview", [])])])]


def test_what_is_not_kept_costs_nothing(traced: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["calls"], "call", lambda *_: {})
    settings: Any = SimpleNamespace(banks={}, outputs={"text_encoder": ()})
    finished: list[Any] = []

    def prepare() -> list[Plan]:
        traced.call(settings, (), None)("text_encoder", {"a": [1]})
        return [plan(1.0, 1)]

    harness = Harness(denoiser, around=traced.denoiser)
    request = Request(prepare, finished.append)
    given = {"traceparent": PARENT["traceparent"][:-1] + "0"}
    traced.submit(harness.batcher.submit, given, request, [Job(request, lambda done, _: finished.append(done))])
    harness.turns(1)
    traced.close()
    assert len(finished) == 1
    assert not collector.spans


def test_off_nothing_of_it_is_imported() -> None:
    said = "import sys, tracing; print(tracing.start({}), [name for name in sys.modules if 'opentelemetry' in name])"
    path = f"{ROOT / 'model_repository/edit_stream/1'}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", said], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None []\n"


@pytest.mark.parametrize(
    "more", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": "false"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
@pytest.mark.parametrize("endpoint", [{}, {ENDPOINT: ""}, {ENDPOINT: "http://a"}, {TRACES_ENDPOINT: "http://a"}])
def test_they_are_wanted_where_the_gateways_are(endpoint: dict[str, str], more: dict[str, str]) -> None:
    assert tracing.wanted(endpoint | more) == bool(traces_url(endpoint | more))


def test_a_request_is_a_part_of_tritons_own_span_of_it() -> None:
    given = {"traceparent": "00-a", "other": "b"}
    assert tracing.parent(stand_in.request([]), given) == {"traceparent": "00-a"}
    assert tracing.parent(stand_in.request([], own='{"traceparent": "00-c"}'), given) == {"traceparent": "00-c"}

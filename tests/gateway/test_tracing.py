"""Spans of requests: which there are, whose traces they are a part of, and what is never in them."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import pytest

from bench.collector import Collector, Span, collecting
from gateway.collector import ENDPOINT, traces_url
from tests.gateway.asking import EDITS, PNG64, body, get, post
from tests.gateway.fake_triton import FakeTriton, breaking, failing
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_main import process

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
Traced = Callable[[], Any]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def traced(loop: Loop, triton: FakeTriton, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Traced:
    """A gateway that is traced; when it has stopped the collector has all spans."""
    from gateway import tracing

    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 60)
    monkeypatch.setenv(ENDPOINT, collector.endpoint)

    @contextmanager
    def running() -> Iterator[Gateway]:
        with serving(loop, triton, tracing.Tracing()) as gateway:
            yield gateway

    return running


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_an_edit_is_one_trace_of_its_stages(traced: Traced, triton: FakeTriton, collector: Collector) -> None:
    with traced() as gateway:
        post(gateway, headers=GIVEN | {"X-Request-Id": "mine"})
    spans = by_name(collector.of(TRACE))
    assert list(spans) == [f"POST {EDITS}", "read", "parse", "load", "decode", "edit", "encode"]
    request = spans[f"POST {EDITS}"]
    assert (request.parent, request.service, request.kind) == (CALLER, "tritouch-gateway", 2)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": EDITS,
        "http.response.status_code": 200,
        "tritouch.request_id": "mine",
    }
    for name in ("read", "parse", "load", "edit", "encode"):
        assert spans[name].parent == request.id
        assert request.start <= spans[name].start <= spans[name].end <= request.end
    assert spans["decode"].parent == spans["load"].id
    assert not any(span.failed for span in spans.values())


@pytest.mark.parametrize("stream", [False, True])
def test_the_trace_is_handed_on_to_triton(
    traced: Traced, triton: FakeTriton, collector: Collector, stream: bool
) -> None:
    with traced() as gateway:
        post(gateway, json=body(stream=stream), headers=GIVEN | {"tracestate": "vendor=1"})
    edit = by_name(collector.of(TRACE))["edit"]
    assert edit.kind == 3
    onward = {"traceparent": f"00-{TRACE}-{edit.id}-01", "tracestate": "vendor=1"}
    (request,), (metadata,) = triton.requests, triton.metadata
    assert {name: request.parameters[name].string_param for name in onward} == onward
    assert metadata.items() >= onward.items()


@pytest.mark.parametrize("given", [{}, {"traceparent": "nonsense"}, {"traceparent": f"00-{'0' * 32}-{CALLER}-01"}])
def test_without_a_good_traceparent_a_trace_begins(traced: Traced, collector: Collector, given: dict[str, str]) -> None:
    with traced() as gateway:
        post(gateway, headers=given)
    (request,) = (span for span in collector.spans if span.kind == 2)
    assert not request.parent
    assert len(collector.of(request.trace)) == 7


def test_what_the_caller_does_not_keep_is_not_kept(traced: Traced, triton: FakeTriton, collector: Collector) -> None:
    with traced() as gateway:
        post(gateway, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert not collector.spans
    assert triton.requests[0].parameters["traceparent"].string_param.endswith("-00")
    assert "traceparent" not in triton.metadata[0], "Triton would keep it"


def test_a_failure_is_marked_where_it_happened(traced: Traced, triton: FakeTriton, collector: Collector) -> None:
    with traced() as gateway:
        triton.behave = failing(grpc.StatusCode.INTERNAL, "words")
        assert post(gateway, headers=GIVEN).status_code == 500
        assert post(gateway, json={}, headers={"traceparent": f"00-{'1' * 32}-{CALLER}-01"}).status_code == 422
    spans = by_name(collector.of(TRACE))
    assert {name for name, span in spans.items() if span.failed} == {f"POST {EDITS}", "edit"}
    assert spans["edit"].attributes["error.type"] == "edit_failed"
    refused = by_name(collector.of("1" * 32))
    assert not refused[f"POST {EDITS}"].failed, "the caller's own fault"
    assert refused["parse"].attributes["error.type"] == refused[f"POST {EDITS}"].attributes["error.type"]


def test_a_stream_that_fails_is_marked_though_it_is_200(
    traced: Traced, triton: FakeTriton, collector: Collector
) -> None:
    from tests.gateway.fake_triton import begun, telling

    triton.tell = telling(begun(), then=breaking(grpc.StatusCode.INTERNAL, "tritouch:failed words"))
    with traced() as gateway:
        assert post(gateway, json=body(stream=True), headers=GIVEN).status_code == 200
    request = by_name(collector.of(TRACE))[f"POST {EDITS}"]
    assert request.failed
    assert request.attributes["error.type"] == "edit_failed"


def test_a_picture_by_url_is_fetched_in_a_span_of_its_own(traced: Traced, collector: Collector) -> None:
    image = [{"image": PNG64}, {"image": "http://127.0.0.1/SECRET"}]
    with traced() as gateway:
        post(gateway, json=body(image=image), headers=GIVEN)
    spans = by_name(collector.of(TRACE))
    assert spans["fetch"].attributes == {"error.type": "image_url_unusable"}
    assert spans["fetch"].parent == spans["decode"].parent == spans["load"].id


def test_probes_and_unknown_paths(traced: Traced, collector: Collector) -> None:
    with traced() as gateway:
        for path in ("/livez", "/readyz", "/metrics", "/SECRET?SECRET"):
            get(gateway, path)
    (span,) = collector.spans
    assert span.name == "GET none"
    assert span.attributes["http.response.status_code"] == 404


@pytest.mark.slow
def test_a_collector_that_is_away_holds_nothing_up(triton: FakeTriton) -> None:
    with process(triton, **{ENDPOINT: "http://127.0.0.1:9"}) as (gateway, url):
        assert httpx.post(url + EDITS, json=body(), timeout=60, trust_env=False).status_code == 200
        gateway.terminate()
        assert gateway.wait(60) == 0


OFF = """
import sys
from gateway.__main__ import main
import gateway.server
gateway.server.Server.run = lambda *_, **__: print(*sorted(name for name in sys.modules if "opentelemetry" in name))
main()
"""


@pytest.mark.parametrize("environ", [{}, {ENDPOINT: "http://a", "OTEL_SDK_DISABLED": "true"}])
def test_off_nothing_of_it_is_imported(environ: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, env=environ, check=True)
    assert not re.search("sdk|exporter", done.stdout)


def test_a_wrong_setting_ends_it_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway"], capture_output=True, text=True, env={ENDPOINT: "nonsense"}, check=False
    )
    with pytest.raises(ValueError, match=ENDPOINT) as refused:
        traces_url({ENDPOINT: "nonsense"})
    assert (done.returncode, done.stderr) == (2, f"{refused.value}\n")

"""One edit through the gateway and the real Triton is one trace, whose spans nest as docs/tracing.md draws them."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from bench.collector import Collector, Span
from embedded.server import Embedded
from tests.server.asking import Client, colours, eventually, png
from tests.server.faults import Faults

CALLER = "00f067aa0ba902b7"
STEP = ("tritouch-batcher", "step", [])


def ask(server: Embedded, trace: str, **fields: Any) -> int:
    """The status of an edit that is a part of this trace, once all of its answer is read."""
    image = {"image": base64.b64encode(png(colours(64, 64))).decode()}
    body = {"image": image, "prompt": "make it red", "num_inference_steps": 3} | fields
    headers = {"Content-Type": "application/json", "traceparent": f"00-{trace}-{CALLER}-01"}
    request = urllib.request.Request(f"{server.http_url}/v1/images/edits", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def logged(server: Embedded, trace: str) -> set[str]:
    """The events of a trace in the gateway's log."""
    whole, _, _ = server.gateway_log.read_text().rpartition("\n")  # the last may be half a line yet
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["event"] for line in lines if line.get("trace_id") == trace}


def tree(spans: Sequence[Span], parent: str = CALLER) -> list[tuple[str, str, list[Any]]]:
    """Service and name of each span below another, with those below it; what runs side by side is in order of name."""
    own = [(span.service, span.name, tree(spans, span.id)) for span in spans if span.parent == parent]
    return sorted(own) if {name for _, name, _ in own} == {"reference", "text_encoder"} else own


def drawn(model: str, pictures: list[Any]) -> list[Any]:
    """The trace of an edit, as it is documented: the spans below its caller's."""

    def gateway(name: str, *below: Any) -> Any:
        return ("tritouch-gateway", name, list(below))

    def triton(name: str, *below: Any) -> Any:
        return ("triton-inference-server", name, list(below))

    def batcher(name: str, *below: Any) -> Any:
        return ("tritouch-batcher", name, list(below))

    condition = batcher("condition", batcher("reference"), batcher("text_encoder"))
    inside = triton(model, triton("compute"), batcher("edit", condition, *pictures))
    edit = gateway("edit", triton("InferRequest", inside))
    load = gateway("load", gateway("decode"))
    encode = [gateway("encode")] if model == "edit" else []
    return [gateway("POST /v1/images/edits", gateway("read"), gateway("parse"), load, edit, *encode)]


def picture(*, previews: int = 0) -> Any:
    denoise = ("tritouch-batcher", "denoise", [STEP] * 3)
    told = [("tritouch-batcher", "preview", [])] * previews
    beside = [("tritouch-batcher", "queue", []), denoise, *told, ("tritouch-batcher", "render", [])]
    return ("tritouch-batcher", "picture", beside)


def traced(server: Embedded, collector: Collector, expected: list[Any], numbers: str, **fields: Any) -> list[Span]:
    """The spans of an edit that are as `expected`, of three at most: on a busy machine Triton has left its own out."""
    trees = []
    for number in numbers:
        assert ask(server, number * 32, **fields) == 200
        if eventually(lambda trace=number * 32: tree(collector.of(trace)) == expected, 20):
            return list(collector.of(number * 32))
        trees.append(tree(collector.of(number * 32)))
    raise AssertionError(trees)


def test_an_edit_is_one_trace(faulty: tuple[Client, Faults], collector: Collector) -> None:
    spans = traced(faulty[0].server, collector, drawn("edit", [picture(), picture()]), "145", n=2)
    steps = [span for span in spans if span.name == "step"]
    assert [span.attributes["tritouch.step"] for span in steps] == [1, 1, 2, 2, 3, 3]
    assert {(span.attributes["tritouch.rows"], span.attributes["tritouch.edits"]) for span in steps} == {(2, 2)}
    by_id = {span.id: span for span in spans}
    for span in spans:
        above = by_id.get(span.parent)
        if above and above.service == span.service != "triton-inference-server":
            assert above.start <= span.start <= span.end <= above.end


def test_a_stream_is_one_trace(faulty: tuple[Client, Faults], collector: Collector) -> None:
    expected = drawn("edit_stream", [picture(previews=1)])
    traced(faulty[0].server, collector, expected, "267", stream=True, partial_images=1)


def test_a_failure_is_found_in_both_logs_by_its_trace(faulty: tuple[Client, Faults], collector: Collector) -> None:
    (client, faults), trace = faulty, "3" * 32
    faults.set(failures=1)
    assert ask(client.server, trace) == 500
    assert eventually(lambda: f"trace_id={trace}" in client.server.triton_log.read_text())
    assert eventually(lambda: logged(client.server, trace) == {"edit_failed", "request"})
    failed = {"POST /v1/images/edits", "edit", "picture"}
    assert eventually(lambda: {span.name for span in collector.of(trace) if span.failed} == failed)

"""Request ids, log lines and metrics; and that nothing a caller wrote is in any of them."""

import base64
import json
import re
from typing import Any

import grpc
import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from bench.collector import collecting
from gateway.collector import DELAY, ENDPOINT
from gateway.metrics import Metrics
from gateway.observe import Observed
from tests.gateway.asking import EDITS, PNG, body, get, post, until
from tests.gateway.fake_triton import FakeTriton, after, failing
from tests.gateway.sending import HEAD, code_of, leave, raw
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_main import process

SECRETS = {
    "prompt": "PROMPTSECRET",
    "key": "KEYSECRET",
    "query": "QUERYSECRET",
    "model": "MODELSECRET",
    "file": "FILESECRET",
    "idempotency": "IDEMPOTENCYSECRET",
    "path": "PATHSECRET",
    "host": "hostsecret",
}
UPSTREAM = "CUDA out of memory"


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
def test_a_good_request_id_is_kept(gateway: Gateway, triton: FakeTriton, given: str) -> None:
    assert post(gateway, headers={"X-Request-Id": given}).headers["x-request-id"] == given
    assert triton.requests[0].id == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "-a", "a\tb", '"a"', "a;b", "{}"])
def test_a_bad_one_is_replaced(gateway: Gateway, triton: FakeTriton, given: str) -> None:
    answer = post(gateway, headers={"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert triton.requests[0].id == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/livez", "/nothing", EDITS])
def test_every_answer_has_one(gateway: Gateway, path: str) -> None:
    assert get(gateway, path).headers["x-request-id"]


def counted(route: str, status: str, reason: str) -> str:
    """The line of the metrics that says that one request was answered so."""
    return f'tritouch_gateway_requests_total{{reason="{reason}",route="{route}",status="{status}"}} 1.0'


def shown(gateway: Gateway, *lines: str) -> bool:
    """Whether the metrics have all of these lines; an answer is counted after it is sent."""
    text = get(gateway, "/metrics").text
    return all(line in text for line in lines)


def test_metrics(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton) as gateway:
        post(gateway)
        post(gateway, json={})
        triton.behave = failing(grpc.StatusCode.INTERNAL, "")
        post(gateway)
        get(gateway, "/no/such/path")
        wanted = [("200", "ok"), ("422", "prompt_invalid"), ("500", "edit_failed")]
        lines = [counted(EDITS, status, reason) for status, reason in wanted]
        assert until(lambda: shown(gateway, *lines, counted("none", "404", "not_found")))
        metrics = get(gateway, "/metrics").text
    for stage in ("read", "parse", "load", "edit", "encode"):
        assert f'tritouch_gateway_stage_seconds_count{{stage="{stage}"}}' in metrics
    for gauge in ("callers", "edits_in_flight", "held_bytes"):
        assert f"tritouch_gateway_{gauge} 0.0" in metrics, "for what was answered has been counted"
    assert "process_resident_memory_bytes" in metrics


@pytest.mark.parametrize(
    "sent", [b"GARBAGE\r\n\r\n", f"{HEAD}Transfer-Encoding: chunked\r\n\r\nx\r\n".encode()], ids=["head", "body"]
)
def test_what_is_refused_before_it_is_a_whole_request_is_told(loop: Loop, triton: FakeTriton, sent: bytes) -> None:
    with serving(loop, triton) as gateway, capture_logs() as logs:
        answer = raw(gateway, sent)
        assert code_of(answer) == (400, "body_unreadable")
        assert until(lambda: shown(gateway, counted("none", "400", "body_unreadable")))
        (line,) = [line for line in logs if line.get("reason") == "body_unreadable"]
    assert (line["event"], line["route"], line["status"]) == ("request", "none", 400)
    assert f"x-request-id: {line['request_id']}\r\n".encode() in answer


def test_what_nobody_foresaw_is_500_without_its_text() -> None:
    app = FastAPI()

    @app.get("/")
    async def broken() -> None:
        raise RuntimeError("SECRET")

    app.add_middleware(Observed, metrics=Metrics())
    with TestClient(app) as client, capture_logs() as logs:
        answer = client.get("/")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"]
    assert [line["event"] for line in logs] == ["failure", "request"]


def _ask_in_every_way(url: str, triton: FakeTriton) -> None:
    """Requests of all kinds, good and bad, each with secrets wherever one can be."""
    s = SECRETS
    image = {"image": base64.b64encode(PNG + s["file"].encode() * 9).decode()}
    headers = {"authorization": f"Bearer {s['key']}", "idempotency-key": s["idempotency"], "cookie": s["key"]}
    by_url = [
        {"image": f"http://{s['host']}.invalid/{s['path']}?{s['query']}"},
        {"image": f"http://127.0.0.1/{s['path']}?{s['query']}"},
    ]
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as client:
        for extra in ({}, {"model": s["model"]}, {"seed": s["prompt"]}, {"model": "/" + s["path"]}, {"image": by_url}):
            fields = body(**({"image": image, "prompt": s["prompt"]} | extra))
            client.post(EDITS + "?" + s["query"], json=fields)
            client.post(EDITS, json=fields, headers={"authorization": s["key"], "idempotency-key": s["key"] + " x"})
        client.post(EDITS, content=s["prompt"].encode(), headers={"content-type": "application/json"})
        form = {"prompt": s["prompt"], "model": s["model"], s["path"]: s["query"]}
        client.post(EDITS, files={"image": (s["path"], PNG + s["file"].encode())}, data=form)
        client.post(EDITS, content=s["prompt"].encode(), headers={"content-type": "multipart/form-data; boundary=x"})
        client.get(f"/{s['path']}?{s['query']}")
        asked = body(image=image, prompt=s["prompt"])
        triton.behave = failing(grpc.StatusCode.INTERNAL, f"{UPSTREAM}: '{s['prompt']}', {image}")
        client.post(EDITS, json=asked, headers={"idempotency-key": s["idempotency"] + "1"})
        triton.behave = after(600)
        headers |= {"idempotency-key": s["idempotency"] + "2"}
        leave(url, lambda: triton.active == 1, json=asked, headers=headers)


@pytest.mark.slow
def test_no_secret_in_any_log_metric_or_span(triton: FakeTriton) -> None:
    settings = {"TRITOUCH_LOG_LEVEL": "debug", "TRITOUCH_API_KEYS": f"other,{SECRETS['key']}"}
    settings |= {"PYTHONASYNCIODEBUG": "1", "TRITOUCH_ORPHAN_GRACE_SECONDS": "0.2", "OTEL_SERVICE_NAME": "own"}
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc"}
    with (
        collecting() as collector,
        process(triton, **settings, **headers, **{ENDPOINT: collector.endpoint, DELAY: "100"}) as running,
    ):
        gateway, url = running
        _ask_in_every_way(url, triton)
        metrics = httpx.get(url + "/metrics", timeout=60, trust_env=False).text
        gateway.terminate()
        written = gateway.communicate(timeout=60)[0]
    encoded = [base64.b64encode(value.encode()).decode().rstrip("=")[:-2] for value in SECRETS.values()]
    for secret in [*SECRETS.values(), *encoded, base64.b64encode(PNG[:30]).decode()]:
        assert secret not in f"{written} {metrics} {collector.spans}"
    lines = [json.loads(line) for line in written.splitlines()]
    asked: list[dict[str, Any]] = [line for line in lines if line["event"] == "request" and line["route"] == EDITS]
    assert {line["reason"] for line in asked} >= {"ok", "unauthorized", "edit_failed", "caller_gone", "body_unreadable"}
    assert all(line["request_id"] for line in asked)
    assert any(line["event"] == "library" for line in lines)
    (failed,) = {line["request_id"]: line for line in lines if line["event"] == "edit_failed"}.values()
    assert failed["cause"].startswith(f"INTERNAL: {UPSTREAM}")
    assert failed["request_id"] in {line["request_id"] for line in asked if line["reason"] == "edit_failed"}
    traces = {span.attributes["tritouch.request_id"]: span.trace for span in collector.spans if EDITS in span.name}
    assert {line["request_id"]: line["trace_id"] for line in [*asked, failed]} == traces
    assert {span.service for span in collector.spans} == {"own"}
    assert {headers["x-key"] for headers in collector.headers} == {"abc"}

"""Every way that Triton can fail, and what the caller reads of it."""

import asyncio
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.failures import MAX_CAUSE, loggable
from tests.gateway.asking import PNG, body, failure, get, post, until
from tests.gateway.fake_triton import (
    RAW,
    Behaviour,
    FakeTriton,
    after,
    answering,
    failing,
    response,
    when,
)
from tests.gateway.sending import leave
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import streamed

SECRET = "/opt/secret/model.py line 7"


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        ("INVALID_ARGUMENT", "tritouch:image_unreadable", (422, "image_unreadable")),
        ("INVALID_ARGUMENT", "in ensemble 'edit', tritouch:image_too_large: 9 x 9", (422, "image_too_large")),
        ("INVALID_ARGUMENT", "tritouch:too_many_images", (422, "too_many_images")),
        ("INVALID_ARGUMENT", "tritouch:prompt_invalid", (422, "prompt_invalid")),
        ("INVALID_ARGUMENT", "tritouch:unknown_model", (422, "unknown_model")),
        ("INVALID_ARGUMENT", "tritouch:parameter_invalid", (422, "parameter_invalid")),
        ("INVALID_ARGUMENT", "tritouch:no_such_code", (500, "edit_failed")),
        ("INVALID_ARGUMENT", "unexpected shape for input", (500, "edit_failed")),
        ("INVALID_ARGUMENT", "tritouch:prompt_invalid 'tritouch:unknown_model'", (422, "prompt_invalid")),
        ("INVALID_ARGUMENT", "tritouch:unknown_model 'tritouch:prompt_invalid'", (422, "unknown_model")),
        ("INVALID_ARGUMENT", "tritouch:failed tritouch:prompt_invalid", (500, "edit_failed")),
        ("INVALID_ARGUMENT", "tritouch:expired", (500, "edit_failed")),
        ("INTERNAL", "tritouch:failed tritouch:expired", (500, "edit_failed")),
        ("INTERNAL", "tritouch:image_unreadable", (500, "edit_failed")),
        ("UNAVAILABLE", "in ensemble 'edit', tritouch:queue_full", (429, "queue_full")),
        ("UNAVAILABLE", "server is shutting down", (503, "unavailable")),
        ("INTERNAL", "tritouch:expired", (504, "deadline_exceeded")),
        ("CANCELLED", "tritouch:expired", (503, "unavailable")),
        ("CANCELLED", "tritouch:queue_full", (503, "unavailable")),
        ("CANCELLED", "Server is stopping", (503, "unavailable")),
        ("UNAVAILABLE", "tritouch:expired", (503, "unavailable")),
        ("UNAVAILABLE", "tritouch:queue_full tritouch:expired", (429, "queue_full")),
        ("UNAVAILABLE", "tritouch:failed tritouch:queue_full", (503, "unavailable")),
        ("DEADLINE_EXCEEDED", "", (504, "deadline_exceeded")),
        ("INTERNAL", "CUDA out of memory", (500, "edit_failed")),
        ("NOT_FOUND", "Request for unknown model: 'edit' is not found", (503, "unavailable")),
        ("CANCELLED", "", (503, "unavailable")),
        ("UNAVAILABLE", "tritouch:stopping the server is stopping", (503, "unavailable")),
        ("INTERNAL", "Stub process 'edit_0_0' is not healthy.", (503, "unavailable")),
        ("INTERNAL", "Internal error from Core", (503, "unavailable")),
        ("INTERNAL", "tritouch:failed in 'x', Stub process 'denoiser_0_0' is not healthy.", (503, "unavailable")),
        ("INTERNAL", "tritouch:failed Model x - Error when running inference: Server not ready", (503, "unavailable")),
        ("INTERNAL", "tritouch:failed Request for unknown model: 'render' is not found", (503, "unavailable")),
        ("INTERNAL", "tritouch:failed tritouch:unknown_model x", (500, "edit_failed")),
        ("INTERNAL", "Failed to increase the shared memory pool size for key 'x'", (503, "unavailable")),
        ("INTERNAL", "tritouch:failed Unable to allocate 1.5 GiB for an array", (503, "unavailable")),
        ("UNKNOWN", "", (500, "edit_failed")),
    ],
)
def test_errors_of_the_repository(
    gateway: Gateway, triton: FakeTriton, status: str, details: str, expected: tuple[int, str]
) -> None:
    triton.behave = failing(grpc.StatusCode[status], f"{details} {SECRET}")
    answer = post(gateway)
    assert failure(answer) == expected
    assert SECRET not in answer.text
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    assert (answer.headers.get("x-should-retry") == "false") == (answer.status_code == 500)


def _without(name: str) -> object:
    wrong = response(RAW)
    del wrong.outputs[0 if name == "image" else 1]
    del wrong.raw_output_contents[0 if name == "image" else 1]
    return wrong


def _image(content: bytes) -> object:
    wrong = response(b"")
    wrong.raw_output_contents[0] = content
    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        _without("image"),
        _without("size"),
        response(b"not a picture"),
        response(RAW, width=7),
        response(RAW, width=-16, height=-8),
        _image(b""),
        _image(b"\0"),
        _image(struct.pack("<I", 99) + b"\xff\xd8\xff"),
    ],
)
def test_an_answer_against_the_contract_is_500(gateway: Gateway, triton: FakeTriton, wrong: object) -> None:
    triton.behave = answering(wrong)
    assert failure(post(gateway)) == (500, "edit_failed")


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (failing(grpc.StatusCode.INTERNAL, "CUDA error 700\nat line 7"), "INTERNAL: CUDA error 700 at line 7"),
        (answering(_without("image")), "Triton's answer lacks a tensor of the contract"),
        (answering(response(RAW, width=7)), "Triton's answer holds no picture of the size it says"),
    ],
)
def test_the_cause_of_a_500_is_in_the_log_once(
    gateway: Gateway, triton: FakeTriton, behaviour: Behaviour, cause: str
) -> None:
    triton.behave = behaviour
    with capture_logs() as lines:
        answer = post(gateway, headers={"X-Request-Id": "mine"})
    assert failure(answer) == (500, "edit_failed")
    (line,) = [line for line in lines if line["event"] == "edit_failed"]
    assert line == {"event": "edit_failed", "log_level": "error", "request_id": "mine", "cause": cause}
    assert "700" not in answer.text


def test_the_cause_of_what_passes_is_in_the_log_too(gateway: Gateway, triton: FakeTriton) -> None:
    triton.behave = failing(grpc.StatusCode.NOT_FOUND, "'edit' is not found")
    with capture_logs() as lines:
        assert failure(post(gateway)) == (503, "unavailable")
    causes = [line["cause"] for line in lines if line["event"] == "unavailable"]
    assert causes == ["NOT_FOUND: 'edit' is not found"]


def test_the_cause_of_a_failure_that_nobody_waits_for_is_in_the_log(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()

    async def behave(request: object, context: Any) -> None:
        while not released.is_set():
            await asyncio.sleep(0.01)
        await context.abort(grpc.StatusCode.INTERNAL, "too late")

    triton.behave = behave
    with serving(loop, triton) as gateway, capture_logs() as lines:
        leave(gateway.url, lambda: triton.active == 1)
        released.set()
        assert until(lambda: any(line.get("cause") == "INTERNAL: too late" for line in lines))


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("bad prompt 'a red Fox, 7 years' in step 3", "bad prompt 'a ... ..., 7 ...' in step 3"),
        ("cut: 'a red fo", "cut: 'a ... fo"),
        ("escaped: \\ub208\\ub208 and \\xeb\\x88, plain: \ub208", "escaped: ... and ..., plain: ..."),
        ("data " + "QUJD/+" * 300, "data ..."),
        ("a\r\n\tb\0c\x1b[0m", "a b...c...[0m"),
        ("x " * 5000, ("x " * 5000)[:MAX_CAUSE]),
    ],
)
def test_a_cause_holds_no_prompt_and_no_picture(cause: str, expected: str) -> None:
    assert loggable(cause, "A RED fox; 7 years \ub208") == expected


def test_the_deadline_goes_along_and_holds(loop: Loop, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.triton.CLIENT_SLACK_SECONDS", 100)
    with serving(loop, triton, edit_timeout_seconds=60) as gateway:
        assert post(gateway).status_code == 200
        assert [name for name, _ in streamed(gateway)] == ["image_edit.completed"]
    for request, left in zip(triton.requests, triton.timeouts, strict=True):
        assert 0 < request.parameters["timeout"].int64_param <= 60_000_000
        assert 100 < left <= 160
    monkeypatch.setattr("gateway.triton.CLIENT_SLACK_SECONDS", 0.2)
    triton.behave = after(600)
    with serving(loop, triton, edit_timeout_seconds=0.2) as gateway:
        assert failure(post(gateway)) == (504, "deadline_exceeded")
    assert until(lambda: triton.active == 0)


@contextmanager
def _occupied(gateway: Gateway) -> Iterator["Future[bool]"]:
    """Keep the gateway's one work thread from everything else, by work that is yielded and ends with the block."""
    threads, over = vars(gateway.app.state.edits)["_threads"], threading.Event()
    try:
        yield asyncio.run_coroutine_threadsafe(threads.run(over.wait), gateway.loop.loop)
    finally:
        over.set()


def test_waiting_for_the_work_thread_ends_with_the_deadline(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, edit_timeout_seconds=0.3) as gateway, _occupied(gateway) as other:
        assert failure(post(gateway)) == (504, "deadline_exceeded")
        assert not other.done()
        assert until(lambda: gateway.app.state.edits.memory.held == 0)
    assert not triton.requests


def test_waiting_for_the_work_thread_counts(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, edit_timeout_seconds=60) as gateway, ThreadPoolExecutor() as pool:
        with _occupied(gateway):
            answer = pool.submit(post, gateway)
            waiting = vars(vars(gateway.app.state.edits)["_threads"])["_pool"]._work_queue
            assert until(lambda: waiting.qsize() == 1)
            time.sleep(0.3)
        assert answer.result().status_code == 200
    assert triton.requests[0].parameters["timeout"].int64_param <= 59_700_000


@pytest.mark.slow
def test_the_deadline_holds_for_making_the_answer(
    loop: Loop, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton, edit_timeout_seconds=60) as gateway, ThreadPoolExecutor() as pool:
        answer = pool.submit(post, gateway, files={"image": PNG}, data={"prompt": "x"})
        assert until(lambda: triton.active == 1)
        with _occupied(gateway) as other:
            later = SimpleNamespace(monotonic=lambda: time.monotonic() + 59)
            monkeypatch.setattr("gateway.deadline.time", later)
            released.set()
            assert failure(answer.result()) == (504, "deadline_exceeded")
            assert not other.done()


def test_triton_gone_and_back(loop: Loop, tmp_path: Path) -> None:
    triton = FakeTriton()
    loop.run(triton.start(f"unix:{tmp_path}/triton"))
    with serving(loop, triton) as gateway:
        assert post(gateway).status_code == 200
        loop.run(triton.stop())
        assert failure(post(gateway)) == (503, "unavailable")
        assert failure(get(gateway, "/readyz")) == (503, "unavailable")
        models = get(gateway, "/v1/models")
        assert failure(models) == (503, "unavailable")
        assert models.headers["retry-after"]
        unknown = post(gateway, json=body(model="../etc"))
        assert failure(unknown) == (422, "unknown_model")
        assert unknown.json()["detail"] == "There is no such model."
        assert get(gateway, "/livez").status_code == 200
        loop.run(triton.start(triton.address))
        assert until(lambda: get(gateway, "/readyz").status_code == 200)
        assert post(gateway).status_code == 200
    loop.run(triton.stop())

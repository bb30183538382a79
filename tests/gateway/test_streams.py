"""Streams of events: what is told, when, to whom, and what becomes of them when something fails."""

import base64
import select
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.gateway.asking import GENERATIONS, PNG, failure, get, post, until
from tests.gateway.fake_triton import (
    CACHE,
    FORETOLD,
    HEIGHT,
    JPEG,
    RAW,
    TOKENS,
    USED,
    WIDTH,
    FakeTriton,
    begun,
    breaking,
    finished,
    number,
    outputs,
    preview,
    progress,
    telling,
    tensors,
)
from tests.gateway.sending import sent
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import NOTHING, events_of, held, opened, streamed, watched

SIZE = f"{WIDTH}x{HEIGHT}"


@pytest.fixture(scope="module")
def _gateway(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    """One of this file's own, in which nothing else is under way."""
    with serving(loop, _triton) as gateway:
        yield gateway


def test_all_of_a_stream(gateway: Gateway, triton: FakeTriton) -> None:
    with opened(gateway, json=watched(seed=2**64 - 1, n=2, partial_images=2, progress=True)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in answer.headers
        told = [*events_of(answer)]
    assert all(event["type"] == name for name, event in told)
    by_kind = {
        kind: [event for name, event in told if name == f"image_edit.{kind}"]
        for kind in ("progress", "partial_image", "completed")
    }
    assert [(event["step"], event["index"]) for event in by_kind["progress"]][-2:] == [(3, 0), (3, 1)]
    assert {event["steps"] for event in by_kind["progress"]} == {USED["num_inference_steps"]}
    numbers = [(event["partial_image_index"], event["index"]) for event in by_kind["partial_image"]]
    assert numbers == [(0, 0), (0, 1), (1, 0), (1, 1)]
    first, second = by_kind["completed"]
    assert [(event["index"], event["seed"]) for event in (first, second)] == [(0, 2**64 - 1), (1, 0)]
    for event in (first, *by_kind["partial_image"]):
        assert base64.b64decode(event["b64_json"]) == JPEG
        assert (event["size"], event["output_format"]) == (SIZE, "jpeg")
        assert event["created_at"] > 0
    text, image, output = TOKENS
    assert first["usage"] == {
        "input_tokens": text + image,
        "input_tokens_details": {"image_tokens": image, "text_tokens": text},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }
    assert {name: first[name] for name in USED} == USED
    assert [(one["cache"], one["foretold_steps"]) for one in (first, second)] == [
        (CACHE, FORETOLD),
        (CACHE, FORETOLD + 1),
    ]
    (sent,) = triton.requests
    assert (sent.model_name, number(sent, "n"), number(sent, "partial_images")) == ("edit_stream", 2, 2)
    assert tensors(sent)["progress"] == b"\x01"
    assert until(lambda: held(gateway) == NOTHING)


def test_what_is_not_asked_for_is_not_told(gateway: Gateway, triton: FakeTriton) -> None:
    ((name, event),) = streamed(gateway, json=watched(response_format="raw"))
    assert (name, event["output_format"]) == ("image_edit.completed", "raw")
    assert base64.b64decode(event["b64_json"]) == RAW
    assert not {"progress", "partial_images"} & tensors(triton.requests[0]).keys()


def test_forms_and_pictures_from_text_alone(gateway: Gateway, triton: FakeTriton) -> None:
    form = {"prompt": "x", "stream": "true", "partial_images": "1"}
    names = [name for name, _ in streamed(gateway, files={"image": PNG}, data=form)]
    assert names == ["image_edit.partial_image", "image_edit.completed"]
    made = streamed(gateway, GENERATIONS, json={"prompt": "x", "stream": True, "progress": True, "n": 3})
    assert {name for name, _ in made} == {"image_generation.progress", "image_generation.completed"}
    assert [event["index"] for name, event in made if name.endswith("completed")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("status", "details", "answered"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "tritouch:prompt_invalid no", (422, "prompt_invalid")),
        (grpc.StatusCode.UNAVAILABLE, "tritouch:queue_full", (429, "queue_full")),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'edit_stream' is not found", (503, "unavailable")),
        (grpc.StatusCode.INTERNAL, "CUDA error", (500, "edit_failed")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", (504, "deadline_exceeded")),
    ],
)
def test_what_fails_before_the_first_event_is_a_status(
    gateway: Gateway, triton: FakeTriton, status: grpc.StatusCode, details: str, answered: Any
) -> None:
    triton.tell = breaking(status, details)
    assert failure(post(gateway, json=watched())) == answered
    if details:
        triton.tell = telling(details)  # in band, as a Triton that is stopping does
        assert failure(post(gateway, json=watched())) == answered
    assert until(lambda: held(gateway) == NOTHING)


def test_nothing_is_answered_before_triton_has_begun(gateway: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.tell = telling(released, begun(), finished)
    waiting: list[bytes] = []
    with sent(gateway.url, json=watched()) as connection:
        assert until(lambda: triton.active == 1)
        waiting += select.select([connection], [], [], 0.1)[0]
    assert until(lambda: (triton.active, triton.cancelled) == (0, 1)), "who leaves before that has cancelled it"
    assert not waiting
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(streamed, gateway)
        assert until(lambda: triton.active == 1)
        released.set()
        assert [name for name, _ in answer.result()] == ["image_edit.completed"]


def _is_of(request_id: str, line: Mapping[str, Any]) -> bool:
    """Whether a line says what became of this request; another's may come late."""
    return line["event"] == "request" and line["request_id"] == request_id


def test_what_fails_later_is_an_event_and_the_reason_in_the_log(gateway: Gateway, triton: FakeTriton) -> None:
    failing = breaking(grpc.StatusCode.INTERNAL, "CUDA error 700")
    triton.tell = telling(begun(), lambda request: preview(request, 0), then=failing)
    with capture_logs() as lines:
        partial, (name, event) = streamed(gateway, json=watched(partial_images=1), headers={"X-Request-Id": "mine"})
        assert until(lambda: any(_is_of("mine", line) for line in lines))
    assert partial[0] == "image_edit.partial_image"
    assert (name, event["error"]["code"], event["detail"]) == ("error", "edit_failed", "The edit failed.")
    (cause,) = [line for line in lines if line["event"] == "edit_failed"]
    assert (cause["cause"], cause["request_id"]) == ("UNKNOWN: CUDA error 700", "mine")
    (line,) = [line for line in lines if _is_of("mine", line)]
    assert (line["status"], line["reason"]) == (200, "edit_failed")


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ((), "Triton's stream ended before its last picture"),
        ((progress(1, index=7),), "Triton's answer is about a picture that was not asked for"),
        ((outputs([], {"index": ("INT32", [0])}),), "Triton's answer lacks a tensor of the contract"),
        (
            (
                lambda request: outputs(
                    [b"x"], {"index": ("INT32", [0]), "partial_index": ("INT32", [0]), "size": ("INT32", [8, 8])}
                ),
            ),
            "Triton's answer holds no picture of the size it says",
        ),
    ],
)
def test_a_stream_against_the_contract_ends_with_an_error(
    gateway: Gateway, triton: FakeTriton, wrong: Any, cause: str
) -> None:
    triton.tell = telling(begun(), *wrong)
    with capture_logs() as lines:
        ((name, event),) = streamed(gateway)
    assert (name, event["error"]["code"]) == ("error", "edit_failed")
    assert [line["cause"] for line in lines if line["event"] == "edit_failed"] == [cause]


def test_an_edit_that_takes_too_long_ends_with_an_event(gateway: Gateway, triton: FakeTriton) -> None:
    triton.tell = telling(begun(), then=breaking(grpc.StatusCode.DEADLINE_EXCEEDED, ""))
    ((name, event),) = streamed(gateway)
    assert (name, event["error"]["code"]) == ("error", "deadline_exceeded")
    assert until(lambda: held(gateway) == NOTHING)


def test_silence_is_broken_by_comments(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.tell = telling(begun(), released, finished)
    with serving(loop, triton, ping_seconds=0.05, body_pause_seconds=0.1) as gateway, opened(gateway) as answer:
        told = events_of(answer)
        assert [next(told) for _ in range(8)] == [("", {})] * 8, "and who is told nothing else is not too slow"
        released.set()
        assert "image_edit.completed" in [name for name, _ in told]


def test_who_leaves_cancels_at_once(loop: Loop, triton: FakeTriton) -> None:
    triton.tell = telling(begun(), progress(1), threading.Event())
    with serving(loop, triton, orphan_grace_seconds=3600) as gateway, capture_logs() as lines:
        with opened(gateway, json=watched(progress=True), headers={"X-Request-Id": "mine"}) as answer:
            told = events_of(answer)  # kept, for it closes the answer when it is dropped
            assert next(told)[0] == "image_edit.progress"
            assert held(gateway)[1:4] == (1, 1, 1)
        assert until(lambda: (triton.active, triton.cancelled) == (0, 1))
        assert until(lambda: held(gateway) == NOTHING)
        assert until(lambda: any(_is_of("mine", line) for line in lines))
    assert [line["reason"] for line in lines if _is_of("mine", line)] == ["caller_gone"]


@pytest.mark.parametrize("grace", [3600, 0.1])
def test_with_a_key_it_is_kept_for_the_grace(loop: Loop, triton: FakeTriton, grace: float) -> None:
    triton.tell = telling(begun(), progress(1), threading.Event())
    with serving(loop, triton, orphan_grace_seconds=grace) as gateway:
        with opened(gateway, json=watched(progress=True), headers={"Idempotency-Key": "a"}) as answer:
            next(events_of(answer))
        assert until(lambda: held(gateway)[1] == 0)
        if grace > 1:
            assert (triton.active, held(gateway)[2:4]) == (1, (1, 1))
            return
        assert until(lambda: triton.cancelled == 1)
        assert until(lambda: held(gateway) == NOTHING)
        assert "tritouch_gateway_orphans_dropped 1.0" in get(gateway, "/metrics").text


def test_who_takes_over_is_told_what_comes_and_every_finished_picture(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton) as gateway:
        _taken_over(gateway, triton)


def _taken_over(gateway: Gateway, triton: FakeTriton) -> None:
    released = threading.Event()
    early = (progress(1), lambda request: preview(request, 0), finished, progress(2, index=1))
    triton.tell = telling(begun(), *early, released, progress(3, index=1), lambda request: finished(request, 1))
    request = {"json": watched(progress=True, partial_images=1, n=2), "headers": {"Idempotency-Key": "b"}}
    with opened(gateway, **request) as answer:
        told = events_of(answer)
        before = [next(told) for _ in range(4)]
    assert until(lambda: held(gateway)[1] == 0)
    assert [event.get("index") for _, event in before] == [0, 0, 0, 1]
    with opened(gateway, **request) as answer:
        told = events_of(answer)
        assert next(told) == before[2]
        with opened(gateway, **request) as other:
            released.set()
            assert [event["index"] for _, event in events_of(other)] == [0, 1, 1]
        assert [(name, event["index"]) for name, event in told] == [
            ("image_edit.progress", 1),
            ("image_edit.completed", 1),
        ]
    assert len(triton.requests) == 1
    assert "tritouch_gateway_orphans_taken_over 1.0" in get(gateway, "/metrics").text


def test_a_stream_that_failed_is_not_taken_over(loop: Loop, triton: FakeTriton) -> None:
    request = {"json": watched(), "headers": {"Idempotency-Key": "c"}}
    triton.tell = telling(begun(), then=breaking(grpc.StatusCode.INTERNAL, ""))
    with serving(loop, triton) as gateway:
        assert [name for name, _ in streamed(gateway, **request)] == ["error"]
        triton.reset()
        assert [name for name, _ in streamed(gateway, **request)] == ["image_edit.completed"]
    assert len(triton.requests) == 1


def test_triton_killed_midway_ends_the_stream(loop: Loop) -> None:
    mortal = FakeTriton()
    loop.run(mortal.start())
    mortal.tell = telling(begun(), progress(1), threading.Event())
    with serving(loop, mortal) as gateway, opened(gateway, json=watched(progress=True)) as answer:
        told = events_of(answer)
        assert next(told)[0] == "image_edit.progress"
        loop.run(mortal.stop())
        ((name, event),) = told
        assert (name, event["error"]["code"]) == ("error", "unavailable")
        assert until(lambda: held(gateway) == NOTHING)


def test_metrics_tell_of_streams(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.tell = telling(begun(), progress(1), released, finished)
    with serving(loop, triton) as gateway:
        with opened(gateway, json=watched(progress=True)) as answer:
            told = events_of(answer)
            next(told)
            assert "tritouch_gateway_streams_in_flight 1.0" in get(gateway, "/metrics").text
            released.set()
            assert len([*told]) == 1
        assert until(lambda: held(gateway) == NOTHING)
        text = get(gateway, "/metrics").text
    assert "tritouch_gateway_streams_in_flight 0.0" in text
    for kind in ("progress", "completed"):
        assert f'tritouch_gateway_stream_events_total{{kind="{kind}"}} 1.0' in text

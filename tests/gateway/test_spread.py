"""Several Tritons of one model: who is asked, who is left out, and what becomes of edits whose Triton dies."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from structlog.testing import capture_logs

from tests.gateway.asking import body, failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, begun, failing, finished, progress, telling, when
from tests.gateway.sending import leave
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import NOTHING, events_of, held, opened, streamed, watched

Pair = tuple[FakeTriton, FakeTriton]


@pytest.fixture
def pair(loop: Loop, tmp_path: Path) -> Iterator[Pair]:
    """Two Tritons, which a test may stop, and start again where they were."""
    both = FakeTriton(), FakeTriton()
    for number, one in enumerate(both):
        loop.run(one.start(f"unix:{tmp_path}/{number}"))
    yield both
    for one in both:
        loop.run(one.stop())


@pytest.fixture
def before(loop: Loop, pair: Pair) -> Iterator[Gateway]:
    """A gateway that spreads edits over both."""
    with serving(loop, pair[0], triton_grpc=",".join(one.address for one in pair)) as gateway:
        yield gateway


def figure(gateway: Gateway, line: str) -> str:
    """The value of one line of the metrics, "" where there is no such line."""
    found = [one for one in get(gateway, "/metrics").text.splitlines() if one.startswith(f"{line} ")]
    return found[0].rpartition(" ")[2] if found else ""


def ready(gateway: Gateway, number: int) -> str:
    return figure(gateway, f'tritouch_gateway_triton_ready{{model="base",triton="{number}"}}')


def asked(pool: ThreadPoolExecutor, gateway: Gateway, times: int, **fields: Any) -> list[Future[httpx.Response]]:
    return [pool.submit(post, gateway, json=body(**fields)) for _ in range(times)]


def test_who_has_least_in_flight_is_asked(before: Gateway, pair: Pair) -> None:
    first, second = pair
    released = threading.Event()
    first.behave = second.behave = when(released)
    with ThreadPoolExecutor(8) as pool:
        answers = asked(pool, before, 1, n=3)
        assert until(lambda: first.active + second.active == 1)
        answers += asked(pool, before, 4)
        assert until(lambda: first.active + second.active == 5)
        assert sorted((first.active, second.active)) == [2, 3], "three pictures count as three edits"
        assert figure(before, 'tritouch_gateway_triton_in_flight{model="base",triton="0"}') in ("3.0", "4.0")
        released.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert figure(before, 'tritouch_gateway_triton_in_flight{model="base",triton="0"}') == "0.0"


def test_one_after_another_takes_turns(before: Gateway, pair: Pair) -> None:
    for _ in range(6):
        assert post(before).status_code == 200
    assert [len(one.requests) for one in pair] == [3, 3]


@pytest.mark.slow
def test_who_is_not_ready_is_left_out_and_taken_back(before: Gateway, pair: Pair) -> None:
    first, second = pair
    first.is_ready = False
    with capture_logs() as lines:
        assert until(lambda: ready(before, 0) == "0.0")
    said = [line["triton"] for line in lines if line["event"] == "triton_left_out"]
    assert said.count(first.address) == 1
    assert second.address not in said
    assert [post(before).status_code for _ in range(4)] == [200] * 4
    assert (len(first.requests), len(second.requests)) == (0, 4)
    assert get(before, "/readyz").status_code == 200
    first.is_ready = True
    assert until(lambda: ready(before, 0) == "1.0")
    assert [post(before).status_code for _ in range(2)] == [200] * 2
    assert (len(first.requests), len(second.requests)) == (1, 5)


def test_without_any_it_is_503_until_one_is_back(before: Gateway, pair: Pair, loop: Loop) -> None:
    for one in pair:
        loop.run(one.stop())
    assert failure(post(before)) == (503, "unavailable")
    assert get(before, "/readyz").status_code == 503
    loop.run(pair[1].start(pair[1].address))
    assert until(lambda: get(before, "/readyz").status_code == 200)
    assert until(lambda: post(before).status_code == 200)


@pytest.mark.slow
def test_an_edit_whose_triton_dies_is_asked_of_the_other(before: Gateway, pair: Pair, loop: Loop) -> None:
    first, second = pair
    released = threading.Event()
    first.behave = second.behave = when(released)
    with ThreadPoolExecutor(8) as pool:
        answers = asked(pool, before, 6)
        assert until(lambda: (first.active, second.active) == (3, 3))
        lost = {request.id: request for request in first.requests}
        loop.run(first.stop())
        assert until(lambda: second.active == 6)
        again = {request.id: request for request in second.requests if request.id in lost}
        released.set()
        assert [answer.result().status_code for answer in answers] == [200] * 6
    assert again.keys() == lost.keys()
    for one, other in ((lost[key], again[key]) for key in lost):
        assert other.parameters["timeout"].int64_param < one.parameters["timeout"].int64_param
        assert other.raw_input_contents == one.raw_input_contents, "its seed among them"
    assert ready(before, 0) == "0.0"
    assert figure(before, 'tritouch_gateway_sent_again_total{model="base",reason="unavailable"}') == "3.0"
    loop.run(first.start(first.address))
    assert until(lambda: ready(before, 0) == "1.0")


@pytest.mark.parametrize(
    ("status", "details"),
    [
        ("UNAVAILABLE", "tritouch:queue_full"),
        ("UNAVAILABLE", "tritouch:stopping the server is stopping"),
        ("NOT_FOUND", "Request for unknown model: 'edit' is not found"),
        ("CANCELLED", "Server is stopping"),
        ("INTERNAL", "tritouch:failed Stub process 'edit_0_0' is not healthy."),
    ],
)
def test_what_another_may_do_is_asked_of_it(
    before: Gateway, pair: Pair, status: str, details: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.triton.OUT_SECONDS", 60)
    first, second = pair
    first.behave = failing(grpc.StatusCode[status], details)
    assert [post(before).status_code for _ in range(2)] == [200] * 2
    assert len(second.requests) == 2
    assert len(first.requests) == (2 if "queue_full" in details else 1), "what is full may be free the next time"
    second.behave = first.behave
    code = "queue_full" if "queue_full" in details else "unavailable"
    assert failure(post(before))[1] == code, "once, and no more"


@pytest.mark.parametrize(
    ("status", "details", "answered"),
    [
        ("INTERNAL", "tritouch:expired", (504, "deadline_exceeded")),
        ("INTERNAL", "CUDA error 700", (500, "edit_failed")),
        ("INVALID_ARGUMENT", "tritouch:prompt_invalid", (422, "prompt_invalid")),
    ],
)
def test_what_another_could_not_do_either_is_asked_once(
    before: Gateway, pair: Pair, status: str, details: str, answered: tuple[int, str]
) -> None:
    for one in pair:
        one.behave = failing(grpc.StatusCode[status], details)
    assert failure(post(before)) == answered
    assert len(pair[0].requests) + len(pair[1].requests) == 1


def test_who_leaves_cancels_at_the_triton_that_has_the_edit(loop: Loop, pair: Pair) -> None:
    released = threading.Event()
    pair[0].behave = pair[1].behave = when(released)
    addresses = ",".join(one.address for one in pair)
    with serving(loop, pair[0], triton_grpc=addresses, orphan_grace_seconds=0.1) as gateway:
        for number in (1, 2):
            leave(gateway.url, lambda: pair[0].active + pair[1].active == 1)
            assert until(lambda number=number: pair[0].cancelled + pair[1].cancelled == number)
    assert [one.cancelled for one in pair] == [1, 1]


def _dies(loop: Loop, pair: Pair) -> FakeTriton:
    """Whichever is asked dies. Returns the other."""
    assert until(lambda: pair[0].active + pair[1].active == 1)
    dying, other = pair if pair[0].active else pair[::-1]
    loop.run(dying.stop())
    return other


def test_a_stream_of_which_nothing_was_told_is_asked_of_the_other(before: Gateway, pair: Pair, loop: Loop) -> None:
    released = threading.Event()
    for one in pair:
        one.tell = telling(released, begun(), finished)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(streamed, before)
        other = _dies(loop, pair)
        assert until(lambda: other.active == 1)
        released.set()
        assert [name for name, _ in answer.result()] == ["image_edit.completed"]
    assert until(lambda: held(before) == NOTHING)


def test_a_stream_that_has_only_begun_goes_on_at_the_other(before: Gateway, pair: Pair, loop: Loop) -> None:
    released = threading.Event()
    for one in pair:
        one.tell = telling(begun(), released, progress(1), finished)
    with opened(before, json=watched(progress=True)) as answer:
        assert answer.status_code == 200
        other = _dies(loop, pair)
        assert until(lambda: other.active == 1)
        released.set()
        assert [name for name, _ in events_of(answer)] == ["image_edit.progress", "image_edit.completed"]


def test_a_stream_whose_caller_was_told_something_ends(before: Gateway, pair: Pair, loop: Loop) -> None:
    for one in pair:
        one.tell = telling(begun(), progress(1), threading.Event())
    with opened(before, json=watched(progress=True)) as answer:
        told = events_of(answer)
        assert next(told)[0] == "image_edit.progress"
        other = _dies(loop, pair)
        ((name, event),) = told
        assert (name, event["error"]["code"]) == ("error", "unavailable")
    assert not other.requests


def test_tritons_that_are_not_there_yet_are_not_shown_and_found_when_they_are(
    loop: Loop, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.triton.RARELY_SECONDS", 0.05)
    first, second = pair
    loop.run(second.stop())
    addresses = f"{first.address},{second.address}"
    with serving(loop, first, triton_grpc=addresses) as gateway:
        assert [post(gateway).status_code for _ in range(4)] == [200] * 4
        assert (len(first.requests), ready(gateway, 0), ready(gateway, 1)) == (4, "1.0", "")
        loop.run(second.start(second.address))
        assert until(lambda: ready(gateway, 1) == "1.0")
        assert post(gateway).status_code == 200
        assert len(second.requests) == 1

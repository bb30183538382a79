"""The front's part: one answer of several responses, errors as they came, callers who leave."""

import threading
import weakref
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.edit import stand_in
from tests.edit.stand_in import Response, Sender, Tensor, TritonError, int32

SECONDS = 30
TOLD = {
    "size": int32(8, 4),
    "num_inference_steps": int32(9),
    "guidance_scale": np.array([7.5], np.float32),
    "image_guidance_scale": np.array([1.5], np.float32),
    "cache": np.array([b"balanced"], np.object_),
    "tokens": int32(77, 20, 30),
}


class Stream:
    """Stands for `edit_stream`: answers with `responses`, or, where they are to wait, once the ticket is cancelled."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.asked: list[tuple[dict[str, Any], dict[str, Any], int]] = []
        self.waits, self.lost = False, 0
        self._cancelled: dict[str, threading.Event] = {}

    def __call__(self, inputs: dict[str, Any], parameters: dict[str, Any], timeout: int) -> Iterator[Response]:
        if "cancel" in parameters:
            if self.lost:
                self.lost -= 1
            else:
                self._cancelled[parameters["cancel"]].set()
            return
        self.asked.append((inputs, parameters, timeout))
        event = self._cancelled[parameters["ticket"]] = threading.Event()
        if self.waits:
            assert event.wait(SECONDS)
        yield from self.responses


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch, stream: Stream) -> Iterator[Any]:
    yield from stand_in.imported(monkeypatch, "relay", stream)


@pytest.fixture
def callers(relay: Any) -> Iterator[Any]:
    made = relay.Callers()
    yield made
    made.stop()


def picture(index: int, image: bytes) -> Response:
    given = {**TOLD, "image": np.array([image], np.object_), "index": int32(index), "foretold": int32(3 + index)}
    return Response([Tensor(name, array) for name, array in given.items()])


def failed(text: str) -> Response:
    return Response([], TritonError(text))


def asked(relay: Any, callers: Any, sender: Sender, **given: Any) -> None:
    inputs = [Tensor("prompt", np.array([b"p"], np.object_))]
    relay.relay(stand_in.request(inputs, 7, **given), sender, callers)


def test_the_pictures_are_one_answer_in_the_order_of_their_seeds(relay: Any, callers: Any, stream: Stream) -> None:
    stream.responses = [picture(1, b"two"), picture(0, b"one")]
    sender = Sender()
    asked(relay, callers, sender)
    told = {name: array.tolist() for name, array in TOLD.items()}
    assert sender.sent == [({"image": [b"one", b"two"], "foretold": [3, 4], **told}, True)]
    inputs, parameters, timeout = stream.asked[0]
    assert inputs["prompt"].tolist() == [b"p"]
    assert (list(parameters), timeout) == (["ticket"], 7)


class Held:
    """Responses of which one can tell whether they are held, and whether all have come."""

    def __init__(self, responses: list[Response]) -> None:
        self._left, self.over = iter(responses), False

    def __iter__(self) -> Iterator[Response]:
        return self

    def __next__(self) -> Response:
        for response in self._left:
            return response
        self.over = True
        raise StopIteration


@pytest.mark.parametrize(
    "response", [picture(0, b"one"), Response(error=TritonError("tritouch:failed"))], ids=["picture", "error"]
)
def test_responses_are_held_until_triton_has_answered_another_question(
    monkeypatch: pytest.MonkeyPatch, relay: Any, response: Response
) -> None:
    made, asked_of = [Held([response])], list[bool]()
    held = weakref.ref(made[0])
    monkeypatch.setattr(relay.pb_utils, "InferenceRequest", lambda **_: SimpleNamespace(exec=lambda **_: made.pop()))
    sender = Sender()

    def is_cancelled() -> bool:
        responses = held()
        asked_of.append(responses is not None and (responses.over or response.has_error()))
        return False

    monkeypatch.setattr(sender, "is_cancelled", is_cancelled)
    callers = SimpleNamespace(_lock=threading.Lock(), _senders={"ticket": sender}, enter=lambda _: "ticket")
    callers.leave = lambda _: None
    callers.settle = partial(relay.Callers.settle, callers)  # without the thread that asks, too
    asked(relay, callers, sender)
    assert asked_of == [True]
    assert len(sender.sent) == 1
    assert held() is None


def test_what_was_not_asked_for_is_not_sent(relay: Any, callers: Any, stream: Stream) -> None:
    stream.responses = [picture(0, b"one")]
    sender = Sender()
    asked(relay, callers, sender, wanted=["size", "image"])
    assert sender.sent == [({"image": [b"one"], "size": [8, 4]}, True)]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("tritouch:queue_full w", ("UNAVAILABLE", "tritouch:queue_full w")),
        ("in ensemble 'x', tritouch:expired w", ("INTERNAL", "tritouch:expired w")),
        ("tritouch:stopping w", ("UNAVAILABLE", "tritouch:stopping w")),
        ("tritouch:cancelled w", ("CANCELLED", "tritouch:cancelled w")),
        ("tritouch:image_unreadable w", ("INVALID_ARG", "tritouch:image_unreadable w")),
        ("tritouch:failed in tritouch:expired", ("INTERNAL", "tritouch:failed in tritouch:expired")),
        ("Stub process is not healthy", ("INTERNAL", "tritouch:failed Stub process is not healthy")),
    ],
)
def test_an_error_is_answered_as_it_came(
    relay: Any, callers: Any, stream: Stream, said: str, told: tuple[str, str]
) -> None:
    stream.responses = [failed(said)]
    sender = Sender()
    asked(relay, callers, sender)
    assert sender.sent == [(told, True)]


def test_no_picture_is_a_failure(relay: Any, callers: Any, stream: Stream) -> None:
    stream.responses = []
    sender = Sender()
    asked(relay, callers, sender)
    assert sender.sent == [(("INTERNAL", "tritouch:failed edit_stream answered nothing"), True)]


@pytest.mark.parametrize(
    ("given", "onward"),
    [
        ({}, {}),
        ({"parameters": '{"traceparent": "00-a", "other": 1}'}, {"traceparent": "00-a"}),
        (
            {"parameters": '{"traceparent": "00-a"}', "own": '{"traceparent": "00-b", "tracestate": "c=d"}'},
            {"traceparent": "00-b", "tracestate": "c=d"},
        ),
    ],
)
def test_the_callers_trace_is_handed_on(
    relay: Any, callers: Any, stream: Stream, given: dict[str, str], onward: dict[str, str]
) -> None:
    stream.responses = [picture(0, b"one")]
    asked(relay, callers, Sender(), **given)
    _, parameters, _ = stream.asked[0]
    del parameters["ticket"]
    assert parameters == onward


@pytest.mark.parametrize("lost", [0, 2])
def test_who_leaves_is_cancelled_until_that_is_heard(relay: Any, callers: Any, stream: Stream, lost: int) -> None:
    """The first cancellations may come before the request that they are about."""
    stream.responses, stream.waits, stream.lost = [failed("tritouch:cancelled w")], True, lost
    sender, stays = Sender(), Sender()
    sender.gone = True
    asked(relay, callers, sender)
    assert sender.sent == [(("CANCELLED", "tritouch:cancelled w"), True)]
    stream.responses, stream.waits = [picture(0, b"one")], False
    asked(relay, callers, stays)
    assert len(stays.sent) == 1

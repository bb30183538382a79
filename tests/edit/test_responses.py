"""The responses to one request, beside a stand-in for Triton's module: their outputs, and nothing after the end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from families.errors import InvalidEditError
from jobs import CancelledError, ExpiredError, QueueFullError, StoppingError
from tests.edit import stand_in
from tests.edit.harness import plan
from tests.edit.stand_in import Sender, int32

NUMBERS = {"num_inference_steps": int32(9), "guidance_scale": np.array([7.5]), "image_guidance_scale": np.array([1.5])}
TOLD = {name: array.tolist() for name, array in NUMBERS.items()}
RENDERED = {"image": np.array([b"a picture"], np.object_), "size": int32(8, 4)}
EVERY = ("image", "size", *NUMBERS, "tokens", "foretold", "step", "index", "partial_index")
SHOWN = {"image": [b"a picture"], "size": [8, 4]}


@pytest.fixture
def responses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield from stand_in.imported(monkeypatch, "responses")


def begun(
    responses: Any, pictures: int = 2, *, wanted: Sequence[str] = EVERY, ticketed: bool = False
) -> tuple[Any, Sender]:
    sender = Sender()
    made = responses.Responses(sender, NUMBERS, wanted, pictures, ticketed=ticketed)
    made.begun(replace(plan(1.0, 9), usage=(77, 20, 30)))
    return made, sender


def test_every_response_has_its_part_of_the_outputs_and_the_last_is_the_last(responses: Any) -> None:
    made, sender = begun(responses)
    made.step(1, 3)
    made.preview(0, 4, RENDERED)
    made.preview(0, 5, RENDERED)
    made.preview(1, 5, RENDERED)
    made.picture(1, RENDERED)
    made.picture(0, RENDERED, 4)
    assert sender.sent == [
        ({"step": [0, 9], **TOLD}, False),
        ({"step": [3, 9], "index": [1]}, False),
        ({**SHOWN, "step": [4, 9], "index": [0], "partial_index": [0]}, False),
        ({**SHOWN, "step": [5, 9], "index": [0], "partial_index": [1]}, False),
        ({**SHOWN, "step": [5, 9], "index": [1], "partial_index": [0]}, False),
        ({**SHOWN, "step": [9, 9], "index": [1], "tokens": [77, 20, 30], "foretold": [0], **TOLD}, False),
        ({**SHOWN, "step": [9, 9], "index": [0], "tokens": [77, 20, 30], "foretold": [4], **TOLD}, True),
    ]


def test_what_was_not_asked_for_is_not_sent(responses: Any) -> None:
    made, sender = begun(responses, 1, wanted=["index", "image"])
    made.step(0, 3)
    made.picture(0, RENDERED)
    assert sender.sent == [({}, False), ({"index": [0]}, False), ({"image": SHOWN["image"], "index": [0]}, True)]


def test_nothing_of_a_picture_follows_the_finished_one(responses: Any) -> None:
    made, sender = begun(responses)
    assert made.awaits(0)
    made.picture(0, RENDERED)
    made.step(0, 8)
    made.preview(0, 8, RENDERED)
    assert len(sender.sent) == 2
    assert [made.awaits(index) for index in (0, 1)] == [False, True]


def test_nothing_follows_an_error(responses: Any) -> None:
    made, sender = begun(responses)
    made.failed(ValueError("words"))
    made.failed(ValueError("others"))
    assert not made.awaits(0)
    made.step(0, 8)
    made.picture(0, RENDERED)
    assert sender.sent[1:] == [(("INTERNAL", "tritouch:failed words"), True)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (QueueFullError("w"), ("UNAVAILABLE", "tritouch:queue_full w")),
        (ExpiredError("w"), ("INTERNAL", "tritouch:expired w")),
        (StoppingError("w"), ("UNAVAILABLE", "tritouch:stopping w")),
        (CancelledError("w"), ("CANCELLED", "tritouch:cancelled w")),
        (InvalidEditError("prompt_invalid", "w"), ("INVALID_ARG", "tritouch:prompt_invalid w")),
        (ArithmeticError("w"), ("INTERNAL", "tritouch:failed w")),
    ],
)
def test_an_error_has_its_code_and_status(responses: Any, error: Exception, told: tuple[str, str]) -> None:
    made, sender = begun(responses)
    made.failed(error)
    assert sender.sent[1:] == [(told, True)]


def test_a_caller_over_grpc_is_asked_for_until_the_last_response(responses: Any) -> None:
    made, sender = begun(responses, 1)
    assert not made.cancelled()
    sender.gone = True
    assert made.cancelled()
    made.picture(0, RENDERED)
    assert not made.cancelled(), "the stand-in raises where it is asked"


def test_a_caller_with_a_ticket_says_so_itself(responses: Any) -> None:
    made, sender = begun(responses, ticketed=True)
    sender.gone = True
    assert not made.cancelled()
    made.cancel()
    assert made.cancelled()


def test_a_caller_with_a_ticket_gets_the_pictures_alone_and_together(responses: Any) -> None:
    made, sender = begun(responses, ticketed=True)
    made.step(0, 3)
    made.preview(0, 4, RENDERED)
    made.picture(1, RENDERED)
    assert sender.sent == [], "an error may yet have to be the first response"
    made.picture(0, RENDERED)
    assert [(told["index"], last) for told, last in sender.sent] == [([1], False), ([0], True)]
    failing, sender = begun(responses, ticketed=True)
    failing.picture(1, RENDERED)
    failing.failed(ValueError("words"))
    assert sender.sent == [(("INTERNAL", "tritouch:failed words"), True)]

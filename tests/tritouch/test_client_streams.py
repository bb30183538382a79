"""Streams as the client reads them: steps, previews and pictures, and what breaks them."""

import base64

import pytest

import tritouch
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import (
    STEPS,
    broken_after,
    failing,
    plain,
)
from tritouch import Client, Picture, Preview, Progress

SNOW = "make it snow"


def test_a_stream_tells_steps_previews_and_pictures(asks, server):
    events = asks("stream", jpeg(), SNOW, n=2, previews=2, seed=5)
    assert (
        server.asked[0].fields.items()
        >= {"stream": "true", "progress": "true", "partial_images": "2", "n": "2"}.items()
    )
    assert [event for event in events if isinstance(event, Progress)] == [
        Progress(step, STEPS, index) for index in (0, 1) for step in range(1, STEPS + 1)
    ]
    previews = [event for event in events if isinstance(event, Preview)]
    assert [(event.index, event.number, event.picture.seed) for event in previews] == [
        (0, 0, 5),
        (0, 1, 5),
        (1, 0, 6),
        (1, 1, 6),
    ]
    pictures = [event for event in events if isinstance(event, Picture)]
    assert [(event.index, event.seed) for event in pictures] == [(0, 5), (1, 6)]
    assert events[-1] == pictures[-1]
    assert [picture.content for picture in pictures] == [
        picture.content for picture in asks("edits", jpeg(), SNOW, 2, seed=5)
    ]


@pytest.mark.parametrize("error", [None, {"error": {"code": "unavailable", "message": "Try again."}}])
def test_a_broken_stream_goes_on_with_what_has_not_come(asks, server, waits, error):
    """After the first of two pictures, and two steps of the second."""
    server.script = [broken_after(STEPS + 3, error), failing(503, "unavailable")]
    events = asks("stream", jpeg(), SNOW, n=2)
    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1]
    assert [event.index for event in events if isinstance(event, Progress)] == [0] * STEPS + [1] * (2 + STEPS)
    assert len({(one.headers["idempotency-key"], str(one.fields)) for one in server.asked}) == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("code", "error"), [("edit_failed", tritouch.RefusedError), ("deadline_exceeded", tritouch.TimeOverError)]
)
def test_an_error_event_is_an_error(asks, server, waits, code, error):
    server.script = [broken_after(2, {"error": {"code": code, "message": "The edit failed."}})]
    with pytest.raises(error, match="The edit failed"):
        asks("stream", jpeg(), SNOW)
    assert len(server.asked) == 1


def test_a_stream_that_never_comes_whole_is_given_up(asks, server, waits):
    server.always = broken_after(2)
    with pytest.raises(tritouch.UnreachableError):
        asks("stream", jpeg(), SNOW, settings={"retries": 1})
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("completed", {}),
        ("completed", {"b64_json": base64.b64encode(b"none").decode()}),
        ("progress", {"step": float("inf"), "steps": STEPS}),
    ],
)
def test_an_event_that_cannot_be_read_is_told(asks, server, kind, event):
    server.script = [lambda handler, asked: handler.events(iter([(f"image_edit.{kind}", event)]))]
    with pytest.raises(tritouch.RefusedError, match="cannot be read"):
        asks("stream", jpeg(), SNOW)


def test_what_is_no_stream_is_told(asks, server):
    server.script = [plain(200, b"{}")]
    with pytest.raises(tritouch.RefusedError, match="does not stream"):
        asks("stream", jpeg(), SNOW)


def test_a_stream_may_be_left(server):
    with Client() as client:
        assert isinstance(next(client.stream(jpeg(), SNOW)), Progress)
        assert client.edit(jpeg(), SNOW).width == 16

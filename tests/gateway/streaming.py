"""Streams as callers see them: their events one by one, and what is still held afterwards."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.gateway.asking import EDITS, body
from tests.gateway.serving import Gateway

Event = tuple[str, dict[str, Any]]


def watched(**fields: Any) -> dict[str, Any]:
    """A good JSON body that asks for a stream."""
    return body(stream=True, **fields)


@contextmanager
def opened(gateway: Gateway, path: str = EDITS, timeout: float = 60, **request: Any) -> Iterator[httpx.Response]:
    """A stream that has begun."""
    if not request.keys() & {"json", "content", "files", "data"}:
        request["json"] = watched()
    with (
        httpx.Client(base_url=gateway.url, timeout=timeout, trust_env=False) as client,
        client.stream("POST", path, **request) as answer,
    ):
        yield answer


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """Its events as they come; a comment is one whose name is empty."""
    name = ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
            name = ""
        elif line:
            assert line == ": ping"
            yield "", {}


def streamed(gateway: Gateway, path: str = EDITS, **request: Any) -> list[Event]:
    """All events of a stream that succeeds."""
    with opened(gateway, path, **request) as answer:
        assert answer.status_code == 200, answer.read()
        return [*events_of(answer)]


def held(gateway: Gateway) -> tuple[int, ...]:
    """How much is where, of what someone waits for; zeros when nothing is under way."""
    edits = gateway.app.state.edits
    gates = (edits.arriving.inside, edits.callers.inside, edits.running.inside, edits.streams.inside)
    return (*gates, edits.memory.awaited)


NOTHING = (0, 0, 0, 0, 0)

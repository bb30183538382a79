"""Callers who edit without a pause through the door, one answer after the other, unary and by streams."""

import base64
import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from tests.containers.engine import eventually
from tests.gateway.streaming import events_of
from tests.server.asking import colours, png

SEEDS = 8
"""Edits of one seed are one picture, whoever makes it."""
PAUSE_SECONDS = 0.3
SECONDS = 300
"""Longest time for one edit: that of the gateway."""
SMALL: dict[str, Any] = {"image": {"image": base64.b64encode(png(colours(64, 64))).decode()}, "num_inference_steps": 1}


@dataclass(frozen=True)
class Answer:
    """`code`: "ok", or an error's; `picture`: rows of RGB as base64, of a unary edit."""

    number: int
    streamed: bool
    code: str
    picture: str = ""


def edit(url: str, fields: dict[str, Any], number: int, streamed: bool) -> Answer:
    """One edit, sent once."""
    body = {"prompt": "make it red", "seed": number % SEEDS, "response_format": "jpeg" if streamed else "raw", **fields}
    with httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as client:
        if not streamed:
            answer = client.post("/v1/images/edits", json=body).json()
            return Answer(
                number, streamed, answer["error"]["code"] if "error" in answer else "ok", answer.get("image", "")
            )
        with client.stream("POST", "/v1/images/edits", json=body | {"stream": True}) as response:
            if response.status_code != 200:
                return Answer(number, streamed, json.loads(response.read())["error"]["code"])
            names = Counter(name for name, _ in events_of(response) if name)
    whole = names == Counter({"image_edit.completed": body.get("n", 1)})
    return Answer(number, streamed, "ok" if whole else "unavailable" if "error" in names else f"{names}")


class Load:
    """Answers as they come; `number` counts the edits that were sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[Answer] = []
        self._numbers = itertools.count()
        self._over = threading.Event()

    def call(self, streamed: bool) -> None:
        """One caller, until the load is over."""
        while not self._over.is_set():
            self.answers.append(edit(self.url, SMALL, next(self._numbers), streamed))
            self._over.wait(PAUSE_SECONDS)

    def more(self, number: int) -> None:
        """Returns when so many more are answered."""
        wanted = len(self.answers) + number
        eventually(lambda: len(self.answers) >= wanted, f"{number} more edits are not answered", 300)

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def load(url: str, unary: int, streams: int) -> Iterator[Load]:
    """So many callers of each kind for the block. Each waits for an answer to its last edit."""
    made = Load(url)
    with ThreadPoolExecutor(unary + streams) as pool:
        calls = [pool.submit(made.call, number < streams) for number in range(unary + streams)]
        try:
            yield made
        finally:
            made.end()
        for one in calls:
            one.result()

"""Callers while something is changed under them."""

import contextlib
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.containers.engine import eventually
from tests.containers.stack import URL, Answer, Stack
from tests.server.asking import colours

CALLERS = 3
LONG_EDITS = 4
"""At once; each fills a call of the denoiser by itself, so that they take turns."""
LONG: dict[str, Any] = {"num_inference_steps": 50, "guidance_scale": 7.5, "image_guidance_scale": 1.5}
"""Fields of an edit that takes its time."""


@contextlib.contextmanager
def load(stack: Stack) -> Iterator[list[Answer]]:
    """Small edits by several callers, one after the other each; their answers. Some come before the block begins."""
    answers: list[Answer] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            answers.append(stack.edit(colours(64, 64), num_inference_steps=2))
            over.wait(0.1)

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(call) for _ in range(CALLERS)]
        try:
            eventually(lambda: len(answers) > CALLERS, "no edit is answered")
            yield answers
        finally:
            over.set()
        for one in calls:
            one.result()


@contextlib.contextmanager
def long_edits(stack: Stack) -> Iterator[list[Future[Answer]]]:
    """Edits that all are in flight when the block begins, and for a while after."""
    with ThreadPoolExecutor(LONG_EDITS) as pool:
        edits = [pool.submit(stack.edit, colours(256, 256), "make it red", seed=n, **LONG) for n in range(LONG_EDITS)]
        eventually(lambda: _in_flight() == len(edits), "the edits are not in flight")
        yield edits


def _in_flight() -> float:
    with urllib.request.urlopen(f"{URL}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    (figure,) = (line.split()[1] for line in lines if line.startswith("tritouch_gateway_edits_in_flight "))
    return float(figure)

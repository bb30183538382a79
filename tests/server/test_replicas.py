"""Two real Tritons side by side, one of which is killed under load: every edit and every stream is answered."""

import base64
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedded.replica import Replica
from embedded.server import Embedded, serve
from embedded.settings import Settings
from tests.gateway.streaming import events_of
from tests.server.asking import Client, colours, eventually, png
from tests.server.faults import Faults

pytestmark = pytest.mark.long

PICTURE = colours(64, 64)
CALLERS, EDITS = 6, 5
LEVELS = 2
"""By how much pictures of one seed may differ that shared calls with others."""


@pytest.fixture(scope="module")
def pair(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Embedded, Faults]]:
    """Both, as `python -m embedded --replicas 2` keeps them, with a denoiser that takes its time."""
    faults = Faults(tmp_path_factory.mktemp("pair"), repository)
    with serve(faults.repository, port=0, settings=Settings(triton_replicas=2)) as running:
        watching = threading.Thread(target=running.watch, args=(print,))
        watching.start()
        yield running, faults
        running.stop()
        watching.join()


def figure(triton: Replica, pattern: str) -> float:
    """The sum of what matches in the metrics of one Triton; 0 of one that does not run."""
    try:
        with urllib.request.urlopen(triton.metrics_url, timeout=60) as answer:
            text = answer.read().decode()
    except OSError:
        return 0
    return sum(map(float, re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)))


def active(triton: Replica) -> float:
    return figure(triton, r'tritouch_edits_in_flight\{.*state="active".*\}')


def done(triton: Replica) -> float:
    return figure(triton, r'tritouch_edits_total\{.*outcome="done".*\}')


def sent_again(client: Client) -> float:
    with urllib.request.urlopen(f"{client.server.http_url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^tritouch_gateway_sent_again_total\{.*\} (\S+)$", text, re.MULTILINE)))


def streamed(client: Client, **fields: Any) -> list[str]:
    """The names of the events of a stream."""
    image = base64.b64encode(png(PICTURE)).decode()
    body = {"image": {"image": image}, "prompt": "make it red", "stream": True} | fields
    url = f"{client.server.http_url}/v1/images/edits"
    with httpx.stream("POST", url, json=body, timeout=120, trust_env=False) as answer:
        assert answer.status_code == 200, answer.read()
        return [name for name, _ in events_of(answer)]


def test_one_is_killed_under_load_and_every_edit_is_answered(pair: tuple[Embedded, Faults]) -> None:
    running, faults = pair
    client, (dying, living) = Client(running), running.tritons
    expected = client.edit(PICTURE, num_inference_steps=20, seed=7).pixels.astype(int)
    faults.set(delay=0.2)

    def caller(_: int) -> list[int]:
        answers = [client.edit(PICTURE, num_inference_steps=20, seed=7) for _ in range(EDITS)]
        return [int(np.abs(answer.pixels.astype(int) - expected).max()) for answer in answers]

    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [pool.submit(caller, number) for number in range(CALLERS)]
        assert eventually(lambda: active(dying) >= 2 and active(living) >= 2)
        pid = living.service.pid
        os.kill(dying.service.pid, signal.SIGKILL)
        faults.set(delay=0.02)
        differences = [difference for one in asked for difference in one.result(300)]
    assert len(differences) == CALLERS * EDITS
    assert max(differences) <= LEVELS, "the picture of its seed, wherever it was made"
    assert sent_again(client) >= 2
    assert living.service.pid == pid
    faults.set()
    assert eventually(lambda: client.edit(PICTURE, num_inference_steps=1).status == 200 and done(dying) > 0)


def test_a_stream_that_has_only_begun_goes_on_at_the_other(pair: tuple[Embedded, Faults]) -> None:
    running, faults = pair
    client = Client(running)
    faults.set(delay=0.3)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(streamed, client, num_inference_steps=10)
        assert eventually(lambda: sum(map(active, running.tritons)) == 1)
        (dying,) = [triton for triton in running.tritons if active(triton)]
        faults.set()
        os.kill(dying.service.pid, signal.SIGKILL)
        assert told.result(120) == ["image_edit.completed"]

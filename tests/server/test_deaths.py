"""Every process of the real Triton killed in turn, and Triton stopped, under load: nobody gets a final error."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from embedded.server import Embedded, serve
from tests.embedded.asking import looked
from tests.server.asking import Answer, Client, colours, eventually
from tests.server.faults import Faults

pytestmark = pytest.mark.long

PICTURE = colours(64, 64)
STEP = 0.2
"""Seconds that a slow denoiser waits."""
WAITS = (0.0,) * 20


@contextmanager
def kept_alive(repository: Path) -> Iterator[tuple[Embedded, list[str]]]:
    """The servers as `python -m embedded` keeps them, and what is told meanwhile."""
    told: list[str] = []
    with serve(repository, port=0) as running:
        watching = threading.Thread(target=running.watch, args=(told.append, WAITS))
        watching.start()
        yield running, told
        running.stop()
        watching.join()


def python_processes(running: Embedded) -> dict[str, int]:
    """Triton's Python processes, by the instance that each is for."""
    children = psutil.Process(running.triton_pid).children()
    return {child.cmdline()[8]: child.pid for child in children}


def right(answer: Answer) -> bool:
    """Whether it is the picture, or a reason to come again."""
    return answer.status == 200 or (answer.status == 503 and "retry-after" in answer.headers)


def under_load(pool: ThreadPoolExecutor, client: Client) -> list["Future[Answer]"]:
    """Edits, some of which have begun, and all of which take a while."""
    asked = [pool.submit(client.edit, PICTURE, num_inference_steps=50) for _ in range(6)]
    assert eventually(lambda: client.figure("tritouch_edits_in_flight", state="active") == 6)
    return asked


def test_every_process_of_triton_may_die(repository: Path, tmp_path: Path) -> None:
    faults = Faults(tmp_path, repository)
    with kept_alive(faults.repository) as (running, told), ThreadPoolExecutor(8) as pool:
        client = Client(running)
        names = sorted(python_processes(running))
        assert len(names) == 11, "three of preprocess, and the denoiser has an engine behind it"
        for name in names:
            assert eventually(lambda: client.edit(PICTURE, num_inference_steps=1).status == 200)
            faults.set(delay=STEP)
            asked = under_load(pool, client)
            looked(psutil.Process(running.triton_pid).ppid())
            os.kill(python_processes(running)[name], signal.SIGKILL)
            assert eventually(lambda: client.status("/readyz") == 503), name
            answers = [one.result(120) for one in asked] + [client.edit(PICTURE)]
            assert all(map(right, answers)), (name, Counter(answer.status for answer in answers))
            assert client.status("/livez") == 200
            faults.set()
        assert eventually(lambda: client.edit(PICTURE, num_inference_steps=1).status == 200)
    assert len(told) == len(names)
    assert all("has died" in line and "\n" not in line for line in told)


def test_a_stop_of_triton_lets_edits_finish_and_refuses_new_ones_for_now(repository: Path, tmp_path: Path) -> None:
    faults = Faults(tmp_path, repository)
    faults.set(delay=STEP)
    with serve(faults.repository, port=0) as running, ThreadPoolExecutor(8) as pool:
        client = Client(running)
        asked = under_load(pool, client)
        stopping = pool.submit(running.restart_triton)
        refused = []
        while not any(one.done() for one in asked):
            refused.append(client.edit(PICTURE, num_inference_steps=1))
        assert [one.result().status for one in asked] == [200] * 6
        late = [answer for answer in refused if answer.status != 200]
        assert len(late) >= 5
        assert all(map(right, late))
        while not stopping.done():
            assert right(client.edit(PICTURE, num_inference_steps=1))
        stopping.result()
        assert eventually(lambda: client.edit(PICTURE, num_inference_steps=1).status == 200)


def test_a_signal_to_triton_itself_is_no_final_error(repository: Path) -> None:
    """Nobody sends it one but who goes past its supervisor: what is in flight is lost then, and can come again."""
    with kept_alive(repository) as (running, told), ThreadPoolExecutor(8) as pool:
        client = Client(running)
        large = colours(256, 256)
        asked = [pool.submit(client.edit, large, num_inference_steps=50) for _ in range(6)]
        assert eventually(lambda: client.figure("tritouch_edits_in_flight", state="active") > 0)
        os.kill(running.triton_pid, signal.SIGTERM)
        while not told:
            assert right(client.edit(PICTURE, num_inference_steps=1))
        assert all(right(one.result()) for one in asked)
        assert eventually(lambda: client.edit(PICTURE, num_inference_steps=1).status == 200)

"""Processes that make components and are ended leave no complaint of Python's behind."""

import subprocess
import sys

import pytest

from export import workers
from tests.conftest import ROOT

ENDED = """
import multiprocessing, time
from tqdm.auto import tqdm
from export import bars

def child(begun, locked):
    if locked:
        bars.lock_bars_by_threads()
    list(tqdm(range(2), disable=True))
    begun.put(None)
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    begun = context.SimpleQueue()
    process = context.Process(target=child, args=(begun, LOCKED))
    process.start()
    begun.get()
    process.terminate()
    process.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", [workers.COPIED, workers.ANEW])
@pytest.mark.parametrize(("locked", "complains"), [(True, False), (False, True)])
def test_a_process_that_is_ended_leaves_no_lock(
    locked: bool, complains: bool, method: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("ended") / "ended.py"
    file.write_text(ENDED.replace("LOCKED", str(locked)).replace("METHOD", method))
    command = [sys.executable, str(file)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert ("leaked semaphore" in done.stderr) == complains

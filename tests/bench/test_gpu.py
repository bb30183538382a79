"""The measurements for a GPU, as far as they go without one: nothing that fails takes the rest with it."""

import json
import subprocess
import sys
import time

import pytest

from backends.gpu import find_gpu
from bench.gpu import counter, run_part
from tests.conftest import ROOT

LINE = "import json; print(json.dumps({'part': 'a', 'ms': 1}), flush=True); "


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("", None),
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("import os; os.abort()", "exit code -6"),
        ("import time; time.sleep(60)", "not done in 5 s"),
    ],
)
def test_a_part_that_ends_badly_keeps_its_results_and_says_so(capfd, code, failure):
    began = time.monotonic()
    failed = run_part("a", [sys.executable, "-c", LINE + code], 5.0)
    assert time.monotonic() - began < 50
    first, *rest = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert first == {"part": "a", "ms": 1}
    assert failed == (failure is not None)
    assert len(rest) == int(failed)
    assert all(line["part"] == "a" and failure in line["failed"] for line in rest)


def test_a_part_that_hangs_takes_its_own_processes_with_it(tmp_path):
    file = tmp_path / "late"
    child = f"import time; time.sleep(3); open({str(file)!r}, 'w')"
    run_part(
        "a", [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"], 1
    )
    time.sleep(3)
    assert not file.exists()


def test_counters_are_summed_over_their_labels():
    assert (
        counter('tritouch_x_total{model="edit"} 2\ntritouch_x_total{model="b"} 1.5\nother 7\n', "tritouch_x_total")
        == 3.5
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/folder"], "bench/gpu.sh: there is no folder no/such/folder"),
        (["one", "two"], "usage: bench/gpu.sh [WHEELS]"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_made(arguments, words):
    done = subprocess.run(["sh", ROOT / "bench" / "gpu.sh", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (2, words)


def test_without_a_gpu_it_says_so():
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "bench.gpu: this machine shows no NVIDIA GPU\n")

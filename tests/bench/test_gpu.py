"""The measurements for a GPU, as far as they go without one: nothing that fails takes the rest with it."""

import json
import os
import select
import subprocess
import sys
from importlib import metadata

import pytest

from backends.gpu import find_gpu
from bench import gpu, link_packages
from bench.gpu import run_part
from tests.conftest import ROOT

PYTHON = [sys.executable, "-S", "-c"]
LINE = """print('{"part": "a", "ms": 1}', flush=True); """


@pytest.mark.parametrize(
    ("code", "most", "failure"),
    [
        ("", 30, None),
        ("raise MemoryError('no room')", 30, "MemoryError: no room"),
        ("import os; os.abort()", 30, "exit code -6"),
        pytest.param("import time; time.sleep(600)", 3, "not done in 3 s", marks=pytest.mark.slow),
    ],
)
def test_a_part_that_ends_badly_keeps_its_results_and_says_so(capfd, code, most, failure):
    failed = run_part("a", [*PYTHON, LINE + code], most)
    first, *rest = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert first == {"part": "a", "ms": 1}
    assert failed == (failure is not None)
    assert len(rest) == int(failed)
    assert all(line["part"] == "a" and failure in line["failed"] for line in rest)


@pytest.mark.slow
def test_a_part_that_hangs_takes_its_own_processes_with_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import time; w = open({str(pipe)!r}, 'wb', 0); w.write(b'begun'); time.sleep(600); w.write(b', done')"
    run_part("a", [*PYTHON, f"import subprocess; subprocess.run([*{PYTHON!r}, {child!r}])"], 3)
    ended = select.poll()
    ended.register(reader, select.POLLHUP)
    assert ended.poll(60_000), "its process has the pipe open still"
    assert os.read(reader, 99) == b"begun"
    os.close(reader)


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


def test_packages_of_the_machine_are_linked_but_those_of_a_version_that_is_there(tmp_path):
    machine, folder = tmp_path / "machine", tmp_path / "venv"
    for where, name, version in ((machine, "NumPy", "2.5"), (machine, "torch", "2.11"), (folder, "numpy", "1.26")):
        (where / name.lower()).mkdir(parents=True)
        (where / name.lower() / "version.py").write_text(version)
        record = where / f"{name.lower()}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (machine / "alone.py").touch()
    link_packages.link(machine, folder)
    found = {one.name.lower(): one.version for one in metadata.distributions(path=[str(folder)])}
    assert found == {"numpy": "1.26", "torch": "2.11"}
    assert [(folder / name / "version.py").read_text() for name in found] == list(found.values())
    assert (folder / "alone.py").exists()
    link_packages.link(machine, folder)  # again, as it does where two folders are one


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 2
    assert capsys.readouterr().err == "bench.gpu: this machine shows no NVIDIA GPU\n"

"""What `make` says on machines that have no Python that fits, and how it runs tests in processes, of stand-ins."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.embedded.asking import until

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make_setup(folder: Path, *tools: Path) -> subprocess.CompletedProcess[str]:
    """`make setup` in a copy, of all programs with a shell, make and `tools` alone."""
    (folder / "bin").mkdir()
    for tool in (*(Path(str(shutil.which(name))) for name in ("make", "sh")), *tools):
        (folder / "bin" / tool.name).symlink_to(tool)
    for name in ("Makefile", "requirements/cpu.lock", "requirements/tools.lock"):
        copy = folder / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    variables = {"PATH": str(folder / "bin"), "HOME": str(folder), "UV_OFFLINE": "1"}
    return subprocess.run(["make", "setup"], cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("tools", "command"),
    [([], "curl -LsSf https://astral.sh/uv/install.sh | sh"), (["uv"], "uv python install 3.12")],
    ids=["without uv", "with uv, without a network"],
)
def test_a_machine_without_a_fitting_python_is_told_the_one_command(tmp_path, tools, command):
    done = make_setup(tmp_path, *(Path(sys.prefix) / "bin" / tool for tool in tools))
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line.startswith("Python 3.11 or 3.12 with venv is needed.")]
    assert len(told) == 1
    assert told[0].endswith(f": {command}")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("installed", "given", "exports"),
    [
        (True, [], False),
        (False, [], True),
        (True, ["CHECKPOINT=mine"], True),
        (True, ["EXPORT_FLAGS=--precision fp32"], True),
    ],
)
def test_what_is_installed_is_served_and_not_replaced_unless_an_export_is_asked_for(
    tmp_path, installed, given, exports
):
    if installed:
        (tmp_path / "edit" / ".tritouch" / "current").mkdir(parents=True)
    variables = {name: value for name, value in os.environ.items() if name not in ("CHECKPOINT", "EXPORT_FLAGS")}
    command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "--dry-run", "up", f"REPOSITORY={tmp_path}", *given]
    said = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout
    assert ("-m export" in said) is exports
    assert said.splitlines()[-1].endswith(f"-m embedded --repository {tmp_path}")


PROCESSES = {"test": 4, "test-families": 2, "test-long": 2}
SERVED = "(server or exported)"


def make_tests(folder: Path, target: str, script: str) -> list[str]:
    """A command, to be run in `folder`: a target of tests, of which `script` stands in for Python.

    It knows nothing of a `make` that runs this test.
    """
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    alone = ["env", "--default-signal=INT", "-u", "MAKEFLAGS", "-u", "MAKELEVEL"]
    return [*alone, "make", "-o", ".venv/.ready", target, "PYTHON=./python"]


@pytest.mark.parametrize("failing", ["", f"and {SERVED}", f"and not {SERVED}"], ids=["none", "served", "beside"])
@pytest.mark.parametrize("target", PROCESSES)
def test_each_test_is_in_one_process_and_any_may_fail(tmp_path, target, failing):
    script = f"""echo "said: $*"; case "$*" in *"{failing or "nothing"}"*) exit 1; esac"""
    done = subprocess.run(
        make_tests(tmp_path, target, script), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == (2 if failing else 0), done.stderr
    said = re.findall(rf"^said: -m pytest -m (.*) and ((?:not )?){re.escape(SERVED)}(.*)$", done.stdout, re.MULTILINE)
    assert len(said) == PROCESSES[target]
    assert len({marks for marks, _, _ in said}) == 1
    assert [where for _, beside, where in said if not beside] == [""]
    besides = sorted(where.split() for _, beside, where in said if beside)
    left_out = sorted(folder.removeprefix("--ignore=") for folder in besides[0])
    assert sorted(folder for others in besides[1:] for folder in others) == left_out, "what one leaves out another has"


@pytest.mark.parametrize("target", PROCESSES)
def test_ctrl_c_ends_all(tmp_path, target):
    command = make_tests(tmp_path, target, "echo > $$; exec sleep 600")
    group = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert until(lambda: len(list(tmp_path.glob("[0-9]*"))) == PROCESSES[target])
    running = [psutil.Process(int(file.name)) for file in tmp_path.glob("[0-9]*")]
    os.killpg(group.pid, signal.SIGINT)
    group.communicate(timeout=120)
    assert group.returncode != 0
    assert not psutil.wait_procs(running, timeout=120)[1]


@pytest.mark.parametrize("failing", ["", "SECOND"])
def test_what_is_run_after_every_edit_runs_in_three_processes_with_few_generated_cases(tmp_path, failing):
    """`SECOND`: the process that has `tests/embedded` among its folders fails."""
    ends = {"SECOND": 'case "$*" in *" tests/embedded"*) exit 1; esac'}.get(failing, "")
    command = make_tests(tmp_path, "test-fast", f'echo "said: $GENERATED_CASES $*"; {ends}')
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == (2 if failing else 0), done.stderr
    said = re.findall(r"^said: 20 -m pytest (.*)$", done.stdout, re.MULTILINE)
    assert len(said) == 3 or failing

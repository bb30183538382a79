"""Components are made in processes of their own: one that is killed, and Ctrl-C, are one line and leave nothing."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, export_command
from tests.server.asking import eventually

pytestmark = pytest.mark.slow


def begun(checkpoint: Path, repository: Path) -> "subprocess.Popen[str]":
    """An export whose components are being made."""
    command = export_command(checkpoint, repository, routes={})
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command],  # a shell's background jobs pass on that they ignore Ctrl-C
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: any((repository / "edit/.tritouch/store").glob(".unfinished-*/1")))
    return process


def makers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that make components: those that are busy."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.cpu_times().user > 0.5:
                found.append(child)
    return found


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGKILL, 1, "was killed or crashed (is there enough memory?); nothing was installed"),
        (signal.SIGINT, 130, "export: interrupted; the repository is as it was"),
        (signal.SIGTERM, 130, "export: interrupted; the repository is as it was"),
    ],
    ids=["one is killed", "Ctrl-C", "the export is asked to end"],
)
def test_what_ends_an_export_early_is_one_line(
    checkpoint: Path, tmp_path: Path, number: signal.Signals, code: int, words: str
) -> None:
    process = begun(checkpoint, tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    if number == signal.SIGKILL:
        assert eventually(lambda: bool(makers(process)))
        os.kill(makers(process)[-1].pid, number)
    else:
        os.kill(process.pid, number)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == code, said
    assert [line for line in said.splitlines() if line.startswith("export: ")][-1].endswith(words)
    assert "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=240)[1], "none of its processes is left"
    assert not (tmp_path / "edit/.tritouch/current").exists()
    assert not list((tmp_path / "edit/.tritouch").rglob(".unfinished-*"))


def test_an_export_that_is_killed_leaves_no_process(checkpoint: Path, tmp_path: Path) -> None:
    process = begun(checkpoint, tmp_path)
    assert eventually(lambda: bool(makers(process)))
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert not psutil.wait_procs(family, timeout=240)[1]
    process.communicate(timeout=240)


DRIVER = """
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGet(int *d, int o) { *d = o; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGetUuid_v2(char *u, int d) { memset(u, 7, 16); return 0; }
int cuDeviceGetName(char *n, int l, int d) { strcpy(n, "NVIDIA L4"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 9; return 0; }
"""


@pytest.mark.long
def test_beside_a_gpu_components_are_made_in_processes_that_are_no_copies(checkpoint: Path, tmp_path: Path) -> None:
    """torch's CUDA build refuses to trace in a copy of a process that has asked for CUDA."""
    (tmp_path / "cuda.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "cuda.c", "-o", "libcuda.so.1"], cwd=tmp_path, check=True)
    command, beside = export_command(checkpoint, tmp_path / "repository", routes={}), {"LD_LIBRARY_PATH": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **beside}, stderr=subprocess.PIPE, text=True)
    assert eventually(lambda: bool(makers(process)))
    commands = {" ".join(maker.cmdline()) for maker in makers(process)}
    assert all("spawn_main" in command for command in commands), commands
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert (tmp_path / "repository" / "denoiser" / "1").is_dir()

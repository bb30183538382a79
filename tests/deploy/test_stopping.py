"""A container of Triton's that is stopped before Triton runs: it ends, although it is the first process."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from embedded.command import supervised
from tests.embedded.asking import until

from .conftest import base_environment, dockerfile_commands, run_here

FIRST = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def opened(fifo: Path) -> list[int]:
    """The end to write to, once somebody waits at the other one."""
    try:
        return [os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)]
    except OSError:
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_container_that_looks_at_its_engines_ends_when_it_is_told_to(
    installed: dict[str, str], tmp_path: Path, number: int
) -> None:
    if subprocess.run([*FIRST, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel allows no namespaces of one's own")
    (tmp_path / "denoiser").mkdir()
    record = tmp_path / "denoiser" / "component.json"
    os.mkfifo(record)
    command = [*FIRST, *run_here(dockerfile_commands()["triton"])]
    container = subprocess.Popen(command, env=base_environment() | installed)
    writing: list[int] = []
    assert until(lambda: writing.extend(opened(record)) or writing)
    (first,) = psutil.Process(container.pid).children()
    first.send_signal(number)
    assert container.wait(60) == 128 + number
    os.close(writing[0])


def test_a_signal_that_comes_before_the_supervisor_is_ready_has_it_start_nothing(tmp_path: Path) -> None:
    def held_back() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    command = supervised(["touch", str(tmp_path / "started")], 1, "--stop-file", str(tmp_path / "stop"))
    done = subprocess.run(command, preexec_fn=held_back, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())

"""The toy repository, and a look at the process table."""

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from embedded.settings import ROOT
from tests.toy import build

from .asking import until


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository, to be left as it is."""
    return build(tmp_path_factory.mktemp("repository"))


class Marked:
    """Processes that inherited one environment variable, found however they were orphaned."""

    def __init__(self) -> None:
        self.env = {"TRITOUCH_TEST_MARK": uuid.uuid4().hex}
        self._text = "TRITOUCH_TEST_MARK={TRITOUCH_TEST_MARK}".format(**self.env).encode()

    def pids(self, name: str = "") -> list[int]:
        """Living processes, or those of them that run the program ``name``."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # A zombie has no environment any more.
                if self._text in (process / "environ").read_bytes():
                    program = (process / "cmdline").read_text().split("\0", 1)[0]
                    if name in {"", Path(program).name}:
                        found.append(int(process.name))
        return found

    def gone(self) -> bool:
        """Whether all are gone, sooner or later."""
        return until(lambda: not self.pids())


def wait_busy(pid):
    """Wait until a process that had nothing to do has computed for a third of a second."""

    def used():
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])

    before = used()
    assert until(lambda: used() >= before + os.sysconf("SC_CLK_TCK") / 3)


@pytest.fixture
def marked() -> Marked:
    return Marked()


@pytest.fixture
def command(marked, tmp_path_factory):
    """Starts ``python -m embedded``, every process of which bears the mark."""
    started = []
    folder = tmp_path_factory.mktemp("runs")

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **marked.env, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()

"""`python -m demo` with what it cannot show: one line, and nothing is started."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--image", "none.jpg"], "No such file or directory: "),
        (["--image", "demo/README.md"], "cannot identify image file "),
        (["--sheet", "/dev/null/demo.png"], "File exists: '/dev/null'"),
    ],
)
def test_what_cannot_be_read_or_written_is_told_before_anything_starts(flags: list[str], said: str) -> None:
    command = [sys.executable, "-m", "demo", "--repository", "/dev/null", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("demo: ")
    assert said in line

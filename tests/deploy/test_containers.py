"""`make test-containers` where containers cannot run: one line that says so, or a failure where they must."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

REASON = "containers cannot run here: "


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    """The tests of containers, for which nothing of this machine can be found."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "containers", "tests/containers"]
    env = {**os.environ, "PATH": "/nonexistent", **variables}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_they_are_skipped_in_one_line_and_not_silently():
    done = run(TRITOUCH_REQUIRE_CONTAINERS="")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(REASON) == 1
    assert "passed" not in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_they_fail_where_they_are_required():
    done = run(TRITOUCH_REQUIRE_CONTAINERS="1")
    assert done.returncode == 1, done.stdout
    assert REASON in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]

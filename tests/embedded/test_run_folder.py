"""The folder of one run: made, filled, kept from who clears away what is old, and left behind."""

import fcntl
import os
import subprocess
import sys

import pytest

from embedded.errors import EmbeddedError
from embedded.run_folder import by_a_plain_path, run_folder
from embedded.server import Embedded
from embedded.settings import ROOT, Settings


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/below"])
def test_a_run_folder_that_cannot_be_made_is_a_line_and_code_2(tmp_path, folder):
    (tmp_path / "edit").mkdir()
    (tmp_path / "edit" / "config.pbtxt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "embedded", "--port", "0", "--repository", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TRITOUCH_RUN_FOLDER": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"embedded: no run folder can be made in {folder}: ")


def test_a_run_folder_that_cannot_be_filled_is_named(tmp_path):
    with pytest.raises(EmbeddedError, match=f"^the run folder {tmp_path / 'gone'} cannot be filled: "):
        Embedded(Settings(), tmp_path, tmp_path / "gone", {})


@pytest.mark.parametrize("name", ["my runs", "a&b", "it's", "$HOME", "(1)", "a;b"])
def test_a_run_folder_that_a_shell_has_wrong_is_refused(tmp_path, name):
    with (
        pytest.raises(EmbeddedError, match=r"hands its path to a shell.*TRITOUCH_RUN_FOLDER"),
        run_folder(tmp_path / name),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "linked"), [("models-1.0_a,b=c@d+e%", False), ("my models", True), ("a&b", True), ("modèles", True)]
)
def test_a_repository_that_a_shell_has_wrong_is_served_by_a_link(tmp_path, name, linked):
    repository = tmp_path / name
    repository.mkdir()
    with run_folder(tmp_path / "runs") as run:
        served = by_a_plain_path(repository, run)
        assert served == (run / "repository" if linked else repository)
        assert served.resolve() == repository
    assert not run.exists(), "with nothing in it but the link"
    assert repository.exists()


def test_a_run_folder_is_locked_as_long_as_it_is_in_use(tmp_path):
    """So does systemd-tmpfiles ask whether a folder of /tmp may go in which nothing has changed for ten days."""
    with run_folder(tmp_path) as run:
        (run / "log").touch()
        descriptor = os.open(run, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_run_folder_that_others_removed_hides_no_failure(tmp_path):
    def fail():
        with run_folder(tmp_path) as run:
            run.rmdir()
            raise EmbeddedError("the cause")

    with pytest.raises(EmbeddedError, match="the cause"):
        fail()

"""What the tests share: a stand-in checkpoint, its repository in exact arithmetic, and one running server."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPORT = [sys.executable, "-m", "export", "--engine", "openvino", "--precision", "fp32"]
SMALL = ["--max-pixels", str(256 * 256), "--max-batch", "8"]

os.environ["HF_HUB_OFFLINE"] = "1"
logging.getLogger("transformers").setLevel(logging.ERROR)


def run_export(checkpoint: Path, repository: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`python -m export` as a user runs it; in fp32 and small unless `flags` say otherwise."""
    command = [*EXPORT, *SMALL, "--model", str(checkpoint), "--repository", str(repository), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.standin import build

        return build(tmp_path_factory.mktemp("checkpoint") / "stand-in")


@pytest.fixture(scope="session")
def repository(checkpoint: Path) -> Path:
    """The stand-in's repository: OpenVINO, fp32, at most 256 x 256 pixels and 8 rows.

    Kept between runs: an export skips what is up to date.
    """
    folder = ROOT / "build" / "test-repository"
    done = run_export(checkpoint, folder)
    assert done.returncode == 0, done.stderr
    return folder

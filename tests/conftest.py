"""What the tests share: a stand-in checkpoint, its repository in exact arithmetic, and one running server."""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPORT = [sys.executable, "-m", "export", "--engine", "openvino", "--precision", "fp32"]
SMALL = ["--max-pixels", str(256 * 256), "--max-batch", "8"]
ADAPTERS = ROOT / "build" / "test-adapters"
ROUTES = {"ink": "ink:0.7", "kohya": "kohya.safetensors", "oil": "oil:1", "settings": "settings:-0.5"}
"""The adapters of the stand-in's repository, as `tests.loras.write` leaves them: file and scale by route."""

os.environ["HF_HUB_OFFLINE"] = "1"
logging.getLogger("transformers").setLevel(logging.ERROR)


def run_export(
    checkpoint: Path, repository: Path, *flags: str, routes: Mapping[str, str] = ROUTES
) -> subprocess.CompletedProcess[str]:
    """`python -m export` as a user runs it; in fp32, small and with the stand-in's adapters unless told otherwise."""
    command = [*EXPORT, *SMALL, "--model", str(checkpoint), "--repository", str(repository), *flags]
    command += [f"--adapter={route}={ADAPTERS / source}" for route, source in routes.items()]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in checkpoint; its adapters are written too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests import loras
        from tests.standin import build

        folder = build(tmp_path_factory.mktemp("checkpoint") / "stand-in")
        loras.write(folder, ADAPTERS)
        return folder


@pytest.fixture(scope="session")
def repository(checkpoint: Path) -> Path:
    """The stand-in's repository: OpenVINO, fp32, at most 256 x 256 pixels and 8 rows, with a bank of four adapters.

    Kept between runs: an export skips what is up to date.
    """
    folder = ROOT / "build" / "test-repository"
    done = run_export(checkpoint, folder)
    assert done.returncode == 0, done.stderr
    return folder

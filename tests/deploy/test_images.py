"""The images' files: what they are built of is there, pinned once, and reaches the builder; no secret does."""

import fnmatch
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def test_one_base_image_holds_the_tensorrt_that_compiles_and_the_one_that_serves():
    text = (ROOT / "deploy" / "triton.Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)", text, re.MULTILINE)
    assert stages[1:] == [("triton", "triton-cpu"), ("triton", "export")]
    assert "tensorrt_version.py --same-as-bindings" in text


@pytest.mark.parametrize(
    ("name", "beside"), [("torch", "bench/gpu.sh"), ("tensorrt-rtx-cu13", "requirements/cpu.lock")]
)
def test_what_stands_in_several_files_is_pinned_to_one_version(name, beside):
    files = ["pyproject.toml", "Makefile", "bench/gpu.sh", "deploy/triton.Dockerfile", "requirements/cpu.lock"]
    pins = {file: set(re.findall(rf"\b{name}==([\w.]+)", (ROOT / file).read_text())) for file in files}
    stated = {file: versions for file, versions in pins.items() if versions}
    assert {"pyproject.toml", beside} <= set(stated)
    assert {version for versions in stated.values() for version in versions} == stated["pyproject.toml"], stated
    assert len(stated["pyproject.toml"]) == 1


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out: the last line that fits it, or a folder above it, decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parents = [path, *map(str, Path(path).parents)]
        if line and not line.startswith("#") and any(fnmatch.fnmatch(parent, pattern) for parent in parents):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_what_an_image_copies_is_there_and_reaches_the_builder(file):
    for sources in re.findall(r"^COPY --chmod=755 (.+) /app\S*$", file.read_text(), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert not ignored(source), source


def test_no_engine_and_no_secret_reaches_the_builder():
    for path in (".env", ".git/config", "demo/checkpoint/unet/x", "model_repository/edit/.tritouch/store/x", "tests/x"):
        assert ignored(path), path

"""Which engines can be served on which machine."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.compatibility import CHANNEL, CHANNEL_VERSION, incompatibilities, installed_version
from backends.gpu import Gpu
from tests.conftest import ROOT

L4 = Gpu("NVIDIA L4", "8.9")
SPOKEN = "edit_stream: exported by an earlier version: export again on this machine"


def repository(folder: Path, kind: str, **versions: str) -> Path:
    for name in ("denoiser", "vae_encoder"):
        (folder / name).mkdir()
        (folder / name / "component.json").write_text(json.dumps({"engine": kind, "versions": versions}))
        (folder / name / "config.pbtxt").write_text("")
    return folder


@pytest.mark.parametrize(
    ("gpu", "here", "words"),
    [
        (L4, "1.7", []),
        (Gpu("NVIDIA RTX 5090", "12.0"), "1.7", []),
        (None, "1.7", ["compiled for compute capability 8.9, 12.0, and here is no NVIDIA GPU"]),
        (Gpu("A100", "8.0"), "1.7", ["8.9, 12.0, and here is A100 (compute capability 8.0)"]),
        (L4, "1.6", ["compiled by TensorRT for RTX 1.7, and here is 1.6"]),
        (L4, None, ["compiled by TensorRT for RTX 1.7, and here is none"]),
        (None, None, ["compiled by TensorRT for RTX 1.7", "compiled for compute capability"]),
    ],
)
def test_engines_must_be_of_this_gpu_and_version(tmp_path, gpu, here, words):
    made = repository(tmp_path, "tensorrt_rtx", tensorrt_rtx="1.7", compute_capability="8.9 12.0")
    reasons = incompatibilities(made, ("tensorrt_rtx",), lambda: gpu, lambda _module: here)
    assert len(reasons) == len(words)
    for reason, part in zip(reasons, words, strict=True):
        assert part in reason
        assert reason.startswith("denoiser, vae_encoder: ")
        assert reason.endswith("export again on this machine")


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        (L4, []),
        (Gpu("GeForce RTX 4090", "8.9"), ["compiled on NVIDIA L4, and here is GeForce RTX 4090 (compute"]),
        (Gpu("NVIDIA H100", "9.0"), ["compiled for compute capability 8.9, and here is NVIDIA H100"]),
    ],
)
def test_plans_of_tensorrt_belong_to_the_gpu_that_they_were_timed_on(tmp_path, gpu, words):
    made = repository(tmp_path, "tensorrt", tensorrt="11.4", compute_capability="8.9", gpu="NVIDIA L4")
    reasons = incompatibilities(made, ("tensorrt",), lambda: gpu, lambda _module: "11.4")
    assert len(reasons) == len(words)
    assert all(part in reason for reason, part in zip(reasons, words, strict=True))


@pytest.mark.parametrize("damaged", [b"", b'{"engine": "openv', b"\xff", b"[]", b"{}", b'{"engine": "openvino"}'])
def test_a_damaged_record_is_named(tmp_path, damaged):
    made = repository(tmp_path, "openvino", openvino="2026.4")
    file = made / "denoiser" / "component.json"
    file.write_bytes(damaged)
    assert incompatibilities(made, ("openvino",)) == [f"denoiser: {file} cannot be read: export again on this machine"]


def test_the_version_is_asked_of_the_module_that_images_have(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", SimpleNamespace(__version__="11.4"))
    assert installed_version("tensorrt") == "11.4"
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", None)
    assert installed_version("tensorrt") is None


def test_the_command_names_the_reasons(tmp_path):
    made = repository(tmp_path, "tensorrt", tensorrt="0.0", compute_capability="8.9")
    command = [sys.executable, "-m", "backends.compatibility", str(made), "--served"]
    right = subprocess.run([*command, "tensorrt"], capture_output=True, text=True, check=False)
    assert right.returncode == 2
    assert "engines: denoiser, vae_encoder: compiled by TensorRT 0.0, and here is none" in right.stderr


def test_the_command_is_silent_when_all_is_compatible(tmp_path):
    made = repository(tmp_path, "openvino", openvino="2026.4")
    command = [sys.executable, "-m", "backends.compatibility", str(made), "--served", "openvino,tensorrt"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_speaks_another_version_to_the_backends_is_refused_in_containers_too(tmp_path):
    ours = (ROOT / "model_repository" / CHANNEL).read_text()
    assert f"\nVERSION = {CHANNEL_VERSION}\n" in ours
    (tmp_path / "edit" / ".tritouch").mkdir(parents=True)
    (tmp_path / "edit_stream" / "1").mkdir(parents=True)
    for said, reasons in ((ours, []), (ours.replace("VERSION = ", "VERSION = 1"), [SPOKEN]), ("", [SPOKEN])):
        (tmp_path / CHANNEL).write_text(said)
        assert incompatibilities(tmp_path, ("openvino",)) == reasons
    (tmp_path / CHANNEL).unlink()
    assert incompatibilities(tmp_path, ("openvino",)) == [SPOKEN]

"""An export of fewer bits, whole: calibrated, compared in pictures, refused below the floor, and what is up to date."""

import json
from pathlib import Path

import pytest

from tests.conftest import run_export

pytestmark = pytest.mark.long
FLAGS = ("--precision", "int8,text_encoder=w4,vae_decoder=w8")


def test_narrowed_engines_are_compared_in_pictures(checkpoint: Path, tmp_path: Path) -> None:
    """A tiny random network is no measure of the floor: whatever its pictures are like, they are told."""
    done = run_export(checkpoint, tmp_path, *FLAGS, "--accept-quality", routes={})
    assert done.returncode == 0, done.stderr
    assert "of 3 edits that were held out" in " ".join(done.stderr.split())
    records = {
        name: json.loads((tmp_path / name / "component.json").read_text()) for name in ("denoiser", "vae_encoder")
    }
    assert records["denoiser"]["precision"] == "int8"
    assert records["denoiser"]["wide"], "some layer is the most sensitive"
    assert records["vae_encoder"]["precision"] in {"bf16", "fp32"}
    kept = next((tmp_path / "edit/.tritouch/caches").glob("likeness-*.json"))
    likeness = json.loads(kept.read_text())
    assert min(likeness["psnr"]) > 15
    kept.write_text(json.dumps({**likeness, "psnr": [29.9, 40.0, 40.0]}))

    refused = run_export(checkpoint, tmp_path, *FLAGS, routes={})
    assert refused.returncode == 1
    assert "the floor is 30 dB and 0.9" in refused.stderr.splitlines()[-1]
    again = run_export(checkpoint, tmp_path, *FLAGS, "--accept-quality", routes={})
    assert again.stderr.count("up to date") == 4
    assert "PSNR 29.9 to 40.0 dB" in again.stderr


def test_what_cannot_be_compared_here_must_be_accepted(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--engine", "tensorrt_rtx", "--compute-capability", "8.9", "--precision", "fp8")
    done = run_export(checkpoint, tmp_path, *flags, routes={})
    assert done.returncode == 2
    assert "no pictures can be compared with fp32: give --accept-quality" in done.stderr

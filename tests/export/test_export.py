"""The export command on a tiny checkpoint: what it leaves, what it skips, what stops it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from export.component.check import relative_error
from tests.conftest import run_export


def test_every_component_is_within_its_tolerance_and_recorded(repository: Path) -> None:
    for name in ("text_encoder", "vae_encoder", "denoiser", "vae_decoder"):
        record = json.loads((repository / name / "component.json").read_text())
        assert record["error"] <= record["tolerance"] == 1e-4
        assert (record["engine"], record["precision"]) == ("openvino", "fp32")


def test_a_second_run_skips_what_is_up_to_date(repository: Path, checkpoint: Path) -> None:
    before = (repository / "denoiser").resolve()
    done = run_export(checkpoint, repository)
    assert done.returncode == 0
    assert done.stderr.count("up to date") == 4
    assert (repository / "denoiser").resolve() == before


@pytest.mark.long
def test_changed_weights_rebuild_their_component_alone_and_wrong_ones_install_nothing(
    repository: Path, checkpoint: Path, tmp_path: Path
) -> None:
    target, changed = tmp_path / "repository", tmp_path / "checkpoint"
    shutil.copytree(repository, target, symlinks=True)
    shutil.copytree(checkpoint, changed)
    weights = changed / "text_encoder" / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    name = next(name for name in tensors if name.endswith("final_layer_norm.weight"))

    tensors[name] = torch.full_like(tensors[name], torch.nan)
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    served = (target / "text_encoder").resolve()
    done = run_export(changed, target)
    assert done.returncode == 1
    assert "text_encoder in fp32 is out of tolerance" in done.stderr
    assert "resource_tracker" not in done.stderr
    assert (target / "text_encoder").resolve() == served, "the previous engines still serve"

    tensors[name] = torch.full_like(tensors[name], 0.5)
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    done = run_export(changed, target)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 3
    assert "Loading weights" not in done.stderr, "a bar of transformers"
    assert (target / "text_encoder").resolve() != served


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_error_that_is_not_a_number_is_out_of_any_tolerance(value: float) -> None:
    good = np.ones((2, 3), np.float32)
    assert relative_error(good, good) == 0
    assert relative_error(good * 1.01, good) == pytest.approx(0.01, rel=1e-3)
    assert relative_error(good * value, good) == np.inf
    assert relative_error(good[:1], good) == np.inf

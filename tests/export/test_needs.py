"""What an export needs is told before it begins, and what cannot fit is refused."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from export import needs
from export.checkpoint import Checkpoint, find
from export.component.build import Make
from export.engines import load
from export.errors import BadInputError
from families import load as load_family
from families.interface import Limits
from tests.families import tiny

FREE = {"free_disk": 10**12, "memory_left": 10**11, "free_gpu_memory": 10**11}


def free(monkeypatch: pytest.MonkeyPatch, **changed: int | None) -> None:
    for name, size in {**FREE, **changed}.items():
        monkeypatch.setattr(needs, name, lambda *_folder, size=size: size)


def makes(checkpoint: Checkpoint, precision: str) -> list[Make]:
    table = load_family(checkpoint.family, "table").components(checkpoint.path, Limits(128 * 128, 12))
    return [Make(component, precision, "") for component in table]


@pytest.fixture
def found() -> Checkpoint:
    return find(str(tiny.checkpoint("instruct_pix2pix")), None)


def test_needs_grow_with_the_weights_as_they_are_kept(found: Checkpoint, tmp_path: Path) -> None:
    size = sum(file.stat().st_size for file in found.path.glob("*/*.safetensors"))
    vae = (found.path / "vae/diffusion_pytorch_model.safetensors").stat().st_size
    of: Mapping[str, needs.Needs] = {
        precision: needs.of(makes(found, precision), found, load("openvino"), tmp_path, 1)
        for precision in ("fp32", "bf16")
    }
    assert of["fp32"].disk == pytest.approx(size + vae, rel=0.05), "linked, not written; the autoencoder comes twice"
    assert of["bf16"].disk > of["fp32"].disk / 2, "weights in fp16, which are written beside first"
    assert of["fp32"].memory > of["bf16"].memory > needs.BASE
    assert of["fp32"].gpu == 0
    both = needs.of(makes(found, "fp32"), found, load("openvino"), tmp_path, 2)
    assert both.memory > of["fp32"].memory + needs.BASE


def test_weights_that_cannot_be_linked_are_written(
    found: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two mounts of one disk, which a container has."""

    def none(*_arguments: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", none)
    size = sum(file.stat().st_size for file in found.path.glob("*/*.safetensors"))
    written = needs.of(makes(found, "fp32"), found, load("openvino"), tmp_path, 4).disk
    assert written > 2.5 * size, "the engines, and the largest weights for each of four"


@pytest.mark.slow
def test_convolutions_take_more_bits_than_products(found: Checkpoint, tmp_path: Path) -> None:
    w4, nvfp4, w8 = (
        needs.of(makes(found, precision), found, load("openvino"), tmp_path, 1).disk
        for precision in ("w4", "nvfp4", "w8")
    )
    assert 1.1 * w4 < nvfp4 < 0.95 * w8


def test_components_of_one_folder_need_their_own_weights_alone(tmp_path: Path) -> None:
    found = find(str(tiny.checkpoint("qwen_image_edit")), None)
    each = {
        make.component.name: needs.of([make], found, load("openvino"), tmp_path, 1) for make in makes(found, "fp32")
    }
    whole = (found.path / "text_encoder/model.safetensors").stat().st_size
    seen, read = each["vision_encoder"].disk, each["text_encoder"].disk
    assert 0.9 * whole < seen + read < whole, "once each, but the head, which nothing needs"


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ({"free_disk": 3 * 10**9}, "needs 5.0 GB of disk in {}, and 3.0 are free"),
        ({"memory_left": 3 * 10**9}, "needs 8.0 GB of memory, and 3.0 are free"),
        ({"free_gpu_memory": 3 * 10**9}, "needs 4.0 GB of the GPU's memory, and 3.0 are free"),
    ],
)
def test_what_cannot_fit_is_one_line(
    short: Mapping[str, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = needs.Needs(5 * 10**9, 8 * 10**9, 4 * 10**9)
    free(monkeypatch)
    assert need.require(tmp_path).startswith(
        f"needs about 5.0 GB of disk in {tmp_path} (1000.0 are free), 8.0 GB of mem"
    )
    free(monkeypatch, **short)
    with pytest.raises(BadInputError) as error:
        need.require(tmp_path)
    assert str(error.value) == f"this export {words.format(tmp_path)}"


def test_a_gpu_that_torch_does_not_see_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, free_gpu_memory=None)
    assert "GPU" not in needs.Needs(1, 1, 10**15).require(tmp_path / "not" / "there")

"""A checkpoint of one file is refused by a line that says how it becomes a folder."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from export.checkpoint import find
from export.errors import BadInputError


def single(file: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """A safetensors file with tensors of these shapes."""
    safetensors.torch.save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
    return file


UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({UNET_INPUT: (4, 8, 3, 3)}, "diffusers.StableDiffusionInstructPix2PixPipeline.from_single_file('{file}')."),
        (
            {UNET_INPUT: (4, 8, 3, 3), "conditioner.embedders.0.x": (1,)},
            "diffusers.StableDiffusionXLInstructPix2PixPipeline.from_single_file('{file}', "
            "config='diffusers/sdxl-instructpix2pix-768').save_pretrained('{folder}')\"; then --model {folder}",
        ),
        ({UNET_INPUT: (4, 4, 3, 3)}, "no kind that is known"),
        ({"double_blocks.0.img_attn.qkv.weight": (4, 4)}, "a transformer alone"),
    ],
)
def test_a_single_file_is_told_what_to_do_with(tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str) -> None:
    file = single(tmp_path / "whole.safetensors", tensors)
    with pytest.raises(BadInputError) as error:
        find(str(file), None)
    assert words.format(file=file, folder=tmp_path / "whole") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_single_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    for name, words in (("whole.ckpt", "no pickles are read"), ("whole.safetensors", "not a safetensors file")):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(BadInputError, match=words):
            find(str(tmp_path / name), None)

"""A small decoder for previews: its table, which others are refused, and that it decodes as diffusers has it."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from export.component.weights import Weights
from families import load
from families.errors import BadCheckpointError
from families.interface import Component, Limits
from families.preview_decoder import NAME, modules, table
from tests.families import tiny

FAMILY = "instruct_pix2pix"
BLOCKS = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}


def decoder() -> Component:
    made = load(FAMILY, "table").components(tiny.checkpoint(FAMILY), Limits(256 * 256, 8))
    found: Component = next(component for component in made if component.role == "decoder")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("preview")
    torch.manual_seed(1)
    AutoencoderTiny(latent_channels=int(decoder().inputs[0].axes[1]), **BLOCKS).save_pretrained(made)
    return made


def test_it_takes_and_gives_what_the_familys_own_does(folder: Path) -> None:
    own, made = decoder(), table.component(folder, decoder(), 8)
    assert (made.name, made.weights) == (NAME, str(folder))
    assert (made.inputs, made.outputs, made.ranges) == (own.inputs, own.outputs, own.ranges)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "AutoencoderKL"}, "is a AutoencoderKL, and previews are decoded by an AutoencoderTiny"),
        ({"latent_channels": 16}, "decodes latents of 16 channels, and this checkpoint's have 4"),
        ({"num_decoder_blocks": [3, 3, 1]}, "makes 4 pixels of a latent's side, and this checkpoint 8"),
        ({"out_channels": 4}, "gives pictures of 4 colours"),
        ({"num_decoder_blocks": 3}, "a config lacks or misstates"),
    ],
)
def test_another_decoder_is_refused(folder: Path, tmp_path: Path, change: dict[str, object], words: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(BadCheckpointError, match=words):
        table.component(tmp_path, decoder(), 8)


def test_it_decodes_as_diffusers_has_it(folder: Path) -> None:
    latents = torch.randn((1, int(decoder().inputs[0].axes[1]), 8, 12), generator=torch.Generator().manual_seed(1))
    weights = Weights(modules.module(NAME, folder), torch.float32)
    with torch.no_grad(), weights.computing(torch.device("cpu")) as compute:
        (made,) = compute(latents)
        whole = AutoencoderTiny.from_pretrained(folder).decode(latents).sample
    assert made.shape == (1, 3, 64, 96)
    torch.testing.assert_close(made, whole)

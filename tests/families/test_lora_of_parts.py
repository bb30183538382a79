"""LoRA files that name parts of few models: XLabs' of FLUX.1 is read as by diffusers, others are refused."""

from pathlib import Path

import pytest
import torch

from export.adapters import find
from export.errors import BadInputError
from families import load
from families.errors import BadCheckpointError
from families.interface import DENOISER
from tests.families.lora_files import KLEIN, KONTEXT, LAYER, Weights, layers, one, product, read, saved, theirs


def xlabs(single_out: int) -> Weights:
    """A file as XLabs' trainer for FLUX.1 writes it, of all that it names."""
    shapes = {
        "double_blocks.0.processor.qkv_lora1": (96, 32),
        "double_blocks.0.processor.qkv_lora2": (96, 32),
        "double_blocks.0.processor.proj_lora1": (32, 32),
        "double_blocks.0.processor.proj_lora2": (32, 32),
        "single_blocks.0.processor.qkv_lora": (96, 32),
        "single_blocks.0.processor.proj_lora": (32, single_out),
    }
    generator, made = torch.Generator().manual_seed(0), {}
    for name, (out, width) in shapes.items():
        made[f"{name}.down.weight"] = torch.randn(2, width, generator=generator)
        made[f"{name}.up.weight"] = torch.randn(out, 2, generator=generator)
    return made


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_xlabs_names_are_diffusers_layers(tmp_path: Path, prefix: str) -> None:
    _, width = layers()[KONTEXT][DENOISER]["single_transformer_blocks.0.proj_out"] or (0, 0)
    weights = {f"{prefix}{name}": tensor for name, tensor in xlabs(width).items()}
    find([f"oil={saved(tmp_path / 'a.safetensors', weights)}"], load(KONTEXT, "lora").PREFIXES)
    ours, reference = read(tmp_path / "a.safetensors", weights, KONTEXT)[DENOISER], theirs(KONTEXT, weights)
    assert len(reference) == 12
    assert ours.keys() == reference.keys()
    for name, matrix in reference.items():
        assert torch.equal(product(ours[name]), matrix)


def test_xlabs_names_that_diffusers_does_not_read_are_refused(tmp_path: Path) -> None:
    first = "double_blocks.0.processor.qkv_lora1"
    with pytest.raises(
        BadCheckpointError, match=r"layer cannot be told: double_blocks.0.processor.\w+.down.weight and 5 more"
    ):
        read(tmp_path / "a.safetensors", xlabs(128), KLEIN)
    weights = xlabs(128) | {f"{first}.alpha": torch.tensor(1.0)}
    with pytest.raises(BadInputError, match=f"is no plain LoRA: {first}.alpha"):
        find([f"oil={saved(tmp_path / 'b.safetensors', weights)}"], load(KONTEXT, "lora").PREFIXES)


@pytest.mark.parametrize(
    "name", ["text_encoder.model.layers.0.mlp.up_proj", "lora_te_layers_0_mlp_up_proj", "text_encoders.qwen.layers.0.q"]
)
def test_kleins_text_encoder_takes_none(tmp_path: Path, name: str) -> None:
    weights = one(f"transformer.{LAYER}") | one(name)
    words = f"LoRA of another kind of model, or of a part that takes none: {name}.lora_A.weight"
    with pytest.raises(BadInputError, match=words) as error:
        find([f"oil={saved(tmp_path / 'a.safetensors', weights)}"], load(KLEIN, "lora").PREFIXES)
    assert "\n" not in str(error.value)

"""What the tests of transformers' LoRA files have in common: files of any names, read by us and by diffusers."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
import torch

from export.adapters import layers_of
from export.checkpoint import Checkpoint
from families import load
from families.interface import Limits
from families.parts.lora import Factors, Layers
from tests.families import tiny

KLEIN, KONTEXT = "flux2_klein", "flux_kontext"
PIPELINES = {KLEIN: diffusers.Flux2KleinPipeline, KONTEXT: diffusers.FluxKontextPipeline}
LAYER = "transformer_blocks.0.attn.to_q"
Weights = dict[str, torch.Tensor]


@functools.cache
def layers() -> Mapping[str, Layers]:
    """Of both families' tiny checkpoints."""
    return {name: _layers(name) for name in PIPELINES}


def _layers(family: str) -> Layers:
    checkpoint = tiny.checkpoint(family)
    table = load(family, "table").components(checkpoint, Limits(256 * 256, 8))
    return layers_of(Checkpoint(checkpoint, family, ""), table)


def saved(file: Path, weights: Weights) -> Path:
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in weights.items()}, file)
    return file


def read(file: Path, weights: Weights, family: str) -> Mapping[str, Any]:
    """By our reader, from a file with these weights."""
    saved(file, weights)
    lora: Mapping[str, Any] = load(family, "lora").read_lora(file, tiny.checkpoint(family), layers()[family])
    return lora


def product(factors: Factors) -> torch.Tensor:
    return factors.scale * factors.up @ factors.down


def dotted(made: Mapping[str, tuple[torch.Tensor, torch.Tensor]], prefix: str) -> Weights:
    return {
        f"{prefix}{name}.lora_{half}.weight": factor
        for name, factors in made.items()
        for half, factor in zip("AB", factors, strict=True)
    }


def theirs(family: str, weights: Weights) -> dict[str, torch.Tensor]:
    """What diffusers' converter adds to each layer."""
    converted = PIPELINES[family].lora_state_dict(dict(weights))
    converted = {name.removeprefix("transformer."): tensor for name, tensor in converted.items()}
    ends = (".lora_A.weight", ".lora_B.weight")
    return {
        name.removesuffix(ends[0]): converted[name.replace(*ends)] @ down
        for name, down in converted.items()
        if name.endswith(ends[0])
    }


def one(name: str, out: int = 32, width: int = 32) -> Weights:
    return dotted({name: (torch.ones(2, width), torch.ones(out, 2))}, "")

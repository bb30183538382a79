"""LoRA files for InstructPix2Pix, in the naming of diffusers, peft or kohya. Imported by `export`.

Names are converted by diffusers' own converters, so that a file means here what `load_lora_weights` makes of it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError

from families.errors import BadCheckpointError
from families.lora import Factors, Lora

UNET, TEXT_ENCODER = "unet", "text_encoder"
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
WRAPPED = "base_model.model."
"""Before every name in files that peft itself has written; they say nothing of the component."""
LORA_LEADS = ("unet.", "text_encoder.", "lora_unet_", "lora_te_", "lora_te1_", WRAPPED)
"""How the names of a LoRA for this family begin, in any of the namings."""

Named = dict[str, Any]


def read_lora(file: Path) -> Lora:
    """Every layer's factors, from a whole safetensors file of LoRA weights. Raises BadCheckpointError."""
    try:
        weights, metadata = _of_peft(file) if _wrapped(file) else (str(file.parent), None)
        weights, alphas, own = StableDiffusionLoraLoaderMixin.lora_state_dict(
            weights, weight_name=file.name, use_safetensors=True, local_files_only=True, return_lora_metadata=True
        )
        settings = metadata or own or {}
        return {name: _component(name, weights, alphas or {}, settings) for name in (UNET, TEXT_ENCODER)}
    except (KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise BadCheckpointError(f"{file} cannot be read as LoRA: {' '.join(str(error).split())[:200]}") from error


def _component(component: str, weights: Named, alphas: Named, settings: Named) -> dict[str, Factors]:
    own = {name: tensor for name, tensor in weights.items() if name.startswith(f"{component}.")}
    if not own:
        return {}
    known = own | {name: alpha for name, alpha in alphas.items() if name.startswith(f"{component}.")}
    converted = _as_peft(component, {name.removeprefix(f"{component}."): value for name, value in known.items()})
    alpha_of = {_layer(name): value for name, value in converted.items() if name.endswith(ALPHA)}
    config = {name.removeprefix(f"{component}."): value for name, value in settings.items()}
    return {
        _layer(name): Factors(
            down, converted[_layer(name) + UP], _scale(_layer(name), len(down), alpha_of.get(_layer(name)), config)
        )
        for name, down in converted.items()
        if name.endswith(DOWN)
    }


def _as_peft(component: str, named: Named) -> Named:
    """Names without the component, in peft's form."""
    if component == UNET:
        plain = {name.replace(".processor.", "."): value for name, value in named.items()}
        return dict(convert_unet_state_dict_to_peft(plain))
    peft = all(name.endswith((DOWN, UP, ALPHA)) for name in named)  # of these the converters know attention alone
    converted = named if peft else convert_state_dict_to_peft(convert_state_dict_to_diffusers(named))
    # transformers' CLIPTextModel has lost a level that files still name.
    return {name.removeprefix("text_model."): value for name, value in converted.items()}


def _layer(name: str) -> str:
    return name.removesuffix(ALPHA).split(".lora_")[0]


def _scale(layer: str, rank: int, alpha: float | None, config: Mapping[str, Any]) -> float:
    """What multiplies the product: 1 unless the file has alphas, or peft's settings."""
    if alpha is None and "lora_alpha" in config:
        pattern = config.get("alpha_pattern") or {}
        alpha = pattern.get(get_pattern_key(list(pattern), layer), config["lora_alpha"])
    if alpha is None:
        return 1.0
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _wrapped(file: Path) -> bool:
    with safetensors.safe_open(file, "pt") as opened:
        return all(name.startswith(WRAPPED) for name in opened.keys())  # noqa: SIM118 - not a mapping


def _of_peft(file: Path) -> tuple[dict[str, torch.Tensor], Named]:
    """The weights under their component's name, and the settings of the `adapter_config.json` beside them."""
    config_file = file.with_name("adapter_config.json")
    try:
        config = json.loads(config_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"{config_file} is needed beside peft's {file.name}, and cannot be read") from error
    weights = safetensors.torch.load_file(file)
    component = TEXT_ENCODER if any("encoder.layers." in name for name in weights) else UNET
    named = {f"{component}.{name.removeprefix(WRAPPED)}": tensor for name, tensor in weights.items()}
    return named, {f"{component}.{name}": value for name, value in config.items()}

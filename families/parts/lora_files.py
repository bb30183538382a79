"""LoRA files of Stable Diffusion's kind, in the naming of diffusers, peft or kohya.

Names are converted by diffusers' own converters, so that a file means here what `load_lora_weights` makes of it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError

from families.errors import BadCheckpointError
from families.parts.lora import Factors, Lora

UNET = "unet"
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
WRAPPED = "base_model.model."
"""Before every name in files that peft itself has written; they say nothing of the component."""

Named = dict[str, Any]


@dataclass(frozen=True)
class LoraReader:
    """Reads files for one pipeline class. `loader`: diffusers' mixin of it. `networks`: diffusers' name -> component.

    `options`: what `lora_state_dict` takes beside the weights.
    """

    loader: Any
    networks: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, file: Path) -> Lora:
        """Every layer's factors, from a whole safetensors file of LoRA weights, by component.

        Raises BadCheckpointError, also where a tensor of the file has no place in any of the networks.
        """
        try:
            weights = _load(file)
            named, settings = self._of_peft(file, weights) if _wrapped(weights) else (weights, _metadata(file))
            converted, alphas = self.loader.lora_state_dict(dict(named), **self.options)[:2]
            lora = {
                component: _factors(name, converted, alphas or {}, settings)
                for name, component in self.networks.items()
            }
        except (KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise BadCheckpointError(f"{file} cannot be read as LoRA: {' '.join(str(error).split())[:200]}") from error
        _require_placed(file, weights, [own for layers in lora.values() for own in layers.values()])
        return lora

    def _of_peft(self, file: Path, weights: Named) -> tuple[Named, Named]:
        """The weights under their network's name, and the settings of the `adapter_config.json` beside them."""
        config_file = file.with_name("adapter_config.json")
        try:
            config = json.loads(config_file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            message = f"{config_file} is needed beside peft's {file.name}, and cannot be read"
            raise BadCheckpointError(message) from error
        text = next((name for name in self.networks if name != UNET), UNET)
        network = text if any("encoder.layers." in name for name in weights) else UNET
        named = {f"{network}.{name.removeprefix(WRAPPED)}": tensor for name, tensor in weights.items()}
        return named, {f"{network}.{name}": value for name, value in config.items()}


def _load(file: Path) -> Named:
    """The file's tensors in float32, fp8 too; kohya's words for the two factors behind a dotted name are peft's."""
    words = {".lora_down.weight": DOWN, ".lora_up.weight": UP}
    weights = {}
    for name, tensor in safetensors.torch.load_file(file).items():
        word = next((word for word in words if name.endswith(word) and not name.startswith("lora_")), None)
        weights[name.removesuffix(word) + words[word] if word else name] = tensor.float()
    return weights


def _metadata(file: Path) -> Named:
    """peft's settings as diffusers keeps them in a file's header; empty where there are none."""
    with safetensors.safe_open(file, "pt") as opened:
        kept = (opened.metadata() or {}).get("lora_adapter_metadata")
    return dict(json.loads(kept)) if kept else {}


def _wrapped(weights: Named) -> bool:
    return all(name.startswith(WRAPPED) for name in weights)


def _require_placed(file: Path, weights: Named, placed: Sequence[Factors]) -> None:
    """Every factor of the file is one of the layers': converters pass over names that they do not know."""
    known = {tensor.data_ptr() for factors in placed for tensor in (factors.down, factors.up)}
    lost = [name for name, tensor in weights.items() if not name.endswith(ALPHA) and tensor.data_ptr() not in known]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise BadCheckpointError(f"{file} has LoRA weights whose layer cannot be told: {lost[0]}{more}")


def _factors(network: str, weights: Named, alphas: Named, settings: Named) -> dict[str, Factors]:
    prefix = f"{network}."
    own = {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not own:
        return {}
    known = own | {name: alpha for name, alpha in alphas.items() if name.startswith(prefix)}
    converted = _as_peft(network, {name.removeprefix(prefix): value for name, value in known.items()})
    alpha_of = {_layer(name): value for name, value in converted.items() if name.endswith(ALPHA)}
    config = {name.removeprefix(prefix): value for name, value in settings.items()}
    return {
        _layer(name): Factors(
            down, converted[_layer(name) + UP], _scale(_layer(name), len(down), alpha_of.get(_layer(name)), config)
        )
        for name, down in converted.items()
        if name.endswith(DOWN)
    }


def _as_peft(network: str, named: Named) -> Named:
    """Names without the network, in peft's form."""
    if network == UNET:
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

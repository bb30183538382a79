"""LoRA files of Stable Diffusion's kind, in the naming of diffusers, peft or kohya.

Names are converted by diffusers' own converters, so that a file means here what `load_lora_weights` makes of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft, convert_unet_state_dict_to_peft

from families.errors import BadCheckpointError
from families.parts import lora_weights
from families.parts.lora import Factors, Layers, Lora
from families.parts.lora_weights import ALPHA, DOWN, UP, WRAPPED, Named

UNET = "unet"


@dataclass(frozen=True)
class LoraReader:
    """Reads files for one pipeline class. `loader`: diffusers' mixin of it. `networks`: diffusers' name -> component.

    `options`: what `lora_state_dict` takes beside the weights.
    """

    loader: Any
    networks: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, file: Path, layers: Layers) -> Lora:
        """Every layer's factors, from a whole safetensors file of LoRA weights, by component.

        Raises BadCheckpointError, also where a tensor of the file has no place in any of the networks.
        """
        try:
            weights = lora_weights.load(file, [s for own in layers.values() for s in own.values() if s])
            named, settings = self._named(file, weights)
            converted, alphas = self.loader.lora_state_dict(dict(named), **self.options)[:2]
            lora = {
                component: _factors(name, converted, alphas or {}, settings)
                for name, component in self.networks.items()
            }
        except BadCheckpointError:
            raise
        except Exception as error:  # diffusers' converters have no errors of their own
            raise lora_weights.unreadable(file, error) from error
        _require_placed(file, weights, [own for layers in lora.values() for own in layers.values()])
        return lora

    def _named(self, file: Path, weights: Named) -> tuple[Named, Named]:
        """The weights under their network's name, and peft's settings: in the file, or beside a file of peft's own."""
        if not all(name.startswith(WRAPPED) for name in weights):
            return weights, lora_weights.metadata(file)
        config = lora_weights.peft_settings(file)
        text = next((name for name in self.networks if name != UNET), UNET)
        network = text if any("encoder.layers." in name for name in weights) else UNET
        named = {f"{network}.{name.removeprefix(WRAPPED)}": tensor for name, tensor in weights.items()}
        return named, {f"{network}.{name}": value for name, value in config.items()}


def _require_placed(file: Path, weights: Named, placed: Sequence[Factors]) -> None:
    """Every factor of the file is one of the layers': converters pass over names that they do not know."""
    known = {tensor.data_ptr() for factors in placed for tensor in (factors.down, factors.up)}
    lost = [name for name, tensor in weights.items() if not name.endswith(ALPHA) and tensor.data_ptr() not in known]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise BadCheckpointError(f"{file} has LoRA weights whose layer cannot be told, or comes twice: {lost[0]}{more}")


def _factors(network: str, weights: Named, alphas: Named, settings: Named) -> dict[str, Factors]:
    prefix = f"{network}."
    own = {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not own:
        return {}
    known = own | {name: alpha for name, alpha in alphas.items() if name.startswith(prefix)}
    converted = _as_peft(network, {name.removeprefix(prefix): value for name, value in known.items()})
    alpha_of = lora_weights.unique((_layer(name), alpha) for name, alpha in converted.items() if name.endswith(ALPHA))
    config = {name.removeprefix(prefix): value for name, value in settings.items()}
    return {
        _layer(name): Factors(
            down,
            converted[_layer(name) + UP],
            lora_weights.scale(_layer(name), len(down), alpha_of.get(_layer(name)), config),
        )
        for name, down in converted.items()
        if name.endswith(DOWN)
    }


def _as_peft(network: str, named: Named) -> Named:
    """Names without the network, in peft's form."""
    if network == UNET:
        plain = lora_weights.unique((name.replace(".processor.", "."), value) for name, value in named.items())
        return dict(convert_unet_state_dict_to_peft(plain))
    peft = all(name.endswith((DOWN, UP, ALPHA)) for name in named)  # of these the converters know attention alone
    converted = named if peft else convert_state_dict_to_peft(convert_state_dict_to_diffusers(named))
    # transformers' CLIPTextModel has lost a level that files still name.
    return lora_weights.unique((name.removeprefix("text_model."), value) for name, value in converted.items())


def _layer(name: str) -> str:
    return name.removesuffix(ALPHA).split(".lora_")[0]

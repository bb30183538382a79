"""LoRA files for transformers of pictures, in every naming that a family's checkpoints are trained under.

A file may name layers as diffusers does or as the model's authors do, with dots or, as kohya's scripts and LyCORIS do,
with underscores. What stands between the underscores cannot be told from the name alone: so all names that the
checkpoint's own layers can have are written down first, and a tensor whose name is not among them is refused.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from families.errors import BadCheckpointError
from families.interface import DENOISER
from families.parts import lora_weights
from families.parts.lora import Factors, Layers, Lora
from families.parts.lora_weights import WRAPPED, Named

NETWORK = "transformer"
"""diffusers' name of the denoiser, in files and in peft's settings."""
PEFT_FILE = "adapter_model.safetensors"
PREFIXES = (f"{NETWORK}.", "diffusion_model.", WRAPPED, "lora_unet_", "lora_transformer_", "lycoris_")
"""Before the names of the denoiser's layers; nothing may stand there, too."""
SUFFIX = re.compile(
    r"(?:\.(lora_A|lora_B|lora_down|lora_up)(?:\.default)?|[._](lora\.down|lora\.up)|(?<=_lora[12])\.(down|up)|\.(alpha))(?:\.weight)?$"
)
HALVES = {"lora_A": "down", "lora_down": "down", "lora.down": "down", "down": "down", "alpha": "alpha"}

Originals = Mapping[str, tuple[str, ...]]
"""A layer as the model's authors name it -> the layers of ours that it is, by rows. `{}` is a block's number."""


@dataclass(frozen=True)
class Text:
    """A text encoder that files may change. `component`: diffusers' name, too."""

    component: str
    prefixes: tuple[str, ...]
    """Beside diffusers' own."""
    level: str = ""
    """What stands in files before a layer's name, and is not there in the network."""


class Place(NamedTuple):
    """Where the factors that a file has under one name belong. `swapped`: its two halves of rows change places."""

    component: str
    layers: tuple[str, ...]
    swapped: bool = False


class Part(NamedTuple):
    """What a file has under one name; `first`: the name of its first tensor."""

    first: str
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class TransformerLoraReader:
    """Reads files for one family.

    `swapped`: original names of layers that give (shift, scale) where ours give (scale, shift).
    """

    originals: Originals
    swapped: frozenset[str] = frozenset()
    texts: tuple[Text, ...] = ()
    roots: tuple[str, ...] = ()
    """How the layers' own names begin, beside those that `originals` tell."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """How names in files for the family begin."""
        bare = (name.partition(".")[0] for name in (*self.originals, *itertools.chain(*self.originals.values())))
        texts = (prefix for text in self.texts for prefix in (f"{text.component}.", *text.prefixes))
        return (*PREFIXES, *sorted({*bare, *self.roots}), *texts)

    def read_lora(self, file: Path, _checkpoint: Path, layers: Layers) -> Lora:
        """Every layer's factors, by component. Raises BadCheckpointError where a tensor of the file has no place."""
        try:
            return self._read(file, layers)
        except BadCheckpointError:
            raise
        except Exception as error:
            raise lora_weights.unreadable(file, error) from error

    def _read(self, file: Path, layers: Layers) -> Lora:
        settings, places = _settings(file), dict(self._places(layers))
        parts = _parts(lora_weights.load(file, _shapes(set(places.values()), layers)))
        lost = [part.first for name, part in parts.items() if name not in places]
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise BadCheckpointError(f"{file} has LoRA weights whose layer cannot be told: {lost[0]}{more}")
        lora: dict[str, dict[str, Factors]] = {}
        for name, part in parts.items():
            place = places[name]
            own = lora.setdefault(place.component, {})
            for layer, factors in _placed(f"{file}: {name}", part, place, layers, settings):
                if layer in own:
                    raise BadCheckpointError(f"{file} has LoRA weights of one layer twice: {part.first}")
                own[layer] = factors
        return lora

    def _places(self, layers: Layers) -> Iterator[tuple[str, Place]]:
        """Every name that a file may have for a layer, without the words of its tensors."""
        for name, place in self._names(layers.get(DENOISER, {})):
            yield name, place
            yield from _spelled(PREFIXES, name, place)
        for text in self.texts:
            for layer in layers.get(text.component, {}):
                for level in {text.level, ""}:
                    prefixes = (f"{text.component}.", *text.prefixes)
                    yield from _spelled(prefixes, level + layer, Place(text.component, (layer,)))

    def _names(self, layers: Mapping[str, object]) -> Iterator[tuple[str, Place]]:
        """The denoiser's layers as diffusers and as the model's authors name them."""
        yield from ((layer, Place(DENOISER, (layer,))) for layer in layers)
        for original, ours in self.originals.items():
            for block in itertools.count():
                targets = tuple(layer.format(block) for layer in ours)
                if targets[0] not in layers:
                    break
                yield original.format(block), Place(DENOISER, targets, original in self.swapped)
                if "{}" not in original:
                    break


def _shapes(places: Collection[Place], layers: Layers) -> Iterator[lora_weights.Shape]:
    """Outputs and inputs of each place; of none that has a layer which is neither linear nor a 1 x 1 convolution."""
    for place in places:
        own = [layers[place.component][layer] for layer in place.layers]
        whole = [shape for shape in own if shape]
        if len(whole) == len(own):
            yield sum(out for out, _ in whole), whole[0][1]


def _spelled(prefixes: tuple[str, ...], name: str, place: Place) -> Iterator[tuple[str, Place]]:
    """After every prefix: with dots after one that ends in a dot, with underscores after one that ends in one."""
    for prefix in prefixes:
        yield prefix + (name if prefix.endswith(".") else name.replace(".", "_")), place


def _parts(weights: Named) -> dict[str, Part]:
    """The file's tensors by the name of what they belong to. What has no such words stays alone under its own."""
    parts: dict[str, Part] = {}
    for name, tensor in weights.items():
        found = SUFFIX.search(name)
        word = next(filter(None, found.groups())) if found else ""
        module = name[: found.start()] if found else name
        part, half = parts.setdefault(module, Part(name, {})), HALVES.get(word, "up")
        if half in part.tensors:
            raise ValueError(f"it has LoRA weights of one layer twice: {name}")
        part.tensors[half] = tensor
    return parts


def _settings(file: Path) -> Named:
    """peft's, by network: from the file's header, or beside a file of peft's own."""
    if file.name != PEFT_FILE:
        return lora_weights.metadata(file)
    return {f"{NETWORK}.{name}": value for name, value in lora_weights.peft_settings(file).items()}


def _placed(where: str, part: Part, place: Place, layers: Layers, settings: Named) -> Iterator[tuple[str, Factors]]:
    """The factors of each layer that a name stands for: one `down` for all of them, and each its rows of `up`."""
    missing = {"down", "up"} - part.tensors.keys()
    if missing:
        raise BadCheckpointError(f"{where} has no {min(missing)} factor beside {part.first}")
    down, up, alpha = part.tensors["down"], part.tensors["up"], part.tensors.get("alpha")
    shapes = [layers[place.component][layer] for layer in place.layers]
    rows = [shape[0] if shape else len(up) for shape in shapes]
    if len(up) != sum(rows):
        raise BadCheckpointError(f"{where} has {len(up)} outputs, and its layers have {sum(rows)}")
    if place.swapped:
        up = torch.cat(up.chunk(2)[::-1])
    network = NETWORK if place.component == DENOISER else place.component
    config = {name.removeprefix(f"{network}."): v for name, v in settings.items() if name.startswith(f"{network}.")}
    number = None if alpha is None else float(alpha)
    for layer, own in zip(place.layers, torch.split(up, rows), strict=True):
        yield layer, Factors(down, own, lora_weights.scale(layer, len(down), number, config))

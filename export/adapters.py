"""Finds the LoRA files of `--adapter ROUTE=SOURCE[:SCALE]`, and refuses what no bank can express before it builds any.

Knows safetensors and the names that LoRA files use; nothing of any family.
"""

import glob
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import safetensors
import torch
from torch import nn

from export.checkpoint import Checkpoint, download, hub_files, require_whole
from export.component import bank, fingerprint
from export.component.bank import refuse
from export.errors import BadInputError
from export.readable import expanded, require_readable
from families import load
from families.interface import ADAPTER, ADAPTERS, ROWS, Component, LoraFiles, Modules, Tensor
from families.parts.lora import Layers, Lora
from families.parts.lora_weights import LARGEST_RANK, PRODUCTS

ROUTE = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
BASE_MODEL = "base"
"""What callers name to have no adapter."""
LARGEST_SCALE = 10.0
SCALE = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST = 64
PREFERRED = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What diffusers and peft call their files; any other folder must hold one file."""
SETTINGS = "adapter_config.json"
"""Of peft, beside its weights."""
HUB_FILES, IN_FOLDERS = ["*.safetensors", SETTINGS], ["*/*"]
"""What an adapter of the hub may be, and what it is not: in the hub's patterns `*` is a folder's name, too."""

PLAIN = (
    r"\.lora_[AB](\.default)?\.weight|[._]lora\.(down|up)\.weight|\.lora_(down|up)\.weight|\.lora_linear_layer\.(down|up)\.weight"
    r"|_lora[12]\.(down|up)\.weight"  # XLabs', which have no alpha
)
PARTS = re.compile(rf"({PLAIN}|(?<!_lora[12])\.alpha|\.({'|'.join(PRODUCTS)}))$")
"""How the names of tensors end in LoRA, and in LoHa and LoKr of linear layers."""
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DOWN = re.compile(
    r"(\.lora_A(?:\.default)?|[._]lora\.down|\.lora_down|\.lora_linear_layer\.down|_lora[12]\.down)\.weight$"
)


@dataclass(frozen=True)
class Source:
    """One `--adapter`, its file found and proven to be a plain LoRA."""

    route: str
    file: Path
    scale: float


class Bank:
    """The adapters of one export, in the order of their indices, counted from 1. `loras`: what their files hold.

    `layers`: of the checkpoint, to which they fit.
    """

    def __init__(self, sources: Sequence[Source], loras: Sequence[Lora], layers: Layers) -> None:
        self._sources, self._loras, self.layers = sources, loras, layers
        self.routes = tuple(source.route for source in sources)

    def require_fitting(self) -> None:
        """Raises BadInputError, naming route and layers, where an adapter does not fit the layers."""
        for source, lora in zip(self._sources, self._loras, strict=True):
            for component, own in lora.items():
                bank.require_fitting(f"adapter {source.route}: {component}", self.layers[component], own)

    def extend(self, component: Component) -> Component:
        """The component as it is with a bank, where an adapter changes it; else as it is."""
        return bank.extend(component) if self.changing(component) else component

    def changing(self, component: Component) -> tuple[int, ...]:
        """The indices of those adapters that change the component."""
        if not component.adapts:
            return ()
        return tuple(index for index, lora in enumerate(self._loras, 1) if lora.get(component.name))

    def fill(self, module: nn.Module, component: Component) -> nn.Module:
        """The component's module with its bank. Raises BadInputError where an adapter does not fit it."""
        if ADAPTER not in component.inputs:
            return module
        scales = [source.scale for source in self._sources]
        return bank.build(module, component.name, list(zip(self.routes, self._loras, scales, strict=True)))

    def fingerprints(self, component: Component) -> list[str]:
        """What the component's bank is made from, one entry an adapter, empty for one that leaves the component be."""
        if ADAPTER not in component.inputs:
            return []
        return [
            fingerprint.of_files(_files(source.file), {"scale": source.scale}) if lora.get(component.name) else ""
            for source, lora in zip(self._sources, self._loras, strict=True)
        ]

    def sample(self, tensor: Tensor, sizes: Mapping[str, int]) -> torch.Tensor:
        """One of a bank's inputs (rows, adapters of each): all adapters in turn, none among them, scales of -1 to 1."""
        places = torch.arange(1, sizes[ROWS] * sizes[ADAPTERS] + 1).view(sizes[ROWS], sizes[ADAPTERS])
        if tensor == ADAPTER:
            return (places % (len(self.routes) + 1)).int()
        return 1.0 - places % 5 / 2


def prefixes_of(family: str) -> tuple[str, ...]:
    """How the names of the family's LoRA tensors begin. Raises BadInputError where it takes no adapters."""
    try:
        names: tuple[str, ...] = load(family, "lora").PREFIXES
    except ModuleNotFoundError as error:
        raise BadInputError("--adapter: this kind of checkpoint takes no adapters yet") from error
    return names


def judged_bank(checkpoint: Checkpoint, sources: Sequence[Source], components: Sequence[Component]) -> Bank:
    """The bank of these adapters, each of which fits the layers of the checkpoint's components. No weight is read.

    Raises BadInputError, or families.errors.BadCheckpointError for a file that cannot be read.
    """
    if not sources:
        return Bank((), (), {})
    layers = layers_of(checkpoint, components)
    made = read_bank(checkpoint, sources, layers)
    made.require_fitting()
    return made


def layers_of(checkpoint: Checkpoint, components: Sequence[Component]) -> Layers:
    """The layers of the components that adapters may change."""
    modules = cast("Modules", load(checkpoint.family, "modules"))
    adapted = [component.name for component in components if component.adapts]
    return {name: bank.shapes_of(modules.module(name, checkpoint.path).get_submodule("model")) for name in adapted}


def read_bank(checkpoint: Checkpoint, sources: Sequence[Source], layers: Layers) -> Bank:
    """The bank of these adapters. Raises families.errors.BadCheckpointError for a file that cannot be read."""
    if not sources:
        return Bank((), (), {})
    reader = cast("LoraFiles", load(checkpoint.family, "lora"))
    loras = [reader.read_lora(source.file, checkpoint.path, layers) for source in sources]
    return Bank(sources, loras, layers)


def find(arguments: Sequence[str], prefixes: tuple[str, ...]) -> tuple[Source, ...]:
    """The sources of all `--adapter` flags, by route: the order of the bank. Raises BadInputError.

    `prefixes` are how the names of the family's LoRA tensors begin.
    """
    sources = sorted((_source(argument, prefixes) for argument in arguments), key=lambda source: source.route)
    routes = [source.route for source in sources]
    twice = sorted({route for route in routes if routes.count(route) > 1})
    if twice:
        raise BadInputError(f"--adapter names {twice[0]} twice")
    if len(sources) > MOST:
        raise BadInputError(f"--adapter is given {len(sources)} times; at most {MOST}")
    return tuple(sources)


def _source(argument: str, prefixes: tuple[str, ...]) -> Source:
    route, equals, source = argument.partition("=")
    if not (equals and source and ROUTE.fullmatch(route)):
        raise BadInputError(
            f"--adapter {argument}: must be ROUTE=DIR|FILE|HUB_ID[:SCALE], a route of up to 64 letters, digits and ._-"
        )
    if route == BASE_MODEL:
        raise BadInputError(f"--adapter {argument}: {BASE_MODEL} names the model without adapters")
    name, scale = _split_scale(source)
    if not abs(scale) <= LARGEST_SCALE:
        raise BadInputError(f"--adapter {argument}: the scale must be -{LARGEST_SCALE:g} to {LARGEST_SCALE:g}")
    file = _file(name)
    require_whole(file)
    _require_plain(file, prefixes)
    return Source(route, file, scale)


def _split_scale(source: str) -> tuple[str, float]:
    name, colon, tail = source.rpartition(":")
    if colon:
        try:
            scale = float(tail)
        except ValueError:
            return source, 1.0
        # Python reads `1_0`, and digits of every script: meant as a scale, and not written as one.
        return name, scale if SCALE.fullmatch(tail) else math.nan
    return source, 1.0


def _file(name: str) -> Path:
    path = expanded(name)
    require_readable(path)
    if path.is_file():
        return path
    if not path.is_dir():
        # The hub is asked first: where there are many they are gigabytes, of which one would be used.
        known = hub_files(name)
        wanted = HUB_FILES if known is None else [glob.escape(_one(name, known)), SETTINGS]
        path = download(name, None, wanted, IN_FOLDERS)
    return path / _one(name, [file.name for file in path.glob("*.safetensors")])


def _one(folder: str, names: Sequence[str]) -> str:
    """The one file that is meant of a folder's. Raises BadInputError."""
    files = sorted(name for name in names if "/" not in name and name.endswith(".safetensors"))
    for preferred in PREFERRED:
        if preferred in files:
            return preferred
    if len(files) != 1:
        found = f"{len(files)} .safetensors files: give one of them"
        raise BadInputError(f"{folder} holds {found if files else 'no .safetensors file (no pickles are read)'}")
    return files[0]


def _files(file: Path) -> list[Path]:
    """The weights, and peft's settings where they lie beside them."""
    return [file, *file.parent.glob(SETTINGS)]


def _require_plain(file: Path, prefixes: tuple[str, ...]) -> None:
    """Judged by names, shapes and types alone, so that nothing of a hostile file is computed with."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            shapes = {name: tuple(stored.get_shape()) for name, stored in slices.items()}
            types = {name: stored.get_dtype() for name, stored in slices.items()}
    except safetensors.SafetensorError as error:
        raise BadInputError(f"{file} is damaged: {error}") from error
    refuse(f"{file} is no plain LoRA", [name for name in shapes if not PARTS.search(name)])
    refuse(
        f"{file} is LoRA of another kind of model, or of a part that takes none",
        [name for name in shapes if not name.startswith(prefixes)],
    )
    weights = {name: shape for name, shape in shapes.items() if not name.endswith(".alpha")}
    if not weights:
        raise BadInputError(f"{file} holds no LoRA weights")
    refuse(
        f"{file} has weights that are no floating-point numbers",
        [f"{name} ({types[name]})" for name in weights if types[name] not in FLOATS],
    )
    refuse(
        f"{file} has an alpha that is no number", [n for n in shapes if n not in weights and math.prod(shapes[n]) != 1]
    )
    downs = {name: shape for name, shape in weights.items() if DOWN.search(name)}
    refuse(f"{file} has no rank in", [name for name, shape in downs.items() if len(shape) not in (2, 4)])
    high = [f"{name} ({shape[0]})" for name, shape in downs.items() if not 1 <= shape[0] <= LARGEST_RANK]
    refuse(f"{file} has ranks that are not 1 to {LARGEST_RANK}", high)

"""A bank of LoRA adapters inside a torch module: each row of a batch is computed with adapters of its own.

The bank keeps the factors of all adapters, zero-padded to each layer's largest rank, the first of them none. A call
gathers each row's, and every adapted layer adds two small products to its own. Several adapters of a row are one of a
higher rank: their factors stand side by side, and the two products sum over all of them. Knows no family and no file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from export.errors import BadInputError
from families.interface import ADAPTERS, BANK, MOST_ADAPTERS, Component, Range
from families.parts.lora import Factors, Lora

SHOWN = 3
"""Layers named in an error; the rest are counted."""
COMPARED = (1, 2, MOST_ADAPTERS)
"""Adapters of a row where an engine is compared, by the place of its shape; it is traced at the second."""


@dataclass(eq=False)
class Selection:
    """What the rows of the call under way add, K adapters each.

    `parts`: of each layer its `down` and its `up`, (rows x K, n) each. `scales` (rows, K).
    """

    parts: Sequence[tuple[Tensor, Tensor]] = ()
    scales: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


class Banked(nn.Module):
    """A module with two inputs more, last: `adapter` (rows, K) int32, indices into the bank, and `adapter_scale`.

    `downs` and `ups` (adapters + 1, total): the factors of all layers side by side, the first row none. Gathered by two
    operations, because one for each factor costs an engine more than the products themselves.
    """

    def __init__(self, module: nn.Module, factors: Sequence[tuple[Tensor, Tensor]], selection: Selection) -> None:
        super().__init__()
        self.module, self._selection = module, selection
        self._down_sizes = [down[0].numel() for down, _ in factors]
        self._up_sizes = [up[0].numel() for _, up in factors]
        self.downs = nn.Parameter(torch.cat([down.flatten(1) for down, _ in factors], dim=1), requires_grad=False)
        self.ups = nn.Parameter(torch.cat([up.flatten(1) for _, up in factors], dim=1), requires_grad=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        *own, adapter, scale = inputs
        chosen = adapter.flatten()
        downs, ups = self.downs.index_select(0, chosen), self.ups.index_select(0, chosen)
        parts = zip(torch.split(downs, self._down_sizes, 1), torch.split(ups, self._up_sizes, 1), strict=True)
        self._selection.parts, self._selection.scales = list(parts), scale.to(self.ups.dtype)
        output: Tensor = self.module(*own)
        return output


class BankedLayer(nn.Module):
    """A linear layer or a 1 x 1 convolution whose first axis is rows, with a row's factors of a given rank each.

    `place` is that of its `down` (rank, in) and `up` (rank, out) among the selection's parts.
    """

    def __init__(self, layer: nn.Module, place: int, rank: int, selection: Selection) -> None:
        super().__init__()
        self.layer, self._place, self._rank, self._selection = layer, place, rank, selection

    @property
    def weight(self) -> Tensor:
        """The layer's own: some networks look at its type."""
        return self.layer.get_parameter("weight")

    def forward(self, x: Tensor) -> Tensor:
        rows, count = self._selection.scales.shape
        out, width = self.weight.shape[:2]
        down, up = self._selection.parts[self._place]
        down, up = down.reshape(rows, count * self._rank, width), up.reshape(rows, count * self._rank, out)
        # Between the two products, where it is cheapest: what comes of the first is smaller than the factors.
        scale = self._selection.scales[:, :, None].expand(-1, -1, self._rank).reshape(rows, 1, -1)
        output: Tensor = self.layer(x)
        if isinstance(self.layer, nn.Conv2d):  # channels first: (rows, in, h, w)
            return output + (up.mT @ (down @ x.flatten(2) * scale.mT)).view_as(output)
        if x.ndim == 2:  # one vector a row
            return output + (x.unsqueeze(1) @ down.mT * scale @ up).squeeze(1)
        return output + x @ down.mT * scale @ up


def extend(component: Component) -> Component:
    """The component as it is with a bank."""
    counts = [COMPARED[min(place, len(COMPARED) - 1)] for place in range(len(component.shapes))]
    return replace(
        component,
        inputs=(*component.inputs, *BANK),
        ranges={**component.ranges, ADAPTERS: Range(1, 1, MOST_ADAPTERS)},
        shapes=tuple({**sizes, ADAPTERS: count} for sizes, count in zip(component.shapes, counts, strict=True)),
    )


def build(module: nn.Module, component: str, adapters: Sequence[tuple[str, Lora, float]]) -> Banked:
    """`module`, whose network is its attribute `model`, with a bank of `adapters`: route, LoRA, scale; from index 1 on.

    Raises BadInputError, naming route and layers, where a LoRA does not fit or a bank cannot express it.
    """
    selection, network = Selection(), module.get_submodule("model")
    layers, shapes = dict(network.named_modules()), shapes_of(network)
    changed: dict[str, dict[int, Factors]] = {}
    for index, (route, lora, scale) in enumerate(adapters, 1):
        own = lora.get(component, {})
        require_fitting(f"adapter {route}: {component}", shapes, own)
        for name, parts in own.items():
            changed.setdefault(name, {})[index] = replace(parts, scale=parts.scale * scale)
    factors: list[tuple[Tensor, Tensor]] = []
    for name, by_adapter in changed.items():
        down, up = _stacked(layers[name], by_adapter, len(adapters) + 1)
        banked = BankedLayer(layers[name], len(factors), down.shape[1], selection)
        network.set_submodule(name, banked, strict=True)
        factors.append((down, up))
    return Banked(module, factors, selection)


def refuse(reason: str, layers: Sequence[str]) -> None:
    """Raises BadInputError with the reason and the layers' names, where there are any."""
    if layers:
        more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
        raise BadInputError(f"{reason}: {', '.join(layers[:SHOWN])}{more}")


def shapes_of(network: nn.Module) -> dict[str, tuple[int, int] | None]:
    """Every layer of a network: its outputs and inputs where a bank can change it, else None. Weights may be absent."""
    return {name: _shape(layer) if _plain(layer) else None for name, layer in network.named_modules()}


def require_fitting(where: str, shapes: Mapping[str, tuple[int, int] | None], own: Mapping[str, Factors]) -> None:
    """Raises BadInputError, naming layers, where a LoRA does not fit a network of these layers."""
    refuse(f"{where} has no such layers", [name for name in own if name not in shapes])
    refuse(f"{where} has LoRA beyond linear layers and 1 x 1 convolutions", [n for n in own if not shapes[n]])
    refuse(f"{where} has layers of other shapes", [n for n, factors in own.items() if not _fits(shapes[n], factors)])
    refuse(f"{where} has LoRA weights that are not finite numbers", [n for n, f in own.items() if not _finite(f)])


def _plain(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _shape(layer: nn.Module) -> tuple[int, int]:
    out, width = layer.get_parameter("weight").shape[:2]
    return out, width


def _fits(shape: tuple[int, int] | None, factors: Factors) -> bool:
    """Whether the factors are (rank, in) and (out, rank), as matrices or as kernels of one pixel."""
    rank, (out, width) = len(factors.down), shape or (0, 0)
    pairs = ((factors.down, (rank, width)), (factors.up, (out, rank)))
    return all((*own.shape[:2],) == sides and own.numel() == math.prod(sides) for own, sides in pairs)


def _finite(factors: Factors) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in (factors.down, factors.up, torch.tensor(factors.scale)))


def _stacked(layer: nn.Module, adapters: Mapping[int, Factors], count: int) -> tuple[Tensor, Tensor]:
    """A layer's factors of all adapters: down (count, rank, in), and up (count, rank, out) with the scales in it."""
    out, width = _shape(layer)
    rank = max(len(factors.down) for factors in adapters.values())
    down, up = torch.zeros(count, rank, width), torch.zeros(count, rank, out)
    for index, factors in adapters.items():
        own = len(factors.down)
        down[index, :own] = factors.down.reshape(own, width)
        up[index, :own] = factors.up.reshape(out, own).T * factors.scale
    return down, up

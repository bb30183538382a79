"""A bank of LoRA adapters inside a torch module: each row of a batch is computed with adapters of its own.

The bank keeps the factors of all adapters, zero-padded to each layer's largest rank, the first of them none. A call
gathers each row's, and every adapted layer adds two small products to its own. Several adapters of a row are one of a
higher rank: their factors stand side by side, and the two products sum over all of them. Knows no family and no file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.errors import BadInputError
from families.interface import ADAPTERS, BANK, MOST_ADAPTERS, Component, Range
from families.parts.lora import Factors, Lora

SHOWN = 3
"""Layers named in an error; the rest are counted."""
COMPARED = (1, 2, MOST_ADAPTERS)
"""Adapters of a row where an engine is compared, by the place of its shape; it is traced at the second."""


class Part(NamedTuple):
    """What the rows of a call add to a layer: `down` (rows, R, in) and `up` (rows, R, out), `scale` (rows, 1, R).

    R: adapters of a row x the layer's rank.
    """

    down: Tensor
    up: Tensor
    scale: Tensor


@dataclass(eq=False)
class Selection:
    """Every layer's part in the call under way."""

    parts: list[Part] = field(default_factory=list)


class Banked(nn.Module):
    """A module with two inputs more, last: `adapter` (rows, K) int32, indices into the bank, and `adapter_scale`.

    `factors`: of each layer `down` (adapters + 1, rank, in) and `up` (adapters + 1, rank, out), the first none. Those
    of one rank lie side by side, and are gathered and shaped together: a gather for each costs an engine more than
    the products themselves, and shapes for each layer cost an export the longest part of its tracing.
    """

    def __init__(self, module: nn.Module, factors: Sequence[tuple[Tensor, Tensor]], selection: Selection) -> None:
        super().__init__()
        self.module, self._selection = module, selection
        self._places: dict[int, list[int]] = {}
        for place, (down, _) in enumerate(factors):
            self._places.setdefault(down.shape[1], []).append(place)
        self._widths = [(down.shape[2], up.shape[2]) for down, up in factors]
        for rank, places in self._places.items():
            for name, half in (("downs", 0), ("ups", 1)):
                joined = torch.cat([factors[place][half] for place in places], dim=2)
                self.register_parameter(f"{name}_{rank}", nn.Parameter(joined, requires_grad=False))

    def forward(self, *inputs: Tensor) -> Tensor:
        *own, adapter, scale = inputs
        parts: dict[int, Part] = {}
        for rank, places in self._places.items():
            parts |= zip(places, self._gathered(rank, places, adapter, scale), strict=True)
        self._selection.parts = [parts[place] for place in range(len(parts))]
        output: Tensor = self.module(*own)
        return output

    def _gathered(self, rank: int, places: Sequence[int], adapter: Tensor, scale: Tensor) -> Iterator[Part]:
        """The parts of the layers of one rank."""
        (rows, count), chosen = adapter.shape, adapter.flatten()
        halves = []
        for name, half in (("downs", 0), ("ups", 1)):
            bank = self.get_parameter(f"{name}_{rank}")
            gathered = bank.index_select(0, chosen).reshape(rows, count * rank, bank.shape[2])
            halves.append(torch.split(gathered, [self._widths[place][half] for place in places], 2))
        # Between the two products, where it is cheapest: what comes of the first is smaller than the factors.
        each = scale.to(halves[1][0].dtype)[:, :, None].expand(-1, -1, rank).reshape(rows, 1, count * rank)
        return (Part(down, up, each) for down, up in zip(*halves, strict=True))


class BankedLayer(nn.Module):
    """A linear layer or a 1 x 1 convolution whose first axis is rows. `place`: that of its part in the selection."""

    def __init__(self, layer: nn.Module, place: int, selection: Selection) -> None:
        super().__init__()
        self.layer, self._place, self._selection = layer, place, selection

    @property
    def weight(self) -> Tensor:
        """The layer's own: some networks look at its type."""
        return self.layer.get_parameter("weight")

    def forward(self, x: Tensor) -> Tensor:
        down, up, scale = self._selection.parts[self._place]
        output: Tensor = self.layer(x)
        # `bmm`, which is one operation of a graph where `@` becomes six.
        if isinstance(self.layer, nn.Conv2d):  # channels first: (rows, in, h, w)
            return output + torch.bmm(up.mT, torch.bmm(down, x.flatten(2)) * scale.mT).view_as(output)
        if x.ndim == 2:  # one vector a row
            return output + torch.bmm(torch.bmm(x.unsqueeze(1), down.mT) * scale, up).squeeze(1)
        return output + torch.bmm(torch.bmm(x, down.mT) * scale, up)


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
        banked = BankedLayer(layers[name], len(factors), selection)
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

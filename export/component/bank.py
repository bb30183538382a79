"""A bank of LoRA adapters inside a torch module: each row of a batch is computed with an adapter of its own.

The bank keeps the factors of all adapters, zero-padded to each layer's largest rank, the first of them none. A call
gathers each row's, and every adapted layer adds two small products to its own. Knows no family and no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from export.errors import BadInputError
from families.parts.lora import Factors, Lora

SHOWN = 3
"""Layers named in an error; the rest are counted."""


@dataclass(eq=False)
class Selection:
    """What each row of the call under way adds: a part (rows, n) for each factor of each layer, in the bank's order."""

    parts: tuple[Tensor, ...] = ()


class Banked(nn.Module):
    """A module with one input more, last: `adapter` (rows, 1) int32, each row's index into the bank.

    `factors` (K + 1, total): all factors of all layers side by side, the first row none. Gathered by one operation,
    because a gather for each factor costs an engine more than the products themselves.
    """

    def __init__(self, module: nn.Module, factors: Sequence[Tensor], selection: Selection) -> None:
        super().__init__()
        self.module, self._selection = module, selection
        self._sizes = [factor[0].numel() for factor in factors]
        self.factors = nn.Parameter(torch.cat([factor.flatten(1) for factor in factors], dim=1), requires_grad=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        rows = self.factors.index_select(0, inputs[-1][:, 0])
        self._selection.parts = torch.split(rows, self._sizes, dim=1)
        output: Tensor = self.module(*inputs[:-1])
        return output


class BankedLayer(nn.Module):
    """A linear layer or a 1 x 1 convolution whose first axis is rows, with a row's two factors of a given rank.

    `place` is that of its `down` (in, rank) among the selection's parts; its `up` (rank, out) comes next.
    """

    def __init__(self, layer: nn.Module, place: int, rank: int, selection: Selection) -> None:
        super().__init__()
        self.layer, self._place, self._rank, self._selection = layer, place, rank, selection

    def forward(self, x: Tensor) -> Tensor:
        down, up = self._selection.parts[self._place : self._place + 2]
        down, up = down.view(down.shape[0], -1, self._rank), up.view(up.shape[0], self._rank, -1)
        output: Tensor = self.layer(x)
        if isinstance(self.layer, nn.Conv2d):  # channels first: (rows, in, h, w)
            return output + (up.mT @ (down.mT @ x.flatten(2))).view_as(output)
        if x.ndim == 2:  # one vector a row
            return output + (x.unsqueeze(1) @ down @ up).squeeze(1)
        return output + x @ down @ up


def build(module: nn.Module, component: str, adapters: Sequence[tuple[str, Lora, float]]) -> Banked:
    """`module`, whose network is its attribute `model`, with a bank of `adapters`: route, LoRA, scale; from index 1 on.

    Raises BadInputError, naming route and layers, where a LoRA does not fit or a bank cannot express it.
    """
    selection, network = Selection(), module.get_submodule("model")
    layers = dict(network.named_modules())
    changed: dict[str, dict[int, Factors]] = {}
    for index, (route, lora, scale) in enumerate(adapters, 1):
        own = lora.get(component, {})
        _require_fitting(f"adapter {route}: {component}", layers, own)
        for name, parts in own.items():
            changed.setdefault(name, {})[index] = replace(parts, scale=parts.scale * scale)
    factors: list[Tensor] = []
    for name, by_adapter in changed.items():
        down, up = _stacked(layers[name], by_adapter, len(adapters) + 1)
        banked = BankedLayer(layers[name], len(factors), down.shape[2], selection)
        network.set_submodule(name, banked, strict=True)
        factors += [down, up]
    return Banked(module, factors, selection)


def refuse(reason: str, layers: Sequence[str]) -> None:
    """Raises BadInputError with the reason and the layers' names, where there are any."""
    if layers:
        more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
        raise BadInputError(f"{reason}: {', '.join(layers[:SHOWN])}{more}")


def _require_fitting(where: str, layers: Mapping[str, nn.Module], own: Mapping[str, Factors]) -> None:
    refuse(f"{where} has no such layers", [name for name in own if name not in layers])
    refuse(f"{where} has LoRA beyond linear layers and 1 x 1 convolutions", [n for n in own if not _plain(layers[n])])
    refuse(f"{where} has layers of other shapes", [n for n, factors in own.items() if not _fits(layers[n], factors)])
    refuse(f"{where} has LoRA weights that are not finite numbers", [n for n, f in own.items() if not _finite(f)])


def _plain(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _fits(layer: nn.Module, factors: Factors) -> bool:
    weight = layer.get_parameter("weight")
    rank = len(factors.down)
    return factors.down.numel() == rank * weight.shape[1] and factors.up.numel() == weight.shape[0] * rank


def _finite(factors: Factors) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in (factors.down, factors.up, torch.tensor(factors.scale)))


def _stacked(layer: nn.Module, adapters: Mapping[int, Factors], count: int) -> tuple[Tensor, Tensor]:
    """A layer's factors of all adapters: down (count, in, rank), and up (count, rank, out) with the scales in it."""
    out, width = layer.get_parameter("weight").shape[:2]
    rank = max(len(factors.down) for factors in adapters.values())
    down, up = torch.zeros(count, width, rank), torch.zeros(count, rank, out)
    for index, factors in adapters.items():
        own = len(factors.down)
        down[index, :, :own] = factors.down.reshape(own, width).T
        up[index, :own] = factors.up.reshape(out, own).T * factors.scale
    return down, up

"""A bank of LoRA adapters inside a torch module: each row of a batch is computed with an adapter of its own.

Every adapted layer keeps the stacked factors of all adapters, zero-padded to its largest rank, the first of them none.
A call gathers each row's factors and adds two small products to the layer's own. Knows no family and no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from export.errors import BadInputError
from families.lora import Factors, Lora

SHOWN = 3
"""Layers named in an error; the rest are counted."""


@dataclass(eq=False)
class Selection:
    """Which adapter each row of the call under way has: `rows` (N,) of indices, 0 for none."""

    rows: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int32))


class Banked(nn.Module):
    """A module with one input more, last: `adapter` (rows, 1) int32, each row's index into the bank."""

    def __init__(self, module: nn.Module, selection: Selection) -> None:
        super().__init__()
        self.module, self._selection = module, selection

    def forward(self, *inputs: Tensor) -> Tensor:
        self._selection.rows = inputs[-1][:, 0]
        output: Tensor = self.module(*inputs[:-1])
        return output


class BankedLayer(nn.Module):
    """A linear layer or a 1 x 1 convolution whose first axis is rows, and its factors: `down` (K + 1, in, rank), `up`
    (K + 1, rank, out), the adapters' scales already in `up`."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, selection: Selection) -> None:
        super().__init__()
        self.layer, self._selection = layer, selection
        self.down, self.up = nn.Parameter(down, requires_grad=False), nn.Parameter(up, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = self._selection.rows
        down, up = self.down.index_select(0, rows), self.up.index_select(0, rows)  # (rows, in, rank), (rows, rank, out)
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
    for place, (route, lora, scale) in enumerate(adapters, 1):
        own = lora.get(component, {})
        _require_fitting(f"adapter {route}: {component}", layers, own)
        for name, factors in own.items():
            changed.setdefault(name, {})[place] = replace(factors, scale=factors.scale * scale)
    for name, by_place in changed.items():
        network.set_submodule(name, _banked(layers[name], by_place, len(adapters) + 1, selection), strict=True)
    return Banked(module, selection)


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


def _banked(layer: nn.Module, adapters: dict[int, Factors], count: int, selection: Selection) -> BankedLayer:
    out, width = layer.get_parameter("weight").shape[:2]
    rank = max(len(factors.down) for factors in adapters.values())
    down, up = torch.zeros(count, width, rank), torch.zeros(count, rank, out)
    for place, factors in adapters.items():
        own = len(factors.down)
        down[place, :, :own] = factors.down.reshape(own, width).T
        up[place, :own] = factors.up.reshape(out, own).T * factors.scale
    return BankedLayer(layer, down, up, selection)

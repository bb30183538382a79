"""Compares an engine with the torch module it was made from. Knows the tensor table and no family.

The comparison is bounded, so that it costs less than the engine: `ARITHMETIC` for all comparisons of a component
together, `MEMORY` for each. A picture that is too large for what is left is made smaller, and the table says so.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.component import cost
from export.component.weights import Compute
from export.engines import Run
from families.interface import ROWS, Component

ARITHMETIC = {"cpu": 8e12, "cuda": 8e14}
"""Most floating point operations of a component's comparisons in torch, by where torch runs."""
MEMORY = 1 << 30
"""Most bytes of tensors that a comparison holds at once, weights apart."""

Inputs = Callable[[Mapping[str, int]], Sequence[torch.Tensor]]
"""Inputs in the table's order where the axes have these sizes."""


@dataclass(frozen=True)
class Comparison:
    """Where an engine is compared, and where it would be without bounds."""

    sizes: Mapping[str, int]
    asked: Mapping[str, int]

    def __str__(self) -> str:
        """As in `1 x 32 x 128`, or `1 x 32 x 72 of 1 x 32 x 128`."""
        made, asked = (" x ".join(map(str, sizes.values())) for sizes in (self.sizes, self.asked))
        return made if made == asked else f"{made} of {asked}"


def bounded(module: torch.nn.Module, component: Component, inputs: Inputs, device: str) -> Iterator[Comparison]:
    """The table's shapes, each as large as the bounds leave room for; at the smallest sizes they give way."""
    left, costs = ARITHMETIC[device], len(component.shapes)
    largest = cost.of(module, inputs(max(component.shapes, key=lambda sizes: math.prod(sizes.values()))))
    if largest.flop * costs <= left and largest.bytes <= MEMORY:  # counting is not free, and most models are small
        yield from (Comparison(sizes, sizes) for sizes in component.shapes)
        return
    for asked in component.shapes:
        sizes, price = _affordable(module, component, inputs, asked, left)
        left -= price.flop
        yield Comparison(sizes, asked)


def _affordable(
    module: torch.nn.Module, component: Component, inputs: Inputs, asked: Mapping[str, int], flop: float
) -> tuple[Mapping[str, int], cost.Cost]:
    """The largest of `asked` and the sizes below it whose cost is within `flop` and `MEMORY`, with that cost."""
    sizes, smaller = asked, _smaller(asked, component)
    price = cost.of(module, inputs(sizes))
    while (price.flop > flop or price.bytes > MEMORY) and smaller != sizes:
        sizes, smaller = smaller, _smaller(smaller, component)
        price = cost.of(module, inputs(sizes))
    return sizes, price


def _smaller(sizes: Mapping[str, int], component: Component) -> dict[str, int]:
    """Every axis but rows half as far above its smallest size; where all are there, half the rows."""
    halved = {axis: _halved(size, component, axis) for axis, size in sizes.items() if axis != ROWS}
    if any(halved[axis] < sizes[axis] for axis in halved):
        return {**sizes, **halved}
    return {axis: max(1, size // 2) if axis == ROWS else size for axis, size in sizes.items()}


def _halved(size: int, component: Component, axis: str) -> int:
    limits = component.ranges[axis]
    return limits.min + (size - limits.min) // 2 // limits.step * limits.step


def relative_error(ours: NDArray[Any], reference: NDArray[Any]) -> float:
    """Root mean square of the difference over the reference's; infinite for other shapes or values not finite."""
    if ours.shape != reference.shape or not np.isfinite(ours).all() or not np.isfinite(reference).all():
        return math.inf
    difference = float(np.linalg.norm(ours.astype(np.float64) - reference))
    return difference / max(float(np.linalg.norm(reference.astype(np.float64))), 1e-12)


def against_torch(run: Run, compute: Compute, component: Component, inputs: Sequence[torch.Tensor]) -> float:
    """The largest relative error of all outputs of one forward pass at `inputs` (in the table's order)."""
    references = compute(*inputs)
    ours = run({tensor.name: given.numpy() for tensor, given in zip(component.inputs, inputs, strict=True)})
    pairs = zip(component.outputs, references, strict=True)
    return max(relative_error(ours[tensor.name], reference.numpy()) for tensor, reference in pairs)

"""Compares an engine with the torch module it was made from. Knows the tensor table and no family."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from families.tensors import Component

Run = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]
"""One forward pass of an engine: inputs by name -> its output."""


def relative_error(ours: NDArray[Any], reference: NDArray[Any]) -> float:
    """Root mean square of the difference over the reference's; infinite for other shapes or values not finite."""
    if ours.shape != reference.shape or not np.isfinite(ours).all() or not np.isfinite(reference).all():
        return math.inf
    difference = float(np.linalg.norm(ours.astype(np.float64) - reference))
    return difference / max(float(np.linalg.norm(reference.astype(np.float64))), 1e-12)


def against_torch(run: Run, module: torch.nn.Module, component: Component, inputs: Sequence[torch.Tensor]) -> float:
    """The relative error of one forward pass at `inputs` (in the table's order)."""
    names = [tensor.name for tensor in component.inputs]
    with torch.inference_mode():
        reference = module(*inputs).numpy()
    return relative_error(run({name: t.numpy() for name, t in zip(names, inputs, strict=True)}), reference)

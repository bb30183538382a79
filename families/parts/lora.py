"""A LoRA as the export sees it, whatever its file looked like. Knows no family, nor how files are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Factors:
    """What a LoRA adds to a layer: `scale` x `up` (out, rank) x `down` (rank, in), 4 axes each for a convolution."""

    down: "torch.Tensor"
    up: "torch.Tensor"
    scale: float


Lora = Mapping[str, Mapping[str, Factors]]
"""Component -> layer, as the component's network names it -> its factors."""

Layers = Mapping[str, Mapping[str, tuple[int, int] | None]]
"""Component -> layer, as above -> its outputs and inputs; None for what is neither linear nor a 1 x 1 convolution."""

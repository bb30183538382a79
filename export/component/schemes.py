"""Precisions of fewer bits than a float's 16: what of a layer they narrow. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["convolution", "linear"]
LAYER_KINDS: tuple[LayerKind, ...] = ("convolution", "linear")
"""Layers that can be narrowed."""
GATED = 8
"""Outputs of a gated layer (GEGLU) for each of its inputs: between such a one and the next no convolution copies."""
INT8, INT7 = 127, 63
"""Largest numbers of symmetric int8, and of half of it: two of its products with uint8 add up in 16 bits."""


@dataclass(frozen=True)
class Scheme:
    """How linear layers and convolutions are narrowed; all else computes in a float that the engine chooses.

    `activations`: whether a layer's input is narrowed too, within the range that calibration finds; else the weights
    alone are, which saves memory and needs no calibration. `instead`: the precision of layers that this one does not
    take, which are all but linear layers of 2 or 3 axes whose inputs divide into blocks; "" where it takes all.
    """

    weights: Literal["int8", "int4", "fp8", "nvfp4"]
    activations: bool
    instead: str = ""
    kinds: tuple[LayerKind, ...] = LAYER_KINDS
    """Of layers: others would be slower by it where the engine runs."""
    largest: int = INT8
    """Number of an int8 weight."""
    convolved: int = 0
    """Inputs from which on a linear layer of half as many outputs or more is narrowed as a 1 x 1 convolution, where its
    own kind is not taken; of half as many inputs one of `GATED` times as many outputs is; 0: none is."""

    @property
    def bits(self) -> int:
        """Of a weight, its scales apart."""
        return 4 if self.weights in {"int4", "nvfp4"} else 8

    def convolves(self, weight: Sequence[int]) -> bool:
        """Whether a linear layer, of a weight (out, in), is narrowed as a convolution."""
        out, inputs = weight
        wide = self.convolved <= min(inputs, 2 * out)
        gated = self.convolved <= 2 * inputs and out >= GATED * inputs
        return "linear" not in self.kinds and self.convolved > 0 and (wide or gated)


SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme("int8", activations=True),
    "fp8": Scheme("fp8", activations=True),
    "nvfp4": Scheme("nvfp4", activations=True, instead="fp8"),
    "w8": Scheme("int8", activations=False),
    "w4": Scheme("int4", activations=False),
}
"""By the names of precisions."""

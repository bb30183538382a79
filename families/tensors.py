"""The tensor table: what a family's components take and give. Configs, profiles and checks follow from it.

Knows nothing of any family, of ONNX or of an engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from families.lora import Lora

ROWS = "rows"
"""The batch axis: the first of every tensor."""


@dataclass(frozen=True)
class Range:
    """Smallest, usual and largest value of a dynamic axis."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True)
class Tensor:
    """One input or output. `axes` leaves out the leading rows axis; a string names a dynamic axis."""

    name: str
    dtype: str
    axes: tuple[int | str, ...]


ADAPTER = Tensor("adapter", "INT32", (1,))
"""Whose low-rank factors a row is computed with: 0 for none, else one of the export's adapters, counted from 1.

The last input of a component that has a bank of adapters; others lack it.
"""


@dataclass(frozen=True)
class Limits:
    """What the export's command line bounds: `max_pixels` of a picture's working size, `max_batch` rows of a call."""

    max_pixels: int
    max_batch: int


@dataclass(frozen=True)
class Component:
    """One engine. `ranges` holds rows and every named axis.

    `shapes` are the three points of the ranges at which the engine is compared with torch, from smallest to largest.
    `tolerance` is the largest relative error (root mean square) by precision. `weights` is the checkpoint's sub-folder.
    """

    name: str
    weights: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ranges: Mapping[str, Range]
    shapes: tuple[Mapping[str, int], ...]
    tolerance: Mapping[str, float]
    batches: bool
    """Whether Triton should gather requests of several edits (the denoiser is handed whole batches already)."""
    cached: bool = False
    """Whether the same inputs come again so often that Triton should keep the answers."""
    adapts: bool = False
    """Whether LoRA adapters may change its layers."""


class Components(Protocol):
    """What a family's `components` module offers the export."""

    FILES: tuple[str, ...]
    """Files and folders of the checkpoint that the Python models read at run time."""

    CONDITIONING: tuple[Tensor, ...]
    """What the `preprocess` model gives, axes with rows: the inputs of the engines that run before the loop, guidance,
    and `adapter`, the adapter of each row of text."""

    DENOISER: str
    """The component that the batcher calls; what runs before it conditions, what is named after it renders."""

    LORA_LEADS: tuple[str, ...]
    """How the names of tensors begin in LoRA files for this family."""

    ROWS_PER_EDIT: int
    """Largest row count of one edit in one denoiser call; `max_batch` may not be below it."""

    def table(self, checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
        """The tensor table. Raises families.errors.BadCheckpointError when the configs do not describe this family."""

    def picture(self, checkpoint: Path, limits: Limits) -> Mapping[str, int]:
        """The numbers that `families.picture.WorkingSize` needs: max_pixels, multiple, min_side, max_side."""

    def require_files(self, checkpoint: Path, limits: Limits) -> None:
        """Raises families.errors.BadCheckpointError where FILES, all of them there, cannot serve an edit."""

    def module(self, component: str, checkpoint: Path) -> "torch.nn.Module":
        """The component as a torch module in fp32 whose forward takes the table's inputs in order, gives its output.

        Its network, whose layers LoRA files name, is its attribute `model`.
        """

    def read_lora(self, file: Path) -> "Lora":
        """A LoRA file's factors by component. Raises families.errors.BadCheckpointError."""

    def sample(self, tensor: Tensor, shape: tuple[int, ...], generator: "torch.Generator") -> "torch.Tensor":
        """A random input that looks like what the component meets in an edit."""

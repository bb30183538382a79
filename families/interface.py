"""What a family offers: the page to read before adding a kind of model.

A family is a folder of `families/`, one line of `families.PIPELINES`, and a tiny checkpoint under `tests/families/`:

    table.py         FILES, OPTIONS, components, settings, require_files   (no torch)
    modules.py       module, sample
    lora.py          PREFIXES, read_lora                                    (only if it takes adapters)
    conditioning.py  Conditioner
    denoising.py     plan, noise

The first three make engines and are imported by `export`; the last two run inside Triton's model `edit_stream`. Nothing
else in the project names a family. What families share is in `families/parts/`.

An edit passes: `edit.read` (validated, defaults filled in) -> `Conditioner` (encoders called) -> `plan` (a loop) -> the
batcher (one `denoiser` call a step, with other edits' rows) -> `render` (decoder, picture file).
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from families.edit import Edit
    from families.parts.lora import Layers, Lora
    from families.schedules import NoiseSchedules
    from families.settings import Settings

Array = NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by the names that the table gives them."""

ROWS = "rows"
"""The axis along which calls are joined. A component of which it is every tensor's first axis is batched."""
DENOISER, PREDICTION = "denoiser", "prediction"
"""Name of the one component of role denoiser, and of its output."""
PIXELS = "pixels"
"""(1, 3, H, W) float32 in [-1, 1]: the input of the encoder of pictures, the output of the decoder."""
PREPROCESS, MASK = "preprocess", "mask"
"""What prepares pictures, and is asked by itself for a mask: `image`, `size_rule` -> `mask` (1, 1, h, w)."""
REFERENCE, RENDER, PREVIEW = "reference", "render", "preview"
"""Ensembles: `image`, `size_rule` -> what the encoder of pictures gives; the decoder's inputs -> a picture file; the
same by a smaller decoder, where the export has one."""
VISION_ENCODER, VIEW = "vision_encoder", "view"
"""What looks at a picture for a text encoder, and its ensemble: `image`, `size_rule` -> what it gives."""


# --- The table: what the engines take and give ---------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """Smallest, usual and largest size of a named axis; sizes between are multiples of `step` above the smallest."""

    min: int
    opt: int
    max: int
    step: int = 1


@dataclass(frozen=True)
class Tensor:
    """One input or output. `axes` is its whole shape; a string names an axis, shared by all tensors that have it."""

    name: str
    dtype: str
    """As Triton writes it: FP32, INT64, INT32, BOOL."""
    axes: tuple[int | str, ...]

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape where the named axes have these sizes."""
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)


ADAPTERS = "adapters"
"""The axis of the adapters that one row adds up. As long as the row of a call that has most of them needs."""
MOST_ADAPTERS = 4
"""Of one edit."""
ADAPTER = Tensor("adapter", "INT32", (ROWS, ADAPTERS))
"""Whose low-rank factors a row is computed with: 0 for none, else one of the export's adapters, counted from 1."""
ADAPTER_SCALE = Tensor("adapter_scale", "FP32", (ROWS, ADAPTERS))
"""What multiplies that which each of them adds, beside the scale that the export gave it."""
BANK = (ADAPTER, ADAPTER_SCALE)
"""The last inputs of a component that has a bank of adapters. The export adds them and `edit_stream` fills them, with
the edit's adapters that change the component: no family names them."""


_NARROW = {"int8": 0.2, "fp8": 0.2, "nvfp4": 0.4, "w8": 5e-2, "w4": 0.4}
TOLERANCE: Mapping[str, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2, **_NARROW}
"""What rounding leaves of a network of usual depth, and no fault of a graph does. Of those that narrow layers the
pictures are compared, too."""


@dataclass(frozen=True)
class Component:
    """One engine."""

    name: str
    role: Literal["encoder", "denoiser", "decoder"]
    weights: str
    """The checkpoint's sub-folder; an absolute path for what is of another checkpoint."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ranges: Mapping[str, Range]
    """Of every named axis."""
    shapes: tuple[Mapping[str, int], ...]
    """Where the engine is compared with torch, smaller pictures first; it is traced at the second."""
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCE)
    """Largest relative error (root mean square) by precision."""
    precisions: tuple[str, ...] = ("fp16", "bf16", "fp32")
    """What it may be computed in unless the user names it; the first that the engine runs natively is its default."""
    gathers: bool = False
    """Whether Triton should gather requests of several edits (the denoiser is handed whole batches already)."""
    cached: bool = False
    """Whether the same inputs come again so often that Triton should keep the answers."""
    whole: Mapping[str, int] = field(default_factory=dict)
    """Largest sizes by axes of its input, where it computes larger pictures in tiles. The export alone sets it."""
    adapts: bool = False
    """Whether LoRA adapters may change its layers."""
    named: str = ""
    """How the names of its weights begin, as a regular expression, where others share its sub-folder."""
    beside: tuple[str, ...] = ()
    """Files of the checkpoint, of those that there are, that its module reads beside its config and weights."""

    @property
    def batched(self) -> bool:
        """Whether rows are the first axis of all its tensors."""
        return all(tensor.axes[0] == ROWS for tensor in (*self.inputs, *self.outputs))

    def sizes(self, end: Literal["min", "opt", "max"]) -> dict[str, int]:
        """The size of every named axis at one end of its range."""
        return {axis: getattr(sizes, end) for axis, sizes in self.ranges.items()}


@dataclass(frozen=True)
class Limits:
    """What the export's command line bounds and says of the checkpoint.

    `max_pixels` of a picture's working size, `max_batch` rows of a call, `max_images` of a request (None: the family's
    own), and those of the table's OPTIONS that were given.
    """

    max_pixels: int
    max_batch: int
    max_images: int | None = None
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Defaults:
    """What an edit has where its caller says nothing, and how large it may be. All but `own` stands in Triton's config.

    `rows`: most rows of one edit in a call. `max_tokens`: most rows x tokens of one call; what a token is, the family
    says. `size_rule`: of the pictures that are edited (`to_json` of one of `families.sizes`), `canvas`: of those from
    text alone, "" where it makes none. `negative_prompt`: whether there is guidance away from one. `max_pixels`: of
    the largest answer, where that may be more than was asked for; 0 where not. `own`: what conditioning and denoising
    read, as JSON.
    """

    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    max_images: int
    rows: int
    max_tokens: int
    size_rule: str
    canvas: str = ""
    negative_prompt: bool = False
    max_pixels: int = 0
    own: Mapping[str, Any] = field(default_factory=dict)


class Table(Protocol):
    """`table.py`. Its functions raise families.errors.BadCheckpointError where the configs describe no such family."""

    FILES: tuple[str, ...]
    """Files and folders of the checkpoint that `Conditioner` and schedules read; kept with the export."""
    OPTIONS: Mapping[str, str]
    """What a checkpoint may need to be told of itself (`--option NAME`): name -> help."""

    def components(self, checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
        """The engines in the order in which an edit meets them."""

    def settings(self, checkpoint: Path, limits: Limits) -> Defaults:
        """Defaults and bounds of an edit."""

    def require_files(self, checkpoint: Path, limits: Limits) -> None:
        """Raises also where FILES, all of them there, cannot serve an edit."""


class Modules(Protocol):
    """`modules.py`."""

    def module(self, name: str, checkpoint: Path) -> "torch.nn.Module":
        """A component, taking the table's inputs in order, giving its outputs in order.

        Its weights are not read: `families.parts.pretrained` says where they lie, and its `fill` reads them. Floats go
        in and out as float32 whatever their type. Its network, whose layers LoRA files name, is its attribute `model`.
        Raises families.errors.BadCheckpointError.
        """

    def sample(self, tensor: Tensor, shape: tuple[int, ...], generator: "torch.Generator") -> "torch.Tensor":
        """A random input that looks like what the component meets in an edit."""


class LoraFiles(Protocol):
    """`lora.py`."""

    PREFIXES: tuple[str, ...]
    """How the names of tensors begin in LoRA files for this family."""

    def read_lora(self, file: Path, checkpoint: Path, layers: "Layers") -> "Lora":
        """A LoRA file's factors by component, every tensor of it placed.

        `layers`: of the components that it may change. Raises families.errors.BadCheckpointError.
        """


# --- The edit: from its words and pictures to a loop ---------------------------------------------------------------


class Call(Protocol):
    """Calls an engine or ensemble in Triton for one edit, with the edit's adapters where the engine has a bank."""

    def __call__(self, model: str, inputs: Tensors) -> Tensors:
        """All outputs of the model; the arrays are the caller's own. Raises whatever makes the edit fail."""

    def together(self, *calls: tuple[str, Tensors]) -> Sequence[Tensors]:
        """Several calls side by side, answers in their order."""


class Conditioner(Protocol):
    """`conditioning.Conditioner(files, settings)`: made once from the folder that holds FILES; used by many threads.

    It only waits for engines: whatever takes Python more than a few milliseconds belongs into a model of its own.
    """

    def __call__(self, edit: "Edit", call: Call) -> Tensors:
        """What `plan` needs of an edit: its text and pictures, encoded. Raises families.errors.InvalidEditError."""


@dataclass(frozen=True)
class Step:
    """The inputs of the denoiser's next call that change from step to step; every array's first axis is rows.

    Fewer rows than `Plan.constant` has are the first ones; without inputs there is no call (`families.step_cache`).
    `preview` gives the denoised estimate after the last step, as the decoder takes it; None before the first, or where
    the sampler has none. It is computed when it is called, and right until the loop goes on.
    """

    inputs: Tensors
    preview: Callable[[], Tensors] | None = None


Loop = Generator[Step, Array, Tensors]
"""A denoising loop turned inside out: yields steps, is sent their predictions, returns the decoder's inputs.

A prediction may be overwritten once the loop has yielded and was asked for its preview: who keeps it, copies. Along a
`padded` axis it may be longer than what was yielded."""


@dataclass(frozen=True)
class Plan:
    """One edit, ready to be denoised. Rows of a call do not influence one another.

    Two edits share a call where the shapes of all their inputs are equal. `constant`: the inputs that are the same at
    every step. `tokens`: of one row. `steps`: that the loop yields. `usage`: how many tokens of text, of pictures that
    are looked at and of the one to be made the caller is told (of a UNet, latents). `padded`: by axis,
    the inputs whose second axis it is, where zeros behind them are tokens that nothing sees: edits that differ in its
    length may share a call, whose prediction is then as long as the longest of them, and the loop takes what is its
    own. The lengths of these axes are the row's tokens.
    """

    constant: Tensors
    loop: Loop
    tokens: int
    steps: int
    usage: tuple[int, int, int]
    padded: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Denoising(Protocol):
    """`denoising.py`."""

    def plan(self, edit: "Edit", tensors: Tensors, schedules: "NoiseSchedules", settings: "Settings") -> Plan:
        """The plan of an edit from what its `Conditioner` gave."""

    def noise(self, steps: int, tokens: int, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a schedule of so many steps is made with beside their number: `sigmas`, `mu`; empty for some families.

        `tokens`: of the picture to be made. `config`: the scheduler's. The export tries all numbers of steps.
        """

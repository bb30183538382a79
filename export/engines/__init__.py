"""Engine kinds: what compiles an ONNX file, runs the result for the numeric check, and says how Triton serves it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from backends.processor import HELD, WITHOUT
from export.component.schemes import Scheme
from export.errors import BadInputError
from families.interface import Component

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""One forward pass of an engine: inputs by name -> outputs by name."""

KINDS = ("openvino", "tensorrt", "tensorrt_rtx")

Advance = Callable[[float], None]
"""Told how much of a stage is done, from 0 to 1."""


@dataclass(frozen=True)
class Work:
    """One component to compile: `onnx` into `folder`, the model's version folder. `caches` outlives the export."""

    onnx: Path
    component: Component
    precision: str
    folder: Path
    caches: Path
    advance: Advance = lambda _done: None


@dataclass(frozen=True)
class Serving:
    """How Triton serves an engine kind: its backend's name, the instances' kind, the backend's parameters.

    `warm_up`: whether a first call is slow enough for Triton to make it before it says that it is ready.
    `warms_up`: whether the backend makes first calls itself, which it bounds, since a processor may take minutes.
    `cuda_graphs`: whether the backend captures them for the shapes that config.pbtxt lists.
    `ours`: whether it is one of `backends`, which hold inputs to their bounds, and read a denoiser's in memory of
    `edit_stream`'s.
    """

    backend: str
    instance_kind: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    warm_up: bool = False
    warms_up: bool = False
    cuda_graphs: bool = False
    ours: bool = False


class Engine(Protocol):
    """One engine kind. `precisions` lists what it compiles.

    `traces_narrow`: whether it computes in the types of the ONNX file, so that the graph is traced in its precision;
    then the file must also be free of sequences, which TensorRT cannot read.
    """

    name: str
    targets: tuple[str, ...]
    """Compute capabilities that it compiles for; none for processors."""
    precisions: tuple[str, ...]
    traces_narrow: bool

    def native(self) -> tuple[str, ...]:
        """The precisions that this machine runs natively, or for another machine's GPU that GPU."""

    def refuses(self, precision: str) -> str:
        """What it wants that the GPUs compiled for do not have, and what to name instead; "" where they do it."""

    def versions(self) -> Mapping[str, str]:
        """What the compiled file depends on, for its fingerprint."""

    def computes(self, precision: str) -> str:
        """The float in which all is computed that `precision` does not narrow: itself where it is a float."""

    def scheme(self, precision: str) -> Scheme | None:
        """How `precision` narrows layers where the engine runs; None for a float."""

    def keeps(self, precision: str, lying: str | None) -> str:
        """The type of a weight in the ONNX file, cast in the graph where the graph computes in another.

        `lying`: its type in the checkpoint; None for one that is no precision of ours.
        """

    def takes(self, precision: str, numbers: int) -> tuple[int, int]:
        """About how many bytes of main memory, and of a GPU's, compiling and calling so many weights takes."""

    def compile(self, work: Work) -> None:
        """Writes the engine's files into `work.folder`."""

    def runs_here(self) -> bool:
        """Whether this machine can run what was compiled."""

    def open(self, work: Work) -> Run:
        """The engine in `work.folder`, ready to run here."""

    def serving(self, component: Component, precision: str) -> Serving:
        """How Triton serves it. A denoiser's backend, and that of what computes pictures in tiles, is ours."""


def load(kind: str, targets: Sequence[str] = ()) -> Engine:
    """The engine kind of that name; `targets`: compute capabilities to compile for. Raises BadInputError."""
    # Each is imported only where it is installed and asked for.
    if kind == "openvino":
        if targets:
            raise BadInputError("--compute-capability belongs to --engine tensorrt_rtx")
        if (asked := os.environ.get(HELD)) and asked not in WITHOUT:
            raise BadInputError(f"{HELD} is one of {', '.join(WITHOUT)} or left out, and not {asked!r}")
        from export.engines.openvino import OpenVino  # noqa: PLC0415

        return OpenVino()
    if kind in KINDS:
        from export.engines.tensorrt import TensorRt  # noqa: PLC0415

        return TensorRt(kind, targets)
    raise BadInputError(f"--engine {kind} is unknown; available: {', '.join(KINDS)}")

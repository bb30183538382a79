"""Engine kinds: what compiles an ONNX file, runs the result for the numeric check, and says how Triton serves it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from export.check import Run
from export.errors import BadInputError
from families.tensors import Component

PLANNED = ("tensorrt", "tensorrt_rtx")
KINDS = ("openvino",)


class Engine(Protocol):
    """One engine kind. `precisions` lists what it compiles, the first being the safe choice."""

    name: str
    precisions: tuple[str, ...]

    def default_precision(self) -> str:
        """The fastest precision that this machine runs natively."""

    def versions(self) -> Mapping[str, str]:
        """What the compiled file depends on, for its fingerprint."""

    def compile(self, onnx: Path, component: Component, precision: str, folder: Path) -> None:
        """Writes the engine's files into `folder` (the model's version folder)."""

    def open(self, folder: Path, component: Component, precision: str) -> Run:
        """The engine in `folder`, ready to run here."""

    def serving(self, precision: str) -> tuple[str, str, Mapping[str, str]]:
        """Triton's backend name, instance kind, and parameters."""


def load(kind: str) -> Engine:
    """The engine kind of that name. Raises BadInputError."""
    if kind in PLANNED:
        raise BadInputError(f"--engine {kind} is not available yet; available: {', '.join(KINDS)}")
    if kind not in KINDS:
        raise BadInputError(f"--engine {kind} is unknown; available: {', '.join(KINDS)}")
    from export.engines.openvino import OpenVino  # noqa: PLC0415 - imported only where it is installed and asked for

    return OpenVino()

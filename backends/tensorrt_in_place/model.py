"""Serves TensorRT plans where Triton's own TensorRT backend will not do: a Python-based Triton backend.

That one is given every tensor of a denoiser's call anew at each step, by way of Triton, and computes pictures whole.
This one reads them in the memory of `edit_stream` (`backends.in_place`), copies what has changed to the GPU, and has
pictures computed in tiles. Parameters of ``config.pbtxt``: ``CUDA_GRAPHS`` (``YES`` or ``NO``; by default YES: one for
each set of shapes that comes twice), ``MAX_DIMS`` and ``TILES`` (`backends.signature`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import tensorrt_bindings

from backends.plan import Options
from backends.plan_model import YES_OR_NO, Choices, PlanModel

if TYPE_CHECKING:
    from collections.abc import Mapping


class TritonPythonModel(PlanModel):
    """One model instance, as Triton's Python backend drives it."""

    library = tensorrt_bindings
    engine_kind, backend = "tensorrt", "tensorrt_in_place"
    choices: ClassVar[Choices] = {"CUDA_GRAPHS": YES_OR_NO}

    def options(self, parameters: Mapping[str, str], device: int) -> Options:
        """As the parameters say."""
        return Options(device, parameters["CUDA_GRAPHS"] == "YES")

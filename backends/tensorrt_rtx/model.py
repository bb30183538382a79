"""Serves TensorRT for RTX plans: a Python-based Triton backend.

Parameters of ``config.pbtxt``: ``CUDA_GRAPHS`` (``YES`` or ``NO``; by default YES), ``KERNEL_SPECIALIZATION``
(``LAZY``, ``EAGER`` or ``NONE``; by default LAZY: a first call of a shape runs kernels made for any shape, while better
ones are compiled in the background), ``MAX_DIMS`` and ``TILES`` (`backends.signature`). What was compiled is kept for
the next start (`backends.kernel_cache`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import tensorrt_rtx

from backends.plan import Options
from backends.plan_model import YES_OR_NO, Choices, PlanModel

if TYPE_CHECKING:
    from collections.abc import Mapping


class TritonPythonModel(PlanModel):
    """One model instance, as Triton's Python backend drives it."""

    library = tensorrt_rtx
    engine_kind = backend = "tensorrt_rtx"
    choices: ClassVar[Choices] = {"CUDA_GRAPHS": YES_OR_NO, "KERNEL_SPECIALIZATION": ("LAZY", "EAGER", "NONE")}

    def options(self, parameters: Mapping[str, str], device: int) -> Options:
        """As the parameters say."""
        graphs, specialization = parameters["CUDA_GRAPHS"] == "YES", parameters["KERNEL_SPECIALIZATION"]
        return Options(device, graphs, specialization, keeps_kernels=True)

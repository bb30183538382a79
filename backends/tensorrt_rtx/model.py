"""Serves TensorRT for RTX plans: a Python-based Triton backend.

Parameters of ``config.pbtxt``: ``CUDA_GRAPHS`` (``YES`` or ``NO``; by default YES), ``KERNEL_SPECIALIZATION``
(``LAZY``, ``EAGER`` or ``NONE``; by default LAZY: a first call of a shape runs kernels made for any shape, while better
ones are compiled in the background), ``MAX_DIMS`` and ``TILES`` (`backends.signature`). Every start compiles its
kernels anew: TensorRT's runtime cache is not used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorrt_rtx as trt
import triton_python_backend_utils as pb_utils

from backends.channel import Channels
from backends.common import answer
from backends.plan import Options, Plan
from backends.signature import TensorSpec, check_signature, own_parameters, read_signature
from backends.tiles import Tiling, tiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.plan import PlanTensor

_PLAN_FILE = "model.plan"
_CHOICES = {"CUDA_GRAPHS": ("YES", "NO"), "KERNEL_SPECIALIZATION": ("LAZY", "EAGER", "NONE")}


def read_options(config: Mapping[str, Any], device: int) -> Options:
    """The options that the parameters of a parsed ``config.pbtxt`` set.

    Raises:
        ValueError: a parameter is unknown or has a value it cannot have; names it.
    """
    parameters = {name: value.upper() for name, value in own_parameters(config).items()}
    for name, value in parameters.items():
        if name not in _CHOICES:
            raise ValueError(f"the tensorrt_rtx backend knows no parameter {name}")
        if value not in _CHOICES[name]:
            raise ValueError(f"the parameter {name} is {value!r}, and must be {' or '.join(_CHOICES[name])}")
    return Options(
        device=device,
        cuda_graphs=parameters.get("CUDA_GRAPHS", "YES") == "YES",
        specialization=parameters.get("KERNEL_SPECIALIZATION", "LAZY"),
    )


def _specs(tensors: tuple[PlanTensor, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)


class TritonPythonModel:
    """One model instance, as Triton's Python backend drives it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the plan; what is wrong with it becomes Triton's load error."""
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or _PLAN_FILE)
        try:
            if not file.exists():
                raise ValueError(f"there is no {file}")
            self._signature = read_signature(config)
            plan = Plan(trt, file, read_options(config, int(args["model_instance_device_id"])))
            check_signature(self._signature, _specs(plan.inputs), _specs(plan.outputs))
            self._channels = Channels(self._signature, tiled(plan.infer, Tiling.read(config)))
        except (ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(f"model {args['model_name']}: {error}") from None
        pb_utils.Logger.log_info(f"{args['model_name']}: TensorRT for RTX {trt.__version__}")

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer the requests of one batch."""
        return answer(requests, self._signature, self._channels)

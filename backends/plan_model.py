"""A model of the backends that serve plans, of TensorRT and of TensorRT for RTX."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import triton_python_backend_utils as pb_utils

from backends.channel import Channels
from backends.common import answer
from backends.compatibility import PRODUCTS
from backends.cuda import GpuLostError
from backends.plan import Options, Plan
from backends.signature import TensorSpec, check_signature, own_parameters, read_signature
from backends.tiles import Tiling, tiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.in_place import Array, Place
    from backends.plan import PlanTensor

_PLAN_FILE = "model.plan"
YES_OR_NO = ("YES", "NO")

Choices = dict[str, tuple[str, ...]]
"""Parameter of ``config.pbtxt`` -> what it may be; the first where it is not there."""


def read_parameters(config: Mapping[str, Any], backend: str, choices: Choices) -> dict[str, str]:
    """What a parsed ``config.pbtxt`` sets of the parameters of that backend, and what holds of the others.

    Raises:
        ValueError: a parameter is unknown or has a value it cannot have; names it.
    """
    given = {name: value.upper() for name, value in own_parameters(config).items()}
    for name, value in given.items():
        if name not in choices:
            raise ValueError(f"the {backend} backend knows no parameter {name}")
        if value not in choices[name]:
            raise ValueError(f"the parameter {name} is {value!r}, and must be {' or '.join(choices[name])}")
    return {name: values[0] for name, values in choices.items()} | given


def _specs(tensors: tuple[PlanTensor, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)


class PlanModel:
    """One model instance. A backend's own says by which library, its name, and what its parameters mean."""

    library: ClassVar[Any]
    engine_kind: ClassVar[str]
    backend: ClassVar[str]
    choices: ClassVar[Choices]

    def options(self, parameters: Mapping[str, str], device: int) -> Options:
        """Of the plan."""
        raise NotImplementedError

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the plan; what is wrong with it becomes Triton's load error."""
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or _PLAN_FILE)
        try:
            if not file.exists():
                raise ValueError(f"there is no {file}")
            self._signature = read_signature(config)
            parameters = read_parameters(config, self.backend, self.choices)
            self._plan = plan = Plan(
                self.library, file, self.options(parameters, int(args["model_instance_device_id"]))
            )
            check_signature(self._signature, _specs(plan.inputs), _specs(plan.outputs))
            self._name = args["model_name"]
            self._channels = Channels(self._signature, tiled(self._infer, Tiling.read(config)))
        except (ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(f"model {args['model_name']}: {error}") from None
        pb_utils.Logger.log_info(f"{args['model_name']}: {PRODUCTS[self.engine_kind]} {self.library.__version__}")

    def _infer(self, inputs: Mapping[str, Array], place: Place | None = None, /) -> dict[str, Array]:
        """As the plan does. A GPU that is lost ends the process, as a kill would, for whoever keeps Triton alive begins
        anew then; else every later call failed, and nobody would."""
        try:
            return self._plan.infer(inputs, place)
        except GpuLostError as error:
            sys.stderr.write(f"model {self._name}: {error}: the GPU is lost to this process, which ends\n")
            sys.stderr.flush()
            os._exit(1)

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer the requests of one batch."""
        return answer(requests, self._signature, self._channels)

    def finalize(self) -> None:
        """Leaves what was compiled to the next start."""
        try:
            self._plan.close()
        except OSError as error:
            pb_utils.Logger.log_warn(f"compiled kernels are not kept for the next start: {error}")

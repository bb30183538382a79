"""Serves OpenVINO models: a Python-based backend in place of Triton's C++ one of the same name.

That one answers calls of ``max_batch_size`` rows alone, and leaves the precision to OpenVINO. The parameters are those
of the C++ backend, and four more: ``MAX_DIMS`` (`backends.signature`), ``TILES`` (`backends.tiles`), ``WARM_UP``
(`backends.warm_up`) and ``INFERENCE_PRECISION`` (``f32``, ``bf16`` or ``f16``): OpenVINO by itself computes in bf16 on
processors that have it, and here only when that or ``HINT_BF16`` asks for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

from backends.channel import Channels
from backends.common import Arrays, answer
from backends.pages import release
from backends.signature import ANY, Array, Signature, TensorSpec, check_signature, own_parameters, read_signature
from backends.silent import openvino as ov
from backends.tiles import Tiling, tiled
from backends.warm_up import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backends.in_place import Place

_MODEL_FILE = "model.xml"
_CPU = "CPU"
_KERNELS = {"CPU_RUNTIME_CACHE_CAPACITY": "1000"}
"""Kernels that a processor's engine keeps for shapes that come again, the last used: some 100 kB each, and some 15 for
a shape of the demo's denoiser. OpenVINO's own 5000 let an engine grow by half a gigabyte with ever new sizes."""


@dataclass
class Options:
    """What a model's parameters ask for: OpenVINO properties, and what is done before they apply."""

    device: str = _CPU
    extension: str = ""
    reshape: bool = False
    properties: dict[str, str] = field(default_factory=lambda: {"INFERENCE_PRECISION_HINT": "f32"})


def _number(value: str) -> str:
    if not value.isdecimal():
        raise ValueError("a number")
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value.lower() not in [choice.lower() for choice in choices]:
            raise ValueError(" or ".join(choices))
        return value

    return check


def _streams(value: str) -> str:
    return value.upper() if value.lower() in {"auto", "numa"} else _number(value)


def _yes_no(value: str) -> bool:
    return _one_of("YES", "NO")(value).lower() == "yes"


def _set(options: Options, name: str, value: str) -> None:  # noqa: C901 - one case for each parameter
    match name:
        case "TARGET_DEVICE":
            options.device = value
        case "CPU_EXTENSION_PATH":
            options.extension = value
        case "RESHAPE_IO_LAYERS":
            options.reshape = _yes_no(value)
        case "PERFORMANCE_HINT":
            options.properties[name] = _one_of("LATENCY", "THROUGHPUT")(value).upper()
        case "INFERENCE_NUM_THREADS" | "COMPILATION_NUM_THREADS":
            options.properties[name] = _number(value)
        case "NUM_STREAMS":
            options.properties[name] = _streams(value)
        case "HINT_BF16":
            _one_of("YES")(value)
            options.properties["INFERENCE_PRECISION_HINT"] = "bf16"
        case "INFERENCE_PRECISION":
            options.properties["INFERENCE_PRECISION_HINT"] = _one_of("f32", "bf16", "f16")(value).lower()
        case "SKIP_OV_DYNAMIC_BATCHSIZE" | "FORCE_CPU_ONLY_INPUT_TENSORS":
            _yes_no(value)  # Batches are as the model has them, and tensors in main memory, either way.
        case "ENABLE_BATCH_PADDING":
            if _yes_no(value):
                raise ValueError("NO: this backend does not pad batches")
        case _:
            raise LookupError(name)


def read_options(config: Mapping[str, Any]) -> Options:
    """The options that the parameters of a parsed ``config.pbtxt`` set.

    Raises:
        ValueError: a parameter is unknown, has a value it cannot have, or two contradict each other; names it.
    """
    options = Options()
    parameters = own_parameters(config)
    for name, value in parameters.items():
        try:
            _set(options, name, value)
        except LookupError:
            raise ValueError(f"the openvino backend knows no parameter {name}") from None
        except ValueError as error:
            raise ValueError(f"the parameter {name} is {value!r}, and must be {error}") from None
    if "HINT_BF16" in parameters and parameters.get("INFERENCE_PRECISION", "bf16").lower() != "bf16":
        raise ValueError("the parameters HINT_BF16 and INFERENCE_PRECISION contradict each other")
    return options


class Engine:
    """A compiled model with one infer request."""

    def __init__(self, path: Path, options: Options, signature: Signature) -> None:
        """Read, check and compile the model.

        Raises:
            ValueError: the file is missing or its tensors are not those of the config.
        """
        if not path.exists():
            raise ValueError(f"there is no {path}")
        self._path, self._options, self._signature = path, options, signature
        self._outputs = [spec.name for spec in signature.outputs]
        self._weights = path.with_suffix(".bin")
        self._request: Any = self._compile()
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()

    def _compile(self) -> Any:
        """An infer request of the model, compiled."""
        core = ov.Core()
        if self._options.extension:
            core.add_extension(self._options.extension)
        model = core.read_model(self._path)
        if self._options.reshape:
            model.reshape({spec.name: ov.PartialShape(list(spec.shape)) for spec in self._signature.inputs})
        check_signature(self._signature, _specs(model.inputs, self._signature), _specs(model.outputs, self._signature))
        properties = (_KERNELS if self._options.device == _CPU else {}) | self._options.properties
        return core.compile_model(model, self._options.device, properties).create_infer_request()

    def infer(self, inputs: Mapping[str, Array], _place: Place | None = None) -> Arrays:
        """Run once. The arrays returned are OpenVINO's own, and overwritten by the next call."""
        if self._request is None:
            self._request = self._compile()
        held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}  # OpenVINO holds none of them
        try:
            for name, array in held.items():
                # Some 20 us less than handing `infer` a dictionary, and no copy.
                self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))
            self._request.infer()
        except Exception:
            # After a call that failed half-way, OpenVINO takes what it worked out of shapes for that of the next call.
            self._request = None
            raise
        shapes = tuple(array.shape for array in inputs.values())
        if shapes not in self._shapes:
            # With shapes that are new, OpenVINO has packed weights in its own memory, and is done with the file's.
            self._shapes.add(shapes)
            release(self._weights)
        return {name: self._request.get_tensor(name).data for name in self._outputs}


def _specs(ports: list[Any], signature: Signature) -> list[TensorSpec]:
    """The tensors of a model, each under the name the config uses, where it has several."""
    stated = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    return [_spec(port, stated) for port in ports]


def _spec(port: Any, stated: set[str]) -> TensorSpec:
    names: set[str] = port.get_names()
    name = min(names & stated or names or {port.get_node().get_friendly_name()})
    shape = tuple(ANY if dim.is_dynamic else dim.get_length() for dim in port.get_partial_shape())
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()), shape)


class TritonPythonModel:
    """One model instance, as Triton's Python backend drives it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model; what is wrong with it becomes Triton's load error."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"], args["model_version"])
        try:
            self._signature = read_signature(config)
            options = read_options(config)
            self._engine = Engine(folder / (config["default_model_filename"] or _MODEL_FILE), options, self._signature)
            self._channels = Channels(self._signature, tiled(self._engine.infer, Tiling.read(config)))
            calls = warm(self._signature, config, self._engine.infer)
        except ValueError as error:
            raise pb_utils.TritonModelException(f"model {args['model_name']}: {error}") from None
        pb_utils.Logger.log_info(
            f"{args['model_name']}: OpenVINO {ov.__version__}, {options}, {calls} calls to warm up"
        )

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer the requests of one batch."""
        return answer(requests, self._signature, self._channels)

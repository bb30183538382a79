"""Runs a TensorRT plan: numpy arrays in, numpy arrays out. Knows CUDA's driver API and nothing of Triton.

The plan is run through the module it is given: ``tensorrt`` or ``tensorrt_rtx``, whose Python APIs are the same but for
what only the latter has (``Options``).
"""

from __future__ import annotations

import importlib
import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

PROFILE = 0
"""Plans of ours have one optimisation profile."""


@dataclass(frozen=True)
class Options:
    """What TensorRT for RTX may do at run time. ``None`` leaves the library's own choice, and suits both modules.

    ``cuda_graphs``: capture one graph for each shape that comes. ``specialization``: LAZY, EAGER or NONE: when kernels
    are compiled for the very shape that comes, instead of for any shape.
    """

    device: int = 0
    cuda_graphs: bool | None = None
    specialization: str | None = None


@dataclass(frozen=True)
class PlanTensor:
    """One tensor of a plan; -1 in ``shape`` is any size within the profile, ``largest`` is the profile's end."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    largest: tuple[int, ...]


class Plan:
    """A plan on a GPU, with one execution context and buffers for its profile's largest shapes.

    Buffers are allocated once, so that the addresses in a captured graph stay right.
    """

    def __init__(self, trt: Any, file: Path, options: Options) -> None:
        """Load ``file``.

        Raises:
            ValueError: the plan does not fit this GPU, driver or TensorRT.
            RuntimeError: CUDA failed, or its Python package is missing.
        """
        try:
            self._driver: Any = importlib.import_module("cuda.bindings.driver")  # needed nowhere but on a GPU
        except ImportError as error:
            raise RuntimeError("the package cuda-bindings is not installed") from error
        self._trt = trt
        self._ok("cuInit", 0)
        self._cuda_context = self._ok("cuDevicePrimaryCtxRetain", self._ok("cuDeviceGet", options.device))
        self._ok("cuCtxSetCurrent", self._cuda_context)
        self._stream = self._ok("cuStreamCreate", 0)
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._engine = trt.Runtime(self._logger).deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise ValueError(f"{file.name} was not made for this GPU and TensorRT {trt.__version__}")
        self._context = self._new_context(options)
        self.inputs, self.outputs = self._tensors()
        self._buffers = {
            tensor.name: self._ok("cuMemAlloc", max(1, math.prod(tensor.largest) * tensor.dtype.itemsize))
            for tensor in (*self.inputs, *self.outputs)
        }
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, int(buffer))
        self._sent: dict[str, weakref.ref[npt.NDArray[Any]]] = {}  # what each buffer of an input holds
        self._results = {tensor.name: np.empty(math.prod(tensor.largest), tensor.dtype) for tensor in self.outputs}

    def _ok(self, call: str, *arguments: Any) -> Any:
        """Calls CUDA's driver. Raises RuntimeError naming the call and CUDA's error."""
        error, *values = getattr(self._driver, call)(*arguments)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{call} failed: {error.name}")
        return values[0] if values else None

    def _new_context(self, options: Options) -> Any:
        if options.cuda_graphs is None and options.specialization is None:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        if options.cuda_graphs is not None:
            strategy = self._trt.CudaGraphStrategy
            config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if options.cuda_graphs else strategy.DISABLED
        if options.specialization is not None:
            choices = self._trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = getattr(choices, options.specialization)
        return self._engine.create_execution_context(config)

    def _tensors(self) -> tuple[tuple[PlanTensor, ...], tuple[PlanTensor, ...]]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        given = [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT]
        largest = {name: tuple(self._engine.get_tensor_profile_shape(name, PROFILE)[2]) for name in given}
        for name, shape in largest.items():
            self._context.set_input_shape(name, shape)
        inputs = [self._tensor(name, largest[name]) for name in given]
        computed = [name for name in names if name not in given]
        outputs = [self._tensor(name, tuple(self._context.get_tensor_shape(name))) for name in computed]
        return tuple(inputs), tuple(outputs)

    def _tensor(self, name: str, largest: tuple[int, ...]) -> PlanTensor:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return PlanTensor(name, dtype, tuple(self._engine.get_tensor_shape(name)), largest)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once. The arrays returned are this object's own, and overwritten by the next call.

        An input that is the very array of the last call is taken to be unchanged, and not copied to the GPU again.

        Raises:
            ValueError: a shape is outside the profile.
            RuntimeError: CUDA or the engine failed.
        """
        self._ok("cuCtxSetCurrent", self._cuda_context)  # CUDA keeps the current context per thread
        try:
            return self._run(inputs)
        except Exception:
            self._sent.clear()  # who knows what has arrived
            raise

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        held = [self._upload(tensor, inputs[tensor.name]) for tensor in self.inputs]
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeError("the engine did not run")
        outputs = {tensor.name: self._download(tensor) for tensor in self.outputs}
        self._ok("cuStreamSynchronize", self._stream)
        del held
        return outputs

    def _upload(self, tensor: PlanTensor, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Starts the copy to the GPU and returns the array it copies from, which must live until it is done."""
        sent = self._sent.get(tensor.name)
        if sent is not None and sent() is array:
            return array
        self._sent[tensor.name] = weakref.ref(array)
        array = np.ascontiguousarray(array, tensor.dtype)
        within = len(array.shape) == len(tensor.largest) and all(
            size <= end for size, end in zip(array.shape, tensor.largest, strict=True)
        )
        if not within or not self._context.set_input_shape(tensor.name, array.shape):
            raise ValueError(f"{tensor.name} of shape {array.shape} is outside the engine's profile")
        self._ok("cuMemcpyHtoDAsync", self._buffers[tensor.name], array.ctypes.data, array.nbytes, self._stream)
        return array

    def _download(self, tensor: PlanTensor) -> npt.NDArray[Any]:
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        result = self._results[tensor.name][: math.prod(shape)].reshape(shape)
        self._ok("cuMemcpyDtoHAsync", result.ctypes.data, self._buffers[tensor.name], result.nbytes, self._stream)
        return result

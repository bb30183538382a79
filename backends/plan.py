"""Runs a TensorRT plan: numpy arrays in, numpy arrays out. Knows CUDA and nothing of Triton.

The plan is run through the module it is given: ``tensorrt`` or ``tensorrt_rtx``, whose Python APIs are the same but for
what only the latter has (``Options``).
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.cuda import Cuda
from backends.kernel_cache import KernelCache, kernel_file
from backends.launches import Following, Graphs, Launches, new_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from backends.in_place import Place

PROFILE = 0
"""Plans of ours have one optimisation profile."""


@dataclass(frozen=True)
class Options:
    """What may be done at run time. ``None`` leaves the library's own choice.

    ``cuda_graphs``: capture one graph for each set of shapes that comes. ``specialization``, of TensorRT for RTX: LAZY,
    EAGER or NONE: when kernels are compiled for the very shape that comes, instead of for any shape. ``keeps_kernels``,
    of the same: whether those of the last start are taken, and left for the next one (`backends.kernel_cache`).
    """

    device: int = 0
    cuda_graphs: bool | None = None
    specialization: str | None = None
    keeps_kernels: bool = False


@dataclass(frozen=True)
class PlanTensor:
    """One tensor of a plan; -1 in ``shape`` is any size within the profile, ``largest`` is the profile's end."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    largest: tuple[int, ...]

    def require(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError for a shape that is beyond the profile."""
        ends = zip(shape, self.largest, strict=False)
        if len(shape) != len(self.largest) or any(size > end for size, end in ends):
            raise ValueError(f"{self.name} of shape {shape} is outside the engine's profile")


class Plan:
    """A plan on a GPU, with buffers for its profile's largest shapes.

    Buffers are allocated once, so that the addresses in a captured graph stay right.
    """

    def __init__(self, trt: Any, file: Path, options: Options) -> None:
        """Load ``file``.

        Raises:
            ValueError: the plan does not fit this GPU, its memory, driver or TensorRT.
            RuntimeError: CUDA failed, the GPU has too little memory, or its Python package is missing.
        """
        self._trt, self._cuda = trt, Cuda(options.device)
        self._stream = self._cuda("cuStreamCreate", 0)
        self._logger = trt.Logger(trt.Logger.WARNING)
        content = file.read_bytes()
        self._engine = trt.Runtime(self._logger).deserialize_cuda_engine(content)
        if self._engine is None:
            made = f"{file.name} was not made for this GPU and TensorRT {trt.__version__}"
            raise ValueError(f"{made}, or has no room in its memory: the log has TensorRT's own words")
        self._kernels: KernelCache | None = None
        self._launches = self._begun(options, content)
        self.inputs, self.outputs = self._tensors()
        self._buffers = {
            tensor.name: self._cuda("cuMemAlloc", max(1, math.prod(tensor.largest) * tensor.dtype.itemsize))
            for tensor in (*self.inputs, *self.outputs)
        }
        self._launches.place({name: int(buffer) for name, buffer in self._buffers.items()})
        self._sent: dict[str, weakref.ref[npt.NDArray[Any]]] = {}  # what each buffer of an input holds
        self._results = {tensor.name: np.empty(math.prod(tensor.largest), tensor.dtype) for tensor in self.outputs}

    def _begun(self, options: Options, content: bytes) -> Launches:
        captures = hasattr(self._trt, "CudaGraphStrategy")  # by itself: TensorRT for RTX
        if options.cuda_graphs and not captures:
            return Graphs(self._trt, self._engine, self._cuda)
        if not captures or (options.cuda_graphs is None and options.specialization is None):
            return Following(new_context(self._engine))
        config = self._engine.create_runtime_config()
        if options.cuda_graphs is not None:
            strategy = self._trt.CudaGraphStrategy
            config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if options.cuda_graphs else strategy.DISABLED
        if options.specialization is not None:
            choices = self._trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = getattr(choices, options.specialization)
        kernels = kernel_file(content) if options.keeps_kernels else None  # which reads all of the plan
        if kernels:
            self._kernels = KernelCache(config, kernels)
        return Following(new_context(self._engine, config))

    def _tensors(self) -> tuple[tuple[PlanTensor, ...], tuple[PlanTensor, ...]]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        given = [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT]
        largest = {name: tuple(self._engine.get_tensor_profile_shape(name, PROFILE)[2]) for name in given}
        self._launches.take(largest)
        inputs = [self._tensor(name, largest[name]) for name in given]
        computed = [name for name in names if name not in given]
        outputs = [self._tensor(name, tuple(self._launches.context.get_tensor_shape(name))) for name in computed]
        return tuple(inputs), tuple(outputs)

    def _tensor(self, name: str, largest: tuple[int, ...]) -> PlanTensor:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return PlanTensor(name, dtype, tuple(self._engine.get_tensor_shape(name)), largest)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]], place: Place | None = None) -> dict[str, npt.NDArray[Any]]:
        """Run once. The arrays returned are at `place`, or this object's own, and overwritten by the next call.

        An input that is the very array of the last call is taken to be unchanged, and not copied to the GPU again.

        Raises:
            ValueError: a shape is outside the profile.
            RuntimeError: CUDA or the engine failed.
        """
        self._cuda.use()
        try:
            return self._run(inputs, place)
        except Exception:
            self._sent.clear()  # who knows what has arrived
            self._cuda("cuStreamSynchronize", self._stream)  # what was begun is of memory that may be another's next
            raise

    def close(self) -> None:
        """Leaves compiled kernels for the next start. Raises OSError where they cannot be written."""
        if self._kernels:
            self._cuda.use()
            self._kernels.save()

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]], place: Place | None) -> dict[str, npt.NDArray[Any]]:
        shapes = {tensor.name: inputs[tensor.name].shape for tensor in self.inputs}
        for tensor in self.inputs:
            tensor.require(shapes[tensor.name])
        self._launches.take(shapes)
        held = [self._upload(tensor, inputs[tensor.name]) for tensor in self.inputs]
        self._launches.run(self._stream)
        outputs = {tensor.name: self._download(tensor, place) for tensor in self.outputs}
        self._cuda("cuStreamSynchronize", self._stream)
        del held
        return outputs

    def _upload(self, tensor: PlanTensor, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Starts the copy to the GPU and returns the array it copies from, which must live until it is done."""
        sent = self._sent.get(tensor.name)
        if sent is not None and sent() is array:
            return array
        self._sent[tensor.name] = weakref.ref(array)
        array = np.ascontiguousarray(array, tensor.dtype)
        self._cuda("cuMemcpyHtoDAsync", self._buffers[tensor.name], array.ctypes.data, array.nbytes, self._stream)
        return array

    def _download(self, tensor: PlanTensor, place: Place | None) -> npt.NDArray[Any]:
        shape = tuple(self._launches.context.get_tensor_shape(tensor.name))
        own = self._results[tensor.name][: math.prod(shape)].reshape(shape)
        result = place(tensor.dtype, shape) if place else own
        self._cuda("cuMemcpyDtoHAsync", result.ctypes.data, self._buffers[tensor.name], result.nbytes, self._stream)
        return result

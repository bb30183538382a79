"""What `backends.plan` does around an engine, where there is none: its calls of CUDA are its own, the kernels torch's.

`stand_in` makes what it takes for the module ``tensorrt_rtx``. A GPU that TensorRT for RTX does not run on, such as an
H100, then tells what buffers, streams and copies cost.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from families.interface import Component, Tensor

Module = Callable[..., Any]
DTYPES: dict[str, Any] = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
GRAPHS = "graphs"
MOST_GRAPHS = 32


def stand_in(module: Module, component: Component, device: str = "cuda") -> Any:
    """`module`, which takes and gives the component's tensors on `device`, behind TensorRT's Python interface."""
    engine = _Engine(module, component, device)
    return SimpleNamespace(
        __version__="by torch",
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda *_: None}),
        Runtime=lambda _logger: SimpleNamespace(deserialize_cuda_engine=lambda _plan: engine),
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE=GRAPHS, DISABLED="disabled"),
        nptype=DTYPES.__getitem__,
    )


class _Engine:
    def __init__(self, module: Module, component: Component, device: str) -> None:
        self.module, self.component, self.device = module, component, device
        self.tensors = {tensor.name: tensor for tensor in (*component.inputs, *component.outputs)}
        self.num_io_tensors = len(self.tensors)

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_graph_strategy="disabled")

    def create_execution_context(self, config: Any = None) -> "_Context":
        return _Context(self, config or self.create_runtime_config())

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if self.tensors[name] in self.component.inputs else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(axis, str) else axis for axis in self.tensors[name].axes)

    def get_tensor_profile_shape(self, name: str, _profile: int) -> list[tuple[int, ...]]:
        return [self.tensors[name].shape(self.component.sizes(end)) for end in ("min", "opt", "max")]


class _Context:
    """Computes at the addresses it is given; a CUDA graph for each shape where the config asks for them."""

    def __init__(self, engine: _Engine, config: Any) -> None:
        self._engine, self._graphs_wanted = engine, config.cuda_graph_strategy == GRAPHS
        self._shapes = dict[str, tuple[int, ...]]()
        self._addresses = dict[str, int]()
        self._graphs = dict[tuple[Any, ...], torch.cuda.CUDAGraph]()

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        component = self._engine.component
        sizes = {
            axis: size
            for tensor in component.inputs
            for axis, size in zip(tensor.axes, self._shapes[tensor.name], strict=True)
            if isinstance(axis, str)
        }
        return self._engine.tensors[name].shape(sizes)

    def execute_async_v3(self, stream: int) -> bool:
        with torch.inference_mode():
            if self._engine.device != "cuda":
                self._compute()
                return True
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
                if self._graphs_wanted:
                    self._graph().replay()
                else:
                    self._compute()
        return True

    def _graph(self) -> torch.cuda.CUDAGraph:
        key = tuple(sorted(self._shapes.items()))
        if key not in self._graphs:
            if len(self._graphs) >= MOST_GRAPHS:
                self._graphs.clear()
            self._compute()  # what libraries do at a first call cannot be captured
            torch.cuda.synchronize()
            graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                self._compute()
            self._graphs[key] = graph
        return self._graphs[key]

    def _compute(self) -> None:
        component = self._engine.component
        made = self._engine.module(*(self._at(tensor) for tensor in component.inputs))
        results = made if isinstance(made, (tuple, list)) else (made,)
        for tensor, result in zip(component.outputs, results, strict=True):
            self._at(tensor).copy_(result)

    def _at(self, tensor: Tensor) -> torch.Tensor:
        """The tensor that lies where `backends.plan` put its buffer."""
        shape = self.get_tensor_shape(tensor.name)
        dtype: np.dtype[Any] = np.dtype(DTYPES[tensor.dtype])
        address = self._addresses[tensor.name]
        if self._engine.device == "cuda":
            facts = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}
            return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=facts), device="cuda")
        lying = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(address)
        return torch.from_numpy(np.ndarray(shape, dtype, memoryview(lying)))

"""A stand-in for TensorRT's runtime, where there is none: its "plan" names a component, which torch computes.

No TensorRT is in it: what kernels take and how exact they are is torch's. All around them is what serves engines:
`backends.plan` with its buffers, streams and copies, and CUDA graphs, which the stand-in captures as TensorRT for RTX
would, or lets `backends.launches` capture as of TensorRT. `stand_in` makes what `backends.plan` takes for either
module; `install` puts it, in the process of one of Triton's models, where the backend imports it
(`bench.torch_repository`).
"""

import ctypes
import importlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from backends.compatibility import MODULES
from bench.counted_driver import Counted, MainMemory
from families import load as load_family
from families.interface import Component, Limits, Tensor
from families.parts.pretrained import fill

Module = Callable[..., Any]
DRIVER = "cuda.bindings.driver"
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
DTYPES: dict[str, Any] = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
GRAPHS = "graphs"
MOST_GRAPHS = 32


@dataclass(frozen=True)
class Program:
    """What a plan's file holds: a component of a checkpoint, as a family's table has it within these limits."""

    family: str
    component: str
    checkpoint: str
    max_pixels: int
    max_batch: int
    max_images: int | None
    precision: str

    def write(self) -> bytes:
        """The file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def open(cls, plan: bytes, device: str) -> tuple[Module, Component]:
        """The component's module with its weights on `device`, and its tensors."""
        own = cls(**json.loads(plan))
        checkpoint, limits = Path(own.checkpoint), Limits(own.max_pixels, own.max_batch, own.max_images)
        table = load_family(own.family, "table").components(checkpoint, limits)
        component = next(component for component in table if component.name == own.component)
        module = load_family(own.family, "modules").module(own.component, checkpoint)
        with torch.inference_mode():
            return fill(module, PRECISIONS[own.precision]).to(device), component


def stand_in(module: Module, component: Component, device: str = "cuda", kind: str = "tensorrt_rtx") -> Any:
    """`module`, which takes and gives the component's tensors on `device`, behind the Python interface of a kind of
    engine."""
    engine = _Engine(module, component, device)
    return MAKERS[kind](lambda _plan: engine)


def install(device: str, counts: Path) -> None:
    """Has this process import stand-ins for TensorRT and for TensorRT for RTX, and a CUDA driver whose copies are
    counted.

    `device`: cuda, or cpu where main memory is the GPU's. `counts`: the file of `bench.counted_driver`.
    """
    driver = MainMemory() if device == "cpu" else importlib.import_module(DRIVER)

    def opened(plan: bytes) -> "_Engine":
        return _Engine(*Program.open(plan, device), device)

    stood_in: dict[str, Any] = {DRIVER: Counted(driver, counts)}
    stood_in |= {MODULES[kind]: make(opened) for kind, make in MAKERS.items()}
    sys.modules.update(stood_in)


def _common(opened: Callable[[bytes], "_Engine"]) -> dict[str, Any]:
    return {
        "__version__": "by torch",
        "Logger": type("Logger", (), {"WARNING": 2, "__init__": lambda *_: None}),
        "Runtime": lambda _logger: SimpleNamespace(deserialize_cuda_engine=opened),
        "TensorIOMode": SimpleNamespace(INPUT="input", OUTPUT="output"),
        "nptype": DTYPES.__getitem__,
    }


def _tensorrt(opened: Callable[[bytes], "_Engine"]) -> Any:
    """Whose CUDA graphs `backends.launches` captures, with memory that it gives: torch takes none of that, but its own,
    which calls on one stream may share as well."""
    return SimpleNamespace(**_common(opened), ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"))


def _rtx(opened: Callable[[bytes], "_Engine"]) -> Any:
    """Which captures CUDA graphs by itself."""
    return SimpleNamespace(
        **_common(opened),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE=GRAPHS, DISABLED="disabled"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(LAZY="lazy", EAGER="eager", NONE="none"),
    )


MAKERS = {"tensorrt": _tensorrt, "tensorrt_rtx": _rtx}


class _Engine:
    device_memory_size_v2 = 0

    def __init__(self, module: Module, component: Component, device: str) -> None:
        self.module, self.component, self.device = module, component, device
        self.tensors = {tensor.name: tensor for tensor in (*component.inputs, *component.outputs)}
        self.num_io_tensors = len(self.tensors)
        # A thread's first product makes a handle of cuBLAS, which must not be done while its stream is captured.
        self.thread = ThreadPoolExecutor(1)

    def create_runtime_config(self) -> SimpleNamespace:
        nothing = SimpleNamespace(serialize=lambda: b"")  # torch compiles none of its kernels
        return SimpleNamespace(
            cuda_graph_strategy="disabled",
            create_runtime_cache=lambda: nothing,
            set_runtime_cache=lambda _cache: True,
        )

    def create_execution_context(self, how: Any = None) -> "_Context":
        return _Context(self, getattr(how, "cuda_graph_strategy", "") == GRAPHS)

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
    """Computes at the addresses it is given; with `graphs` by one for each shape."""

    def __init__(self, engine: _Engine, graphs: bool) -> None:
        self._engine, self._graphs_wanted = engine, graphs
        self._shapes = dict[str, tuple[int, ...]]()
        self._addresses = dict[str, int]()
        self._graphs = dict[tuple[Any, ...], torch.cuda.CUDAGraph]()
        self._computed = dict[tuple[Any, ...], dict[str, tuple[int, ...]]]()

    def set_device_memory(self, _address: int, _size: int) -> None:
        """Torch has its own."""

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        if self._key() not in self._computed:
            self._computed[self._key()] = self._output_shapes()
        return self._computed[self._key()][name]

    def _key(self) -> tuple[Any, ...]:
        return tuple(sorted(self._shapes.items()))

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is computed from zeros, for axes of outputs do not all follow from those of inputs by name."""
        component, device = self._engine.component, self._engine.device
        with torch.inference_mode():
            zeros = [
                torch.zeros(self._shapes[t.name], dtype=torch.from_numpy(np.zeros(0, DTYPES[t.dtype])).dtype)
                for t in component.inputs
            ]
            made = _several(self._engine.module(*(tensor.to(device) for tensor in zeros)))
        return {tensor.name: tuple(result.shape) for tensor, result in zip(component.outputs, made, strict=True)}

    def execute_async_v3(self, stream: int) -> bool:
        return self._engine.thread.submit(self._execute, stream).result()

    def _execute(self, stream: int) -> bool:
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
        key = self._key()
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
        for tensor, result in zip(component.outputs, _several(made), strict=True):
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


def _several(made: Any) -> Sequence[torch.Tensor]:
    return made if isinstance(made, (tuple, list)) else (made,)

"""A GPU made of main memory, TensorRT's runtime on it, and a plan that it runs: y = 2 x + t."""

import ctypes
import enum
import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.compatibility import MODULES
from bench.counted_driver import MainMemory, Status

LARGEST = {"x": (8, 4, 16, 16), "t": (8, 1)}
CONFIG = {
    "default_model_filename": "",
    "max_batch_size": 8,
    "input": [
        {"name": "x", "data_type": "TYPE_FP32", "dims": ["4", "-1", "-1"]},
        {"name": "t", "data_type": "TYPE_INT64", "dims": ["1"]},
    ],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["4", "-1", "-1"]}],
}
DTYPES = {"x": np.float32, "t": np.int64, "y": np.float32}


class Failure(enum.Enum):
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class Driver(MainMemory):
    """CUDA's driver, which may fail. `graphs`: what is captured, none of it destroyed yet."""

    CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="of this thread")

    def __init__(self) -> None:
        super().__init__()
        self.full = self.full_of_graphs = self.invalidates = self.lost = False
        self.captures = self.launches = True
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launched: list[int] = []
        self._made = 0

    def do(self, work: Callable[[], None]) -> None:
        """What is put on the stream: done at once, unless it is captured."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def cuMemAlloc(self, size):  # noqa: N802
        return (Failure.CUDA_ERROR_OUT_OF_MEMORY, None) if self.full else super().cuMemAlloc(size)

    def cuMemcpyHtoDAsync(self, *arguments):  # noqa: N802
        assert self.capturing is None, "a copy whose addresses change must not be captured"
        return super().cuMemcpyHtoDAsync(*arguments)

    cuMemcpyDtoHAsync = cuMemcpyHtoDAsync  # noqa: N815

    def cuStreamSynchronize(self, _stream):  # noqa: N802
        return (Failure.CUDA_ERROR_ILLEGAL_ADDRESS if self.lost else Status.CUDA_SUCCESS,)

    def cuStreamBeginCapture(self, _stream, _mode):  # noqa: N802
        assert self.capturing is None
        if not self.captures:
            return (Failure.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        self.capturing = []
        return (Status.CUDA_SUCCESS,)

    def cuStreamEndCapture(self, _stream):  # noqa: N802
        work, self.capturing = self.capturing, None
        return (
            (Failure.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None) if self.invalidates else (Status.CUDA_SUCCESS, work)
        )

    def cuGraphInstantiate(self, graph, _flags):  # noqa: N802
        if self.full_of_graphs:
            return Failure.CUDA_ERROR_OUT_OF_MEMORY, None
        self._made += 1
        self.graphs[self._made] = list(graph)
        return Status.CUDA_SUCCESS, self._made

    def cuGraphLaunch(self, graph, _stream):  # noqa: N802
        if not self.launches:
            return (Failure.CUDA_ERROR_OUT_OF_MEMORY,)
        self.launched.append(graph)
        for work in self.graphs[graph]:
            work()
        return (Status.CUDA_SUCCESS,)

    def cuGraphExecDestroy(self, graph):  # noqa: N802
        del self.graphs[graph]
        return (Status.CUDA_SUCCESS,)

    def cuGraphDestroy(self, _graph):  # noqa: N802
        return (Status.CUDA_SUCCESS,)


class Context:
    """y = 2 x + t on x (rows, 4, H, W), t (rows, 1)."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.broken = False

    def get_tensor_shape(self, name):
        return self.shapes["x" if name == "y" else name]

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        return shape[0] > 0

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def set_device_memory(self, address, size):
        self.memory = (address, size)

    def at(self, name):
        shape = self.get_tensor_shape(name)
        size = int(np.prod(shape)) * np.dtype(DTYPES[name]).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), DTYPES[name]).reshape(shape)

    def execute_async_v3(self, _stream):
        driver = self.engine.driver
        begins = not self.broken and (self.engine.capturable or driver.capturing is None)
        if begins:
            y, x, t = (self.at(name) for name in "yxt")  # a graph keeps the shapes of the time of its capture

            def compute() -> None:
                y[...] = 2 * x + t[:, :, None, None]

            driver.do(compute)
        elif self.engine.raises:
            raise RuntimeError("a library of the engine's wants what cannot be captured")
        return begins


class Kernels:
    """A runtime cache: what it holds are the shapes of every context of its engine, and what it was given."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.given = engine, b""

    def deserialize(self, blob):
        if not blob.startswith(b"kernels"):
            return False
        self.given = bytes(blob)
        return True

    def serialize(self):
        compiled = sorted(str(context.shapes["x"]) for context in self.engine.contexts if context.shapes)
        return self.given if self.given else f"kernels of {compiled}".encode()


class Engine:
    """Makes execution contexts: the one of TensorRT for RTX with a `config`."""

    num_io_tensors = 3
    device_memory_size_v2 = 512

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.contexts: list[Context] = []
        self.config: Any = None
        self.full, self.capturable, self.raises = False, True, False

    @property
    def context(self) -> Context:
        """The last one."""
        return self.contexts[-1]

    def create_runtime_config(self):
        cache = Kernels(self)
        return types.SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda _cache: True)

    def create_execution_context(self, config=None):
        if self.full:
            return None
        self.config = config
        self.contexts.append(Context(self))
        return self.context

    def get_tensor_name(self, index):
        return "xty"[index]

    def get_tensor_mode(self, name):
        return "out" if name == "y" else "in"

    def get_tensor_dtype(self, name):
        return DTYPES[name]

    def get_tensor_shape(self, name):
        return (-1, 1) if name == "t" else (-1, 4, -1, -1)

    def get_tensor_profile_shape(self, name, _profile):
        return [(1, *LARGEST[name][1:]), LARGEST[name], LARGEST[name]]


class Gpus:
    """The modules that a backend meets, and the engine behind its plan. Options at run time are of RTX alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.driver = Driver()
        self.engine = Engine(self.driver)
        self.trt = types.ModuleType(MODULES[kind])
        self.trt.__version__ = "1.7"
        self.trt.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda *_: None})
        self.trt.TensorIOMode = types.SimpleNamespace(INPUT="in")
        self.trt.nptype = lambda dtype: dtype
        self.trt.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="by its user")
        if kind == "tensorrt_rtx":
            self.trt.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="off")
            self.trt.DynamicShapesKernelSpecializationStrategy = types.SimpleNamespace(LAZY="lazy", EAGER="eager")
        load = types.SimpleNamespace(deserialize_cuda_engine=lambda plan: self.engine if plan == b"plan" else None)
        self.trt.Runtime = lambda _logger: load
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", self.driver)
        monkeypatch.setitem(sys.modules, MODULES[kind], self.trt)


@contextmanager
def imported(kind: str) -> Iterator[types.ModuleType]:
    """The backend of that name, anew."""
    name = f"backends.{kind}.model"
    yield importlib.import_module(name)
    for module in (name, "backends.plan_model"):
        sys.modules.pop(module)


def start(module, folder: Path, plan: bytes = b"plan", **changes):
    (folder / "1").mkdir()
    (folder / "1" / "model.plan").write_bytes(plan)
    model = module.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({**CONFIG, **changes}),
            "model_repository": str(folder),
            "model_version": "1",
            "model_name": "denoiser",
            "model_instance_device_id": "0",
        }
    )
    return model


def request(backend, rows, size=4):
    x = np.random.default_rng(rows).normal(size=(rows, 4, size, size)).astype(np.float32)
    return backend.request({"x": x, "t": np.full((rows, 1), rows)})


def parameters(**values):
    return {"parameters": {name: {"string_value": value} for name, value in values.items()}}

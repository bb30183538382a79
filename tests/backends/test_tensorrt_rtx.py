"""The TensorRT for RTX backend, on a GPU made of main memory."""

import ctypes
import enum
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

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


class Status(enum.Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2


class Driver(types.ModuleType):
    """CUDA's driver API, with main memory as the GPU's."""

    CUresult = Status

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.held: list[object] = []
        self.full = False

    def cuMemAlloc(self, size):  # noqa: N802
        if self.full:
            return Status.CUDA_ERROR_OUT_OF_MEMORY, None
        self.held.append(ctypes.create_string_buffer(size))
        return Status.CUDA_SUCCESS, ctypes.addressof(self.held[-1])

    def cuMemcpyHtoDAsync(self, to, source, size, _stream):  # noqa: N802
        ctypes.memmove(to, source, size)
        return (Status.CUDA_SUCCESS,)

    cuMemcpyDtoHAsync = cuMemcpyHtoDAsync  # noqa: N815

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)
        gives = name in {"cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuStreamCreate"}
        return lambda *_: (Status.CUDA_SUCCESS, 7) if gives else (Status.CUDA_SUCCESS,)


class Context:
    """y = 2 x + t on x (rows, 4, H, W), t (rows, 1)."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.broken = False

    def get_tensor_shape(self, name):
        return self.shapes["x" if name == "y" else name]

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        return shape[0] > 0

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def at(self, name):
        shape = self.get_tensor_shape(name)
        size = int(np.prod(shape)) * np.dtype(DTYPES[name]).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), DTYPES[name]).reshape(shape)

    def execute_async_v3(self, _stream):
        if not self.broken:
            self.at("y")[...] = 2 * self.at("x") + self.at("t")[:, :, None, None]
        return not self.broken


class Engine:
    """An engine with one execution context."""

    num_io_tensors = 3

    def __init__(self) -> None:
        self.context = Context()
        self.config = None

    def create_runtime_config(self):
        return types.SimpleNamespace()

    def create_execution_context(self, config=None):
        self.config = config
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
    """The modules that the backend meets, and the engine behind its plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver, self.engine = Driver(), Engine()
        self.trt = types.ModuleType("tensorrt_rtx")
        self.trt.__version__ = "1.7"
        self.trt.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda *_: None})
        self.trt.TensorIOMode = types.SimpleNamespace(INPUT="in")
        self.trt.nptype = lambda dtype: dtype
        self.trt.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="off")
        self.trt.DynamicShapesKernelSpecializationStrategy = types.SimpleNamespace(LAZY="lazy", EAGER="eager")
        load = types.SimpleNamespace(deserialize_cuda_engine=lambda plan: self.engine if plan == b"plan" else None)
        self.trt.Runtime = lambda _logger: load
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", self.driver)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", self.trt)


@pytest.fixture
def gpus(monkeypatch):
    return Gpus(monkeypatch)


@pytest.fixture
def module(backend, gpus):
    yield importlib.import_module("backends.tensorrt_rtx.model")
    sys.modules.pop("backends.tensorrt_rtx.model")


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


def test_each_request_gets_its_rows(module, backend, tmp_path):
    model = start(module, tmp_path)
    requests = [request(backend, 1), request(backend, 3), request(backend, 2, size=16)]
    for asked, given in zip(requests, model.execute(requests), strict=True):
        expected = 2 * asked.arrays["x"] + asked.arrays["t"][:, :, None, None]
        assert given.error is None
        assert np.allclose(given.tensors[0].array, expected, atol=1e-6)


def test_buffers_never_move(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    before = dict(gpus.engine.context.addresses)
    model.execute([request(backend, 8, size=16), request(backend, 1)])
    assert gpus.engine.context.addresses == before
    assert len(gpus.driver.held) == 3


def test_a_shape_outside_the_profile_is_the_callers_fault(module, backend, tmp_path):
    model = start(module, tmp_path)
    wide, right = model.execute([request(backend, 1, size=17), request(backend, 1)])
    assert wide.error.number == 3
    assert "x of shape (1, 4, 17, 17) is outside the engine's profile" in wide.error.text
    assert right.error is None


def test_bounds_of_the_config_are_held(module, backend, tmp_path):
    model = start(module, tmp_path, **parameters(MAX_DIMS="x:4,8,8"))
    beyond, within = model.execute([request(backend, 1, size=16), request(backend, 1)])
    assert beyond.error.text == "input x is [4, 16, 16], and may be at most [4, 8, 8]"
    assert within.error is None


def test_an_engine_that_fails_is_an_internal_error(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    gpus.engine.context.broken = True
    assert model.execute([request(backend, 1)])[0].error.number == 1


def test_parameters_reach_the_runtime(module, gpus, tmp_path):
    start(module, tmp_path, **parameters(CUDA_GRAPHS="no", KERNEL_SPECIALIZATION="eager"))
    assert gpus.engine.config.cuda_graph_strategy == "off"
    assert gpus.engine.config.dynamic_shapes_kernel_specialization_strategy == "eager"


def test_cuda_graphs_are_on_unless_turned_off(module, gpus, tmp_path):
    start(module, tmp_path)
    assert gpus.engine.config.cuda_graph_strategy == "whole"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (parameters(SPEED="fast"), "model denoiser: the tensorrt_rtx backend knows no parameter SPEED"),
        (parameters(CUDA_GRAPHS="maybe"), "CUDA_GRAPHS is 'MAYBE', and must be YES or NO"),
        ({"plan": b"of another GPU"}, "model.plan was not made for this GPU and TensorRT 1.7"),
        ({"input": CONFIG["input"][:1]}, r"the model's input t int64 \[-1, 1\] is not in config.pbtxt"),
        ({"default_model_filename": "other.plan"}, "there is no .*/1/other.plan"),
    ],
)
def test_what_does_not_load_says_why(module, tmp_path, changes, words):
    with pytest.raises(sys.modules["triton_python_backend_utils"].TritonModelException, match=words):
        start(module, tmp_path, **changes)


def test_a_full_gpu_is_named(module, gpus, tmp_path):
    gpus.driver.full = True
    with pytest.raises(Exception, match="cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"):
        start(module, tmp_path)


def test_a_missing_package_is_named(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(Exception, match="model denoiser: the package cuda-bindings is not installed"):
        start(module, tmp_path)

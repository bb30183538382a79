"""Toy repositories, a stand-in for the module Triton gives its models, and a look at the process table."""

import contextlib
import importlib
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFIG = """
backend: "openvino"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4, -1, -1 ] }, { name: "t" data_type: TYPE_INT64 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4, -1, -1 ] } ]
dynamic_batching { max_queue_delay_microseconds: 200000 }
parameters { key: "NUM_STREAMS" value { string_value: "1" } }
"""

# The gateway asks whether a model of this name is ready.
ENSEMBLE = """
platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4, -1, -1 ] }
input { name: "t" data_type: TYPE_INT64 dims: [ -1, 1 ] }
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 4, -1, -1 ] } ]
ensemble_scheduling { step [ {
  model_name: "twice" model_version: -1
  input_map [ { key: "x" value: "x" }, { key: "t" value: "t" } ]
  output_map { key: "y" value: "y" }
} ] }
"""

STUCK_CONFIG = """
backend: "python"
input [ { name: "x" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""

# Catastrophic backtracking: busy for ever without letting go of the interpreter's lock.
STUCK_MODEL = """
import re


class TritonPythonModel:
    def execute(self, requests):
        re.match("(a+)+$", "a" * 60 + "b")
"""


def write_model(repository: Path, name: str, config: str, files: dict[str, str] | None = None) -> Path:
    """A model folder with a config and files in version 1; returns the version's folder."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    for file, text in (files or {}).items():
        (version / file).write_text(text)
    return version


def save_twice(folder: Path) -> None:
    """An OpenVINO model: ``y = 2 x + t``, x (N, 4, H, W) float32, t (N, 1) int64."""
    ov = importlib.import_module("openvino")
    op = importlib.import_module("openvino.opset15")
    x = op.parameter([-1, 4, -1, -1], np.float32, name="x")
    t = op.parameter([-1, 1], np.int64, name="t")
    spread = op.unsqueeze(op.unsqueeze(op.convert(t, "f32"), op.constant(-1)), op.constant(-1))
    y = op.add(op.multiply(x, op.constant(np.float32(2))), spread)
    model = ov.Model([y], [x, t], "twice")
    for port, name in zip([*model.inputs, *model.outputs], "xty", strict=True):
        port.tensor.set_names({name})
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenVINO model ``twice`` and an ensemble ``edit`` around it."""
    folder = tmp_path_factory.mktemp("repository")
    save_twice(write_model(folder, "twice", CONFIG))
    write_model(folder, "edit", ENSEMBLE)
    return folder


class Marked:
    """Processes that inherited one environment variable, found however they were orphaned."""

    def __init__(self) -> None:
        self.env = {"TRITOUCH_TEST_MARK": uuid.uuid4().hex}
        self._text = "TRITOUCH_TEST_MARK={TRITOUCH_TEST_MARK}".format(**self.env).encode()

    def pids(self, name: str = "") -> list[int]:
        """Living processes, or those of them that run the program ``name``."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # A zombie has no environment any more.
                if self._text in (process / "environ").read_bytes():
                    program = (process / "cmdline").read_text().split("\0", 1)[0]
                    if name in {"", Path(program).name}:
                        found.append(int(process.name))
        return found

    def gone_within(self, seconds: float) -> bool:
        """Whether all are gone within ``seconds``."""
        end = time.monotonic() + seconds
        while self.pids():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True


def wait_busy(pid):
    """Wait until a process uses its processor all the time."""
    busy, last = 0, 0
    end = time.monotonic() + 20
    while busy < 3:
        assert time.monotonic() < end
        time.sleep(0.1)
        used = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
        busy, last = (busy + 1 if used - last >= 2 else 0), used


@pytest.fixture
def marked() -> Marked:
    return Marked()


class TritonError:
    INTERNAL, INVALID_ARG, CANCELLED = 1, 3, 7

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self.text, self.number = message, code


@dataclass
class Tensor:
    title: str
    array: Any

    def name(self) -> str:
        return self.title

    def as_numpy(self) -> Any:
        return self.array


@dataclass
class InferenceResponse:
    tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    """A request as a model sees it."""

    arrays: dict[str, Any]
    wanted: tuple[str, ...] = ("y",)
    cancelled: bool = False

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self.arrays.items()]

    def requested_output_names(self) -> list[str]:
        return list(self.wanted)

    def is_cancelled(self) -> bool:
        return self.cancelled


@dataclass
class Backend:
    """The backend's modules, imported beside a stand-in for Triton's."""

    common: Any
    openvino: Any
    request: Callable[..., Request] = Request


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    fake = types.ModuleType("triton_python_backend_utils")
    parts = {
        "TritonError": TritonError,
        "Tensor": Tensor,
        "InferenceResponse": InferenceResponse,
        "InferenceRequest": Request,
        "TritonModelException": type("TritonModelException", (Exception,), {}),
        "Logger": types.SimpleNamespace(log_info=lambda _message: None),
    }
    for name, part in parts.items():
        setattr(fake, name, part)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    names = ("embedded.backends.common", "embedded.backends.openvino.model")
    yield Backend(*(importlib.import_module(name) for name in names))
    for name in names:
        sys.modules.pop(name, None)

"""A toy repository: an OpenVINO model ``twice`` and an ensemble ``edit`` around it."""

import importlib
from pathlib import Path

import numpy as np

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


def build(folder: Path) -> Path:
    """The toy repository in ``folder``."""
    save_twice(write_model(folder, "twice", CONFIG))
    write_model(folder, "edit", ENSEMBLE)
    return folder

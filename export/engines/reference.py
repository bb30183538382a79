"""Runs an ONNX file in ONNX Runtime on the processor: the numeric check where the engine itself cannot run."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from export.engines import Arrays, Run
from families.interface import Component

NAME = "ONNX Runtime"
WIDENED = "widened.onnx"


def open_onnx(file: Path, component: Component, precision: str) -> Run:
    """The ONNX file, ready to run. ONNX Runtime has no bf16 on processors: there bf16 weights are computed in fp32.

    What it writes lies beside `file` under names that start with its name's stem or "widened".
    """
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(
        str(widen(file) if precision == "bf16" else file), providers=["CPUExecutionProvider"]
    )

    names = [tensor.name for tensor in component.outputs]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def widen(file: Path) -> Path:
    """A copy of a bf16 graph with the same, already rounded, weights and fp32 arithmetic."""
    model = onnx.load(file)
    graph = model.graph
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    target = file.with_name(WIDENED)
    onnx.save(model, target, save_as_external_data=True, location=f"{WIDENED}.data")
    return target


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        # Little-endian bf16 is the upper half of fp32.
        raw = tensor.raw_data or np.array(tensor.int32_data, np.uint16).tobytes()
        bits = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        shape = tuple(tensor.dims)
        wide = numpy_helper.from_array(bits.view(np.float32).reshape(shape), tensor.name)
        tensor.CopyFrom(wide)

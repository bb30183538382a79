"""A component of one operator, for what the real ones are too slow for."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from families.interface import Component, Range, Tensor

SIMPLE = Component(
    name="double",
    role="encoder",
    weights="",
    inputs=(Tensor("x", "FP32", ("rows", 3, "width")),),
    outputs=(Tensor("y", "FP32", ("rows", 3, "width")),),
    ranges={"rows": Range(1, 3, 8), "width": Range(4, 8, 16)},
    shapes=({"rows": 1, "width": 4}, {"rows": 2, "width": 6}, {"rows": 8, "width": 16}),
    tolerance={},
)


def double(path: Path, op: str = "Add", dtype: int = TensorProto.FLOAT16) -> Path:
    """y = 2 x (or OP(x, x)), computed in `dtype`, FP32 outside."""
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=dtype),
        helper.make_node(op, ["narrow", "narrow"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "w"]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:]), ir_version=9)
    model.opset_import[0].version = 18
    onnx.save(model, path)
    return path

"""An ONNX file in ONNX's own operators: what rounds to NVFP4 as it goes is TensorRT's, and OpenVINO has no such type.

The arithmetic is that of `export.component.nvfp4`, which narrows weights.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir

from export.component.narrow import DOMAIN, DYNAMIC
from export.component.nvfp4 import BLOCK, LEAST_SCALE, MOST, MOST_SCALE


def standard(file: Path) -> Path:
    """`file`, or where it has operators of TensorRT's a file beside it that computes the same without them."""
    model = ir.load(file)
    own = [node for node in model.graph if node.domain == DOMAIN]
    if not own:
        return file
    for node in own:
        if node.op_type != DYNAMIC:
            raise RuntimeError(f"{node.op_type} has no equal in ONNX's own operators")
        _expand(model.graph, node)
    del model.opset_imports[DOMAIN]
    made = file.with_name(f"{file.name}.standard.onnx")
    ir.save(model, made)
    return made


def _expand(graph: ir.Graph, node: ir.Node) -> None:
    """Rounds the input where it was narrowed and widened: DYNAMIC, and a DequantizeLinear of each of its outputs."""
    given, scale = node.inputs
    numbers, scales = node.outputs
    assert given is not None and scale is not None  # noqa: S101, PT018 - as they are written
    ((wide, _),), ((of_blocks, _),) = numbers.uses(), scales.uses()
    write = _Writer(str(numbers.name))
    rounded = _rounded(write, given, scale)
    graph.insert_before(node, write.tape.nodes)
    for value in write.tape.initializers:
        graph.register_initializer(value)
    for user, place in list(wide.outputs[0].uses()):
        user.replace_input_with(place, rounded)
    graph.remove([wide, of_blocks, node], safe=True)


class _Writer:
    """Nodes and constants whose names begin with `name`."""

    def __init__(self, name: str) -> None:
        self.tape, self._name = ir.tape.Tape(), name

    def __call__(self, op: str, *inputs: ir.Value | float | list[int], **attributes: int) -> ir.Value:
        values = [one if isinstance(one, ir.Value) else self.constant(one) for one in inputs]
        made: ir.Value = self.tape.op(op, values, attributes)
        made.name = f"{self._name}.{len(self.tape.nodes)}"
        return made

    def constant(self, number: float | list[int], kind: type = np.float32) -> ir.Value:
        """A scalar, or the axes and sizes of integers."""
        name = f"{self._name}.constant.{len(self.tape.initializers)}"
        kept: type = np.int64 if isinstance(number, list) else kind
        return self.tape.initializer(ir.tensor(np.array(number, kept), name=name))


def _rounded(write: _Writer, given: ir.Value, scale: ir.Value) -> ir.Value:
    """`export.component.nvfp4.rounded` of (..., n), float32."""
    x = write("Reshape", write("Cast", given, to=int(ir.DataType.FLOAT)), [-1, BLOCK])
    most = write("ReduceMax", write("Abs", x), [-1], keepdims=1)
    wanted = write("Clip", write("Div", most, write("Mul", scale, MOST)), LEAST_SCALE, MOST_SCALE)
    zero = write.constant(0.0, ml_dtypes.float8_e4m3fn)
    narrow = write("QuantizeLinear", wanted, 1.0, zero)
    scales = write("Mul", write("DequantizeLinear", narrow, 1.0, zero), scale)
    number = write("Clip", write("Div", x, scales), -MOST, MOST)
    size = write("Abs", number)
    above_two = write("Where", write("Less", size, 4.0), 1.0, 2.0)
    step = write("Where", write("Less", size, 2.0), 0.5, above_two)
    rounded = write("Mul", write("Mul", write("Round", write("Div", number, step)), step), scales)
    return write("Reshape", rounded, write("Shape", given))

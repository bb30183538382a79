"""Writes narrow layers into an ONNX graph: QuantizeLinear and DequantizeLinear, which every engine reads.

A layer's input passes both, its weight lies narrow and passes the latter. Knows neither torch's modules nor families.
"""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from export.component.layers import Narrowed, input_scale, narrow_weight
from export.component.schemes import Scheme
from export.component.weights import Large

PRODUCTS = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Transpose", "Cast")
"""What may stand between a weight and the product that takes it."""
BLOCKED_OPSET = 21
"""Since when weights may have scales by blocks, and 4 bits."""
NUMBERS = {"int8": ir.DataType.INT8, "int4": ir.DataType.INT4, "fp8": ir.DataType.FLOAT8E4M3FN}

WeightOf = Callable[[ir.Value], Large | None]
"""The large weight that an initializer is."""


def insert(model: ir.Model, narrowed: Narrowed, scheme: Scheme, weight_of: WeightOf) -> None:
    """Narrows the layers of `narrowed` in place. Raises RuntimeError where one of them is no product in the graph."""
    graph, found, inputs = model.graph, set[int](), dict[tuple[str, float, int], ir.Value]()
    for node in list(graph):
        value = _weight(node)
        weight = weight_of(value) if value is not None else None
        if value is None or weight is None or id(weight.owner) not in narrowed.layers:
            continue
        layer = narrowed.layers[id(weight.owner)]
        found.add(id(weight.owner))
        if scheme.activations:
            step, zero = input_scale(layer, scheme)
            key = (str(node.inputs[0].name), step, zero)  # type: ignore[union-attr]
            if key not in inputs:
                inputs[key] = _narrow_input(graph, node, scheme, step, zero)
            node.replace_input_with(0, inputs[key])
        _narrow_weight(graph, value, weight, scheme)
    if scheme.activations and found != narrowed.layers.keys():  # of weights, those of layers that are not used too
        raise RuntimeError(f"{len(narrowed.layers.keys() - found)} layers are no products of the graph")
    model.opset_imports[""] = max(model.opset_imports[""], BLOCKED_OPSET)


def _weight(node: ir.Node) -> ir.Value | None:
    """The initializer that a product multiplies its input by."""
    value = node.inputs[1] if node.op_type in PRODUCTS else None
    while value is not None and value.const_value is None:
        before = value.producer()
        value = before.inputs[0] if before is not None and before.op_type in BETWEEN else None
    return value


def _constant(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    made = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(made)
    return made


def _floats(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], like: ir.Value, name: str) -> ir.TensorProtocol:
    """Numbers of the type of `like`: the type of a scale is that of what it scales."""
    return ir.tensor(values.astype(like.dtype.numpy()), name=name)  # type: ignore[union-attr]


def _narrow_input(graph: ir.Graph, node: ir.Node, scheme: Scheme, step: float, zero: int) -> ir.Value:
    given = node.inputs[0]
    assert given is not None  # noqa: S101 - of a product
    name = f"{node.outputs[0].name}.input"
    number = ml_dtypes.float8_e4m3fn if scheme.weights == "fp8" else np.uint8
    scale = _constant(graph, f"{name}.scale", _floats(np.array(step, np.float32), given, f"{name}.scale"))
    point = _constant(graph, f"{name}.zero", ir.tensor(np.array(zero, number), name=f"{name}.zero"))
    narrow = ir.node("QuantizeLinear", [given, scale, point])
    wide = ir.node("DequantizeLinear", [narrow.outputs[0], scale, point])
    narrow.outputs[0].name, narrow.outputs[0].type = f"{name}.narrow", ir.TensorType(point.dtype)  # type: ignore[arg-type]
    wide.outputs[0].name, wide.outputs[0].type = f"{name}.wide", given.type
    for made in (narrow, wide):
        made.outputs[0].shape = given.shape
    graph.insert_before(node, [narrow, wide])
    return wide.outputs[0]


def _narrow_weight(graph: ir.Graph, value: ir.Value, weight: Large, scheme: Scheme) -> None:
    """Puts the weight's narrow numbers, times their scales, in its place. They are worked out when they are written."""
    name = str(value.name)
    _, scales = narrow_weight(weight.read(torch.float32), scheme)
    attributes: dict[str, int] = {"axis": 0}
    if scales.ndim == 3:  # (out, blocks, 1)
        attributes = {"axis": 1, "block_size": weight.source.shape[1] // scales.shape[1]}
    scales = scales.squeeze(-1)
    numbers = ir.LazyTensor(
        lambda: _numbers(weight, scheme, name), NUMBERS[scheme.weights], ir.Shape(weight.source.shape), name=name
    )
    narrow = _constant(graph, f"{name}.narrow", numbers)
    scale = _constant(graph, f"{name}.scale", _floats(scales.numpy(), value, f"{name}.scale"))
    wide = ir.node("DequantizeLinear", [narrow, scale], attributes)
    wide.outputs[0].name, wide.outputs[0].type = f"{name}.wide", value.type
    wide.outputs[0].shape = value.shape
    for user, place in list(value.uses()):
        user.replace_input_with(place, wide.outputs[0])
    del graph.initializers[name]
    graph.insert_before(graph[0], wide)


def _numbers(weight: Large, scheme: Scheme, name: str) -> ir.TensorProtocol:
    narrow: Tensor = narrow_weight(weight.read(torch.float32), scheme)[0].reshape(weight.source.shape)
    if scheme.weights == "fp8":
        return ir.tensor(narrow.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn), name=name)
    kind = ml_dtypes.int4 if scheme.weights == "int4" else np.int8
    return ir.tensor(narrow.numpy().astype(kind), name=name)

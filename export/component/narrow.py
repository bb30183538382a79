"""Writes narrow layers into an ONNX graph: QuantizeLinear and DequantizeLinear, which every engine reads.

A layer's input passes both, its weight lies narrow and passes the latter. In NVFP4 scales are narrow, too, and pass
another before; and what rounds an input is TensorRT's own operator. Knows neither torch's modules nor families.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from export.component import initializers, nvfp4
from export.component.convolve import Convolutions
from export.component.layers import Layer, Narrowed, convolves, input_scale, input_tensor_scale, narrow_weight
from export.component.schemes import Scheme
from export.component.weights import Large

PRODUCTS = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Transpose", "Cast")
"""What may stand between a weight and the product that takes it."""
BLOCKED_OPSET = 21
"""Since when weights may have scales by blocks, and 4 bits."""
FLOAT4_OPSET, FLOAT4_IR_VERSION = 23, 11
"""Since when those may be of a float."""
DYNAMIC, DOMAIN = "TRT_FP4DynamicQuantize", "trt"
"""TensorRT's operator: (..., n), scale of the whole -> E2M1 (..., n), E4M3 scales (..., n / 16)."""
NUMBERS = {
    "int8": ir.DataType.INT8,
    "int4": ir.DataType.INT4,
    "fp8": ir.DataType.FLOAT8E4M3FN,
    "nvfp4": ir.DataType.FLOAT4E2M1,
}

KINDS = {"int8": np.int8, "int4": ml_dtypes.int4, "nvfp4": ml_dtypes.float4_e2m1fn}
FLOAT = ir.DataType.FLOAT


def insert(model: ir.Model, narrowed: Narrowed) -> None:
    """Narrows the layers of `narrowed` in place. Raises RuntimeError where one of them is no product in the graph."""
    graph, found, wide = model.graph, set[int](), dict[ir.Node, ir.Value]()
    inputs, convolutions = _Inputs(graph), Convolutions(graph)
    for node in list(graph):
        value = _weight(node)
        weight = initializers.weight_of(value) if value is not None else None
        if value is None or weight is None:
            continue
        if id(weight.owner) not in narrowed.layers:
            wide[node] = value
            continue
        layer = narrowed.layers[id(weight.owner)]
        found.add(id(weight.owner))
        if layer.scheme.activations:
            node.replace_input_with(0, inputs.narrow(node, layer))
        if layer.scheme.weights == "nvfp4":
            _narrow_blocks(graph, value, weight, layer.scheme)
        elif convolves(weight.owner, layer.scheme) and convolutions.can(node, value):
            parts = convolutions.parts(node, value)
            convolutions.write(node, value, _narrow_weights(graph, value, weight, layer.scheme, parts))
        else:
            _replace(graph, value, *_narrow_weights(graph, value, weight, layer.scheme))
    convolutions.join(wide, partial(initializers.kernel, graph))
    calibrated = {owner for owner, layer in narrowed.layers.items() if layer.scheme.activations}
    if calibrated - found:  # of weights alone, those of layers that are not used are narrowed too
        raise RuntimeError(f"{len(calibrated - found)} layers are no products of the graph")
    model.opset_imports[""] = max(model.opset_imports[""], BLOCKED_OPSET)
    if any(node.domain == DOMAIN for node in graph):
        model.opset_imports.update({"": max(model.opset_imports[""], FLOAT4_OPSET), DOMAIN: 1})
        model.ir_version = max(model.ir_version, FLOAT4_IR_VERSION)


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


def _type(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None  # noqa: S101 - a traced value has a type
    return value.dtype


def _floats(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], like: ir.Value, name: str) -> ir.TensorProtocol:
    """Numbers of the type of `like`: the type of a scale is that of what it scales."""
    return ir.tensor(values.astype(_type(like).numpy()), name=name)


@dataclass(frozen=True)
class _Inputs:
    """Inputs of products, each narrowed once however many products take it as narrow."""

    graph: ir.Graph
    made: dict[tuple[str, Layer], ir.Value] = field(default_factory=dict)

    def narrow(self, node: ir.Node, layer: Layer) -> ir.Value:
        """The input of `node` as its layer takes it."""
        given = node.inputs[0]
        assert given is not None  # noqa: S101 - of a product
        key = (str(given.name), layer)
        if key not in self.made:
            make = _dynamic_input if layer.scheme.weights == "nvfp4" else _narrow_input
            self.made[key] = make(self.graph, node, given, layer)
        return self.made[key]


@dataclass(frozen=True)
class _Before:
    """Adds nodes before one."""

    graph: ir.Graph
    node: ir.Node

    def add(self, op: str, inputs: Sequence[ir.Value], made: ir.Value, **attributes: int) -> ir.Value:
        """A node of the output `made`, which it returns."""
        self.graph.insert_before(self.node, ir.node(op, inputs, attributes, outputs=[made]))
        return made


def _like(value: ir.Value, name: str, kind: ir.DataType) -> ir.Value:
    """A new one of the same shape."""
    return ir.Value(name=name, type=ir.TensorType(kind), shape=value.shape)


def _narrow_input(graph: ir.Graph, node: ir.Node, given: ir.Value, layer: Layer) -> ir.Value:
    name, (step, zero) = f"{node.outputs[0].name}.input", input_scale(layer)
    number = ml_dtypes.float8_e4m3fn if layer.scheme.weights == "fp8" else np.uint8
    scale = _constant(graph, f"{name}.scale", _floats(np.array(step, np.float32), given, f"{name}.scale"))
    point = _constant(graph, f"{name}.zero", ir.tensor(np.array(zero, number), name=f"{name}.zero"))
    before = _Before(graph, node)
    narrow = before.add("QuantizeLinear", [given, scale, point], _like(given, f"{name}.narrow", _type(point)))
    return before.add("DequantizeLinear", [narrow, scale, point], _like(given, f"{name}.wide", _type(given)))


def _dynamic_input(graph: ir.Graph, node: ir.Node, given: ir.Value, layer: Layer) -> ir.Value:
    name = f"{node.outputs[0].name}.input"
    scale = _constant(graph, f"{name}.scale", ir.tensor(input_tensor_scale(layer).numpy(), name=f"{name}.scale"))
    attributes = {"axis": -1, "block_size": nvfp4.BLOCK, "scale_type": int(NUMBERS["fp8"])}
    numbers = _like(given, f"{name}.narrow", NUMBERS["nvfp4"])
    scales = ir.Value(name=f"{name}.scales", type=ir.TensorType(NUMBERS["fp8"]))
    graph.insert_before(node, ir.node(DYNAMIC, [given, scale], attributes, domain=DOMAIN, outputs=[numbers, scales]))
    return _two_levels(_Before(graph, node), (numbers, scales, scale), given, name)


def _two_levels(before: _Before, narrow: tuple[ir.Value, ir.Value, ir.Value], like: ir.Value, name: str) -> ir.Value:
    """E2M1 numbers (..., n), their E4M3 scales (..., n / 16) and the float32 scale of all -> (..., n) as `like`."""
    numbers, scales, scale = narrow
    of_blocks = before.add("DequantizeLinear", [scales, scale], _like(scales, f"{name}.of_blocks", FLOAT))
    wide = _like(like, f"{name}.float", FLOAT)
    before.add("DequantizeLinear", [numbers, of_blocks], wide, axis=-1, block_size=nvfp4.BLOCK)
    return before.add("Cast", [wide], _like(like, f"{name}.wide", _type(like)), to=int(_type(like)))


def _narrow_weights(
    graph: ir.Graph, value: ir.Value, weight: Large, scheme: Scheme, convolutions: int = 0
) -> list[ir.Value]:
    """The weight's narrow numbers, times their scales, which are worked out when they are written. `convolutions`: as
    (out, in, 1, 1), in so many parts of its outputs; 0: as it is."""
    _, scales = narrow_weight(weight.read(torch.float32), scheme)
    attributes: dict[str, int] = {"axis": 0}
    if scales.ndim == 3:  # (out, blocks, 1)
        attributes = {"axis": 1, "block_size": weight.source.shape[1] // scales.shape[1]}
    before, made, parts = _Before(graph, graph[0]), list[ir.Value](), max(convolutions, 1)
    kernel, each = (1, 1) if convolutions else (), weight.source.shape[0] // parts
    for part in range(parts):
        name, outputs = f"{value.name}{f'.{part}' if part else ''}", slice(part * each, (part + 1) * each)
        narrow = _numbers(graph, weight, scheme, name, (outputs, kernel))
        floats = _floats(scales[outputs].squeeze(-1).numpy(), value, f"{name}.scale")
        scale = _constant(graph, f"{name}.scale", floats)
        wide = _like(narrow, f"{name}.wide", _type(value))
        made.append(before.add("DequantizeLinear", [narrow, scale], wide, **attributes))
    return made


def _narrow_blocks(graph: ir.Graph, value: ir.Value, weight: Large, scheme: Scheme) -> None:
    """Puts narrow numbers, times scales that are narrow, too, in the place of a weight."""
    name, shape = str(value.name), weight.source.shape
    scale = nvfp4.tensor_scale(weight.read(torch.float32).abs().amax())

    def scales() -> ir.TensorProtocol:
        found = nvfp4.block_scales(nvfp4.blocks(weight.read(torch.float32)), scale).squeeze(-1)
        return ir.tensor(found.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn), name=f"{name}.scales")

    of_blocks = ir.LazyTensor(
        scales, NUMBERS["fp8"], ir.Shape((shape[0], shape[1] // nvfp4.BLOCK)), name=f"{name}.scales"
    )
    lying = (
        _numbers(graph, weight, scheme, name),
        _constant(graph, f"{name}.scales", of_blocks),
        _constant(graph, f"{name}.scale", ir.tensor(scale.numpy(), name=f"{name}.scale")),
    )
    _replace(graph, value, _two_levels(_Before(graph, graph[0]), lying, value, name))


def _replace(graph: ir.Graph, value: ir.Value, wide: ir.Value) -> None:
    """Gives those that take an initializer another value instead."""
    for user, place in list(value.uses()):
        user.replace_input_with(place, wide)
    del graph.initializers[str(value.name)]


def _numbers(
    graph: ir.Graph,
    weight: Large,
    scheme: Scheme,
    name: str,
    of: tuple[slice, tuple[int, ...]] = (slice(None), ()),
) -> ir.Value:
    """A constant of the weight's numbers, without their scales. `of`: the outputs it has, and axes more."""
    outputs, kernel = of
    all_of_it = weight.source.shape
    shape = (len(range(*outputs.indices(all_of_it[0]))), *all_of_it[1:], *kernel)

    def made() -> ir.TensorProtocol:
        narrow: Tensor = narrow_weight(weight.read(torch.float32), scheme)[0][outputs].reshape(shape)
        if scheme.weights == "fp8":
            return ir.tensor(narrow.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn), name=name)
        return ir.tensor(narrow.numpy().astype(KINDS[scheme.weights]), name=name)

    numbers = ir.LazyTensor(made, NUMBERS[scheme.weights], ir.Shape(shape), name=name)
    return _constant(graph, f"{name}.narrow", numbers)

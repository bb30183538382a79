"""Writes linear layers of an ONNX graph as 1 x 1 convolutions, whose int8 kernels are faster on some processors.

Knows neither torch's modules nor what is narrowed: inputs and weights are narrow by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Channels from last to second, and back: copies of an input, and of an output."""
MISSING = {2: (2, 3), 3: (2,)}
"""By an input's axes, those of pictures that it lacks: (rows, n) -> (rows, n, 1, 1), or (rows, tokens, n) -> (rows,
tokens, 1, n), which is a picture whose channels are last."""


@dataclass(frozen=True)
class Convolutions:
    """Those of one graph. `given`: inputs as pictures, each made once however many layers take it."""

    graph: ir.Graph
    given: dict[str, ir.Value] = field(default_factory=dict)

    def can(self, node: ir.Node, weight: ir.Value) -> bool:
        """Whether a product of an input of 2 or 3 axes alone takes the initializer `weight`, (out, in), transposed."""
        given, taken = node.inputs[0], weight.consumers()
        turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        if taken and taken[0].op_type == "Transpose":
            taken, turned = (*taken[0].outputs[0].consumers(), *taken[1:]), not turned
        suits = given is not None and given.shape is not None and len(given.shape) in MISSING
        return suits and turned and tuple(taken) == (node,)

    def write(self, node: ir.Node, weight: ir.Value) -> None:
        """Puts a convolution by `weight`, (out, in, 1, 1), in the place of a product, and of what adds its bias."""
        given, product, last = node.inputs[0], node.outputs[0], node
        assert given is not None and given.shape is not None  # noqa: S101, PT018 - `can` has seen it
        axes, inputs = len(given.shape), [self._picture(node, given), weight]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            inputs.append(node.inputs[2])
        elif (bias := _bias(node, weight)) is not None:
            inputs.append(bias)
            last = product.consumers()[0]
        value, made = self._add(last, "Conv", inputs, f"{product.name}.channels"), last.outputs[0]
        if axes == 3:
            value = self._add(last, "Transpose", [value], f"{product.name}.turned", *LAST)
        value = self._add(last, "Squeeze", [value, self._axes(axes)], f"{product.name}.rows")
        value.shape = made.shape
        made.replace_all_uses_with(value, replace_graph_outputs=True)
        self._remove(last, node)
        value.name = made.name

    def _picture(self, node: ir.Node, given: ir.Value) -> ir.Value:
        """(rows, n, 1, 1) or (rows, n, tokens, 1)."""
        name, axes = str(given.name), len(given.shape or ())
        if name not in self.given:
            picture = self._add(node, "Unsqueeze", [given, self._axes(axes)], f"{name}.picture")
            if axes == 3:
                picture = self._add(node, "Transpose", [picture], f"{name}.channels", *FIRST)
            self.given[name] = picture
        return self.given[name]

    def _axes(self, axes: int) -> ir.Value:
        """Those that are missing, as a constant of the graph."""
        name = f"convolve.{axes}"
        if name not in self.graph.initializers:
            tensor = ir.tensor(MISSING[axes], ir.DataType.INT64, name=name)
            kind, shape = ir.TensorType(tensor.dtype), ir.Shape([len(MISSING[axes])])
            self.graph.register_initializer(ir.Value(name=name, shape=shape, type=kind, const_value=tensor))
        return self.graph.initializers[name]

    def _add(self, before: ir.Node, op: str, inputs: Sequence[ir.Value], name: str, *order: int) -> ir.Value:
        """The output `name` of a new node before another. `order`: of axes."""
        made = ir.Value(name=name, type=inputs[0].type)
        self.graph.insert_before(before, ir.node(op, inputs, {"perm": order} if order else {}, outputs=[made]))
        return made

    def _remove(self, *nodes: ir.Node) -> None:
        """Takes out nodes that nothing uses any more, from the last on, and a transposed weight that is left over."""
        for node in dict.fromkeys(nodes):
            turned = node.inputs[1].producer() if node.inputs[1] is not None else None
            self.graph.remove(node, safe=True)
            if turned is not None and turned.op_type == "Transpose" and not turned.outputs[0].uses():
                self.graph.remove(turned, safe=True)


def _bias(node: ir.Node, weight: ir.Value) -> ir.Value | None:
    """What the one node that takes a product adds to each of its rows, where it is a constant."""
    product, users = node.outputs[0], node.outputs[0].consumers()
    if len(product.uses()) != 1 or users[0].op_type != "Add" or product.is_graph_output() or weight.shape is None:
        return None
    other = next(value for value in users[0].inputs if value is not product)
    return other if other is not None and other.is_initializer() and other.shape == weight.shape[:1] else None

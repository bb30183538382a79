"""Writes linear layers of an ONNX graph as 1 x 1 convolutions, whose int8 kernels are faster on some processors.

Knows neither torch's modules nor what is narrowed: inputs and weights are narrow by then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from export.component.turns import FIRST, LAST, cancel

SWAPPED = (1, 0)
"""Axes of a weight."""
MISSING = {2: (2, 3), 3: (2,)}
"""By an input's axes, those of pictures that it lacks: (rows, n) -> (rows, n, 1, 1), or (rows, tokens, n) -> (rows,
tokens, 1, n), which is a picture whose channels are last."""


@dataclass(frozen=True)
class Convolutions:
    """Those of one graph. `given`: inputs as pictures, each made once however many layers take it. `made`: outputs of
    each layer of tokens, (rows, tokens, n), one or two halves."""

    graph: ir.Graph
    given: dict[str, ir.Value] = field(default_factory=dict)
    made: list[list[ir.Value]] = field(default_factory=list)

    def can(self, node: ir.Node, weight: ir.Value) -> bool:
        """Whether a product of an input of 2 or 3 axes alone takes the initializer `weight`, (out, in), transposed, and
        is what a linear layer computes."""
        given, taken = node.inputs[0], weight.consumers()
        turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        if taken and taken[0].op_type == "Transpose" and taken[0].attributes.get_ints("perm", SWAPPED) == SWAPPED:
            taken, turned = (*taken[0].outputs[0].consumers(), *taken[1:]), not turned
        suits = given is not None and given.shape is not None and len(given.shape) in MISSING
        return suits and turned and tuple(taken) == (node,) and _plain(node, weight)

    def parts(self, node: ir.Node, weight: ir.Value) -> int:
        """2 where nothing is taken of a layer of tokens but the halves of its outputs, as of gated ones; else 1."""
        return 2 if _halves(_last(node, weight), weight) else 1

    def write(self, node: ir.Node, weight: ir.Value, parts: Sequence[ir.Value]) -> None:
        """Puts convolutions in the place of a product, of what adds its bias, and of what halves that.

        `weight`: the initializer that it takes, of which `parts` are all outputs or half of them each, (out, in, 1, 1).
        """
        last, given, bias = _last(node, weight), node.inputs[0], _bias(node, weight)
        assert given is not None and given.shape is not None  # noqa: S101, PT018 - `can` has seen it
        ends = _halves(last, weight) if len(parts) > 1 else [last.outputs[0]]
        makers = [maker for end in ends if (maker := end.producer())]
        picture, made = self._picture(node, given), list[ir.Value]()
        for place, (part, old) in enumerate(zip(parts, ends, strict=True)):
            inputs, before = [picture, part], makers[place]
            if bias is not None:
                inputs.append(self._part(bias, place, len(parts)))
            value = self._add(before, "Conv", inputs, f"{old.name}.channels")
            if len(given.shape) == 3:
                value = self._add(before, "Transpose", [value], f"{old.name}.turned", *LAST)
            value = self._add(before, "Squeeze", [value, self._axes(len(given.shape))], f"{old.name}.rows")
            value.shape = old.shape
            old.replace_all_uses_with(value, replace_graph_outputs=True)
            made.append(value)
        names = [str(end.name) for end in ends]
        self._remove(*makers, last, node)
        for value, name in zip(made, names, strict=True):
            value.name = name
        del self.graph.initializers[str(weight.name)]
        if len(given.shape) == 3:
            self.made.append(made)

    def join(self, wide: Mapping[ir.Node, ir.Value], kernel: Callable[[ir.Value], ir.Value]) -> None:
        """Cancels the copies between two of them, once all are written.

        `wide`: products that are not narrowed, with their weights, (out, in), of which `kernel` makes (out, in, 1, 1).
        They are convolutions where they have fewer outputs than what is copied before them.
        """

        def write(node: ir.Node) -> None:
            self.write(node, wide[node], [kernel(wide[node])])

        able = {node: _sizes(weight)[0] for node, weight in wide.items() if self.can(node, weight)}
        for made in list(self.made):
            copied = sum(_sizes(value)[-1] for value in made)
            cancel(self.graph, made, [node for node, outputs in able.items() if outputs < copied], write)

    def _picture(self, node: ir.Node, given: ir.Value) -> ir.Value:
        """(rows, n, 1, 1) or (rows, n, tokens, 1)."""
        name, axes = str(given.name), len(given.shape or ())
        if name not in self.given:
            picture = self._add(node, "Unsqueeze", [given, self._axes(axes)], f"{name}.picture")
            if axes == 3:
                picture = self._add(node, "Transpose", [picture], f"{name}.picture.channels", *FIRST)
            self.given[name] = picture
        return self.given[name]

    def _axes(self, axes: int) -> ir.Value:
        """Those that are missing, as a constant of the graph."""
        return self._constant(f"convolve.{axes}", ir.tensor(MISSING[axes], ir.DataType.INT64))

    def _part(self, bias: ir.Value, place: int, parts: int) -> ir.Value:
        """One of equal parts of a bias."""
        if parts == 1:
            return bias
        assert bias.const_value is not None  # noqa: S101 - `_bias` has seen it
        numbers = bias.const_value.numpy().reshape(parts, -1)[place]
        return self._constant(f"{bias.name}.{place}", ir.tensor(numbers))

    def _constant(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        if name not in self.graph.initializers:
            kind, shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
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
            turned = node.inputs[1].producer() if len(node.inputs) > 1 and node.inputs[1] is not None else None
            self.graph.remove(node, safe=True)
            if turned is not None and turned.op_type == "Transpose" and not turned.outputs[0].uses():
                self.graph.remove(turned, safe=True)


def _sizes(value: ir.Value) -> list[int]:
    """Of its axes; 0 of those that are not known."""
    return [size if isinstance(size, int) else 0 for size in value.shape or (0,)]


def _plain(node: ir.Node, weight: ir.Value) -> bool:
    """Whether a product is scaled by nothing, and has no other bias than a number for each output."""
    said, bias = node.attributes, node.inputs[2] if len(node.inputs) > 2 else None
    scaled = said.get_float("alpha", 1.0) != 1 or said.get_float("beta", 1.0) != 1
    fits = bias is None or (weight.shape is not None and bias.shape == weight.shape[:1])
    return fits and not scaled and not said.get_int("transA", 0)


def _bias(node: ir.Node, weight: ir.Value) -> ir.Value | None:
    """What is added to each row of a product, where it is a constant."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return node.inputs[2]
    added = _added(node, weight)
    return None if added is None else added[1]


def _last(node: ir.Node, weight: ir.Value) -> ir.Node:
    """The product itself, or the node that adds its bias."""
    added = _added(node, weight)
    return node if added is None else added[0]


def _added(node: ir.Node, weight: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The one node that takes a product, and the constant that it adds to each row."""
    product, users = node.outputs[0], node.outputs[0].consumers()
    if len(node.inputs) > 2 or len(product.uses()) != 1 or users[0].op_type != "Add" or product.is_graph_output():
        return None
    other = next(value for value in users[0].inputs if value is not product)
    constant = other is not None and other.is_initializer() and weight.shape and other.shape == weight.shape[:1]
    return (users[0], other) if constant and other is not None else None


def _halves(node: ir.Node, weight: ir.Value) -> list[ir.Value]:
    """The two halves of a node's output along the last of three axes, if nothing else is taken of it; else none.
    `weight`: (out, in), of which output."""
    value, users = node.outputs[0], node.outputs[0].consumers()
    if len(value.uses()) != 1 or users[0].op_type != "Split" or value.is_graph_output():
        return []
    halves, out = list(users[0].outputs), (weight.shape or (0,))[0]
    last = users[0].attributes.get_int("axis", 0) in {-1, 2} and len(value.shape or ()) == 3
    shapes = [tuple(half.shape or ()) for half in halves]
    return halves if last and len(halves) == 2 and all(len(own) == 3 and own[2] == out / 2 for own in shapes) else []

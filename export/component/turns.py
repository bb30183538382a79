"""Removes from an ONNX graph turns of axes that undo one another, where all between works on each number by itself."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Channels of a picture from last to second, and back."""
ALIKE = frozenset(
    (
        "Add",
        "Cast",
        "DequantizeLinear",
        "Div",
        "Erf",
        "Gelu",
        "Identity",
        "Mul",
        "QuantizeLinear",
        "Sigmoid",
        "Sub",
        "Tanh",
    )
)
"""Operators that work on each number by itself, if what else they take is as large or one number."""
LINEAR = frozenset(("Add", "Cast", "Div", "Identity", "Mul", "Sub"))
"""Those of them behind which OpenVINO still takes the scales of a convolution in int8 out of what it gives."""

Sources = frozenset[ir.Value]
"""The values that one is a multiple of, or a sum."""


Write = Callable[[ir.Node], object]
"""Makes a convolution of a product, which takes a picture then."""


def cancel(graph: ir.Graph, made: Sequence[ir.Value], products: Collection[ir.Node], write: Write) -> None:
    """Lets what is computed of `made` keep their channels second, if pictures are made of all of it at the end.

    made: (rows, tokens, n), each given by a Squeeze of a Transpose of (rows, n, tokens, 1). Pictures are made by an
    Unsqueeze and a Transpose, and of those of `products` that are at the end by `write`.
    """
    region = _Region.of(made, products)
    if not region.closed:
        return
    if region.products:
        for product in region.products:
            write(product)
        region = _Region.of(made, ())
    for value in made:
        _take_back(graph, value)
    for value in region.inside:
        value.shape = None
    for unsqueeze, transpose in region.ends.items():
        given = unsqueeze.inputs[0]
        assert given is not None  # noqa: S101 - it is inside
        transpose.outputs[0].replace_all_uses_with(given)
        graph.remove([transpose, unsqueeze], safe=True)


@dataclass
class _Region:
    """What is computed of some values (`inside`, by `nodes`) up to pictures (`ends`, with their turns) or products."""

    inside: dict[ir.Value, Sources]
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    ends: dict[ir.Node, ir.Node] = field(default_factory=dict)
    products: list[ir.Node] = field(default_factory=list)

    @staticmethod
    def of(made: Sequence[ir.Value], products: Collection[ir.Node]) -> "_Region":
        """As far as it goes."""
        region, waiting = _Region({value: frozenset([value]) for value in made}), True
        while waiting:
            users = {user: None for value in region.inside for user in value.consumers() if user not in region.nodes}
            taken = [user for user in users if region._take(user, products)]
            region.nodes |= dict.fromkeys(taken)
            waiting = bool(taken)
        return region

    @property
    def closed(self) -> bool:
        """Whether it has ends, and nothing else takes what is inside."""
        users = {user for value in self.inside for user in value.consumers()}
        seen = any(value.is_graph_output() for value in self.inside)
        return bool(self.ends or self.products) and not users - self.nodes.keys() and not seen

    def _take(self, node: ir.Node, products: Collection[ir.Node]) -> bool:
        """Whether a node, which takes what is inside, is part of it or at its end."""
        turned = _picture(node)
        sources = _sources(node, self.inside) if turned is None else None
        if turned is not None:
            self.ends[node] = turned
        elif sources is not None:
            self.inside |= dict.fromkeys(node.outputs, sources)
        elif node in products:
            self.products.append(node)
        else:
            return False
        return True


def _sources(node: ir.Node, inside: Mapping[ir.Value, Sources]) -> Sources | None:
    """Those of what a node gives, if it may work on pictures; else None.

    It may not where it takes one source twice: OpenVINO (2026.4) multiplies or adds what a convolution in int8 gives
    and the same again without the scales of one of them, unless a bias is between.
    """
    taken = [inside[value] for value in node.inputs if value is not None and value in inside]
    others = all(value in inside or _single(value) for value in node.inputs)
    if node.op_type not in ALIKE or not others or (len(taken) > 1 and frozenset.intersection(*taken)):
        return None
    return frozenset[ir.Value]().union(*taken) if node.op_type in LINEAR else frozenset()


def _picture(node: ir.Node) -> ir.Node | None:
    """The Transpose that alone takes what an Unsqueeze gives, (rows, tokens, 1, n), and makes its channels second."""
    users = node.outputs[0].consumers()
    if node.op_type != "Unsqueeze" or len(users) != 1 or users[0].op_type != "Transpose":
        return None
    axes = ir.convenience.get_const_tensor(node.inputs[-1]) if node.inputs[-1] is not None else None
    middle = axes is not None and axes.numpy().tolist() == [2]
    seen = any(value.is_graph_output() for value in (*node.outputs, *users[0].outputs))
    return users[0] if middle and not seen and users[0].attributes.get_ints("perm", ()) == FIRST else None


def _single(value: ir.Value | None) -> bool:
    """Whether it is a constant of one number, or left out."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return value is None or (tensor is not None and tensor.size == 1)


def _take_back(graph: ir.Graph, value: ir.Value) -> None:
    """Gives those that take (rows, tokens, n) the picture that it was made of."""
    squeeze = value.producer()
    transpose = squeeze.inputs[0].producer() if squeeze is not None and squeeze.inputs[0] is not None else None
    assert squeeze is not None and transpose is not None and transpose.inputs[0] is not None  # noqa: S101, PT018
    value.replace_all_uses_with(transpose.inputs[0])
    graph.remove([squeeze, transpose], safe=True)

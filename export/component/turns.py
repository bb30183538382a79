"""Removes from an ONNX graph turns of axes that undo one another, where all between works on each number by itself."""

from collections.abc import Mapping, Sequence

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


def cancel(graph: ir.Graph, made: Sequence[ir.Value]) -> None:
    """Lets what is computed of `made` keep their channels second, if pictures are made of all of it at the end.

    made: (rows, tokens, n), each given by a Squeeze of a Transpose of (rows, n, tokens, 1). Pictures are made by an
    Unsqueeze and a Transpose.
    """
    inside, ends = {value: frozenset([value]) for value in made}, dict[ir.Node, ir.Node]()
    nodes, waiting = dict[ir.Node, None](), True
    while waiting:
        waiting = False
        for node in {user: None for value in inside for user in value.consumers() if user not in nodes}:
            turned = _picture(node)
            sources = _sources(node, inside) if turned is None else None
            if turned is not None:
                ends[node] = turned
            elif sources is not None:
                inside |= dict.fromkeys(node.outputs, sources)
            else:
                continue
            nodes[node], waiting = None, True
    users = {user for value in inside for user in value.consumers()}
    if not ends or users - nodes.keys() or any(value.is_graph_output() for value in inside):
        return
    for value in made:
        _take_back(graph, value)
    for value in inside:
        value.shape = None
    for unsqueeze, transpose in ends.items():
        given = unsqueeze.inputs[0]
        assert given is not None  # noqa: S101 - it is inside
        transpose.outputs[0].replace_all_uses_with(given)
        graph.remove([transpose, unsqueeze], safe=True)


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

"""Graphs written by hand whose products may become convolutions: whatever they are, they compute what they did."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import checker, numpy_helper, parser, shape_inference
from onnx.reference import ReferenceEvaluator

from export.component.convolve import Convolutions

SIZES = {"R": 2, "T": 3}
ROWS = "(float[R,4] x, float[4,4] w, float[4] b, float[1,4] b1, float[R,4] c)"
TOKENS = (
    "(float[R,T,4] x, float[4,4] w, float[4] b, float[4,4] w2, float[6,4] w3, float[6] b3, float[4,2] w4, "
    "float[4,4] w5, float[2,4] w6, float[1,2] w7, float[1] b7)"
)
LEFT = {"w5", "w6", "w7"}
"""Weights that are not narrowed."""
LAYER = "wt = Transpose<perm=[1, 0]>(w) q = MatMul(x, wt) p = Add(q, b)"
WIDE = "wt = Transpose<perm=[1, 0]>(w3) q = MatMul(x, wt) p = Add(q, b3)"
NEXT = "w2t = Transpose<perm=[1, 0]>(w2) y = MatMul(m, w2t)"
LAST = "w6t = Transpose<perm=[1, 0]>(w6) y = MatMul(m, w6t)"
AGAIN = "m = Mul(h0, h1) w7t = Transpose<perm=[1, 0]>(w7) r = MatMul(m, w7t) y = Add(b7, r)"
GATED = "m = Mul(h0, h1) w4t = Transpose<perm=[1, 0]>(w4) y = MatMul(m, w4t)"
PICTURE = "u = Unsqueeze(p, a) v = Transpose<perm=[0, 3, 1, 2]>(u)"
TAKEN = "h0, h1 = Split<axis=2, num_outputs=2>(p)"
THIRDS = "h0, h1, h2 = Split<axis=2, num_outputs=3>(p)"
UNEVEN = "h0, h1 = Split<axis=2>(p, n)"


def rows(nodes: str) -> str:
    """A graph of rows."""
    return f"{ROWS} => (float[R,4] y) {{ {nodes} }}"


def tokens(nodes: str, *outputs: str, known: str = "") -> str:
    """A graph of rows of tokens, whose output is `y` unless it is said."""
    return f"{TOKENS} => ({', '.join(outputs or ['float[R,T,4] y'])}) {known} {{ {nodes} }}"


def picture(nodes: str, *outputs: str, axis: int = 2) -> str:
    """A graph of rows of tokens that are made a picture in the model itself."""
    return tokens(f"{LAYER} {nodes}", *outputs, known=f"<int64[1] a = {{{axis}}}>")


GRAPHS = {
    "a bias in the product": (rows("y = Gemm<transB=1>(x, w, b)"), 1, 0),
    "a bias before it": (rows("p = Gemm<transB=1>(x, w) y = Add(b, p)"), 1, 0),
    "a product that is scaled": (rows("y = Gemm<transB=1, alpha=0.5>(x, w, b)"), 0, 0),
    "a bias that is scaled": (rows("y = Gemm<transB=1, beta=0.5>(x, w, b)"), 0, 0),
    "a bias for each row": (rows("y = Gemm<transB=1>(x, w, c)"), 0, 0),
    "a bias of two axes": (rows("y = Gemm<transB=1>(x, w, b1)"), 0, 0),
    "an input transposed": (
        "(float[4,2] x, float[4,4] w) => (float[2,4] y) { y = Gemm<transA=1, transB=1>(x, w) }",
        0,
        0,
    ),
    "a weight that is not transposed": (tokens("wt = Transpose<perm=[0, 1]>(w) y = MatMul(x, wt)"), 0, 0),
    "a weight that is by default": (tokens("wt = Transpose(w) y = MatMul(x, wt)"), 1, 2),
    "a weight of two products": (tokens(f"{LAYER} y = MatMul(p, wt)"), 0, 0),
    "a weight transposed for each": (tokens(f"{LAYER} vt = Transpose<perm=[1, 0]>(w) y = MatMul(p, vt)"), 0, 0),
    "a layer and the next": (tokens(f"{LAYER} m = Sigmoid(p) {NEXT}"), 2, 2),
    "the same twice": (tokens(f"{LAYER} m = Mul(p, p) {NEXT}"), 2, 4),
    "a multiple of the same": (
        tokens(f"{LAYER} k = Mul(p, half) m = Add(k, p) {NEXT}", known="<float half = {0.5}>"),
        2,
        4,
    ),
    "a curve of the same": (tokens(f"{LAYER} k = Sigmoid(p) m = Mul(k, p) {NEXT}"), 2, 2),
    "a product that is an output": (tokens(f"{LAYER} m = Tanh(p) {NEXT}", "float[R,T,4] q", "float[R,T,4] y"), 2, 4),
    "a layer that is an output": (tokens(f"{LAYER} m = Tanh(p) {NEXT}", "float[R,T,4] p", "float[R,T,4] y"), 2, 4),
    "what is between that is one": (tokens(f"{LAYER} m = Tanh(p) {NEXT}", "float[R,T,4] m", "float[R,T,4] y"), 2, 4),
    "a wide layer behind one": (tokens(f"{LAYER} m = Sigmoid(p) {LAST}", "float[R,T,2] y"), 2, 2),
    "one of as many outputs": (tokens(f"{LAYER} m = Sigmoid(p) {LAST.replace('w6', 'w5')}"), 1, 2),
    "one and a narrow one": (
        tokens(f"{LAYER} m = Sigmoid(p) {NEXT} {LAST.replace('y =', 'z =')}", "float[R,T,4] y", "float[R,T,2] z"),
        3,
        3,
    ),
    "one with a bias behind halves": (tokens(f"{LAYER} {TAKEN} {AGAIN}", "float[R,T,1] y"), 3, 2),
    "what the next takes as it is": (
        tokens(f"{LAYER} {NEXT.replace('(m', '(p')}", "float[R,T,4] p", "float[R,T,4] y"),
        2,
        4,
    ),
    "a picture of the model's own": (picture(f"{PICTURE} y = Exp(v)", "float[R,4,T,1] y"), 1, 1),
    "one of other axes": (picture(f"{PICTURE} y = Exp(v)", "float[R,4,1,T] y", axis=1), 1, 3),
    "one that is an output": (picture(PICTURE, "float[R,4,T,1] v"), 1, 3),
    "one that is before its turn": (picture(f"{PICTURE} y = Exp(v)", "float[R,T,1,4] u", "float[R,4,T,1] y"), 1, 3),
    "one turned by default": (picture("u = Unsqueeze(p, a) y = Transpose(u)", "float[4,1,T,R] y"), 1, 2),
    "halves": (tokens(f"{LAYER} {TAKEN} {GATED}"), 3, 2),
    "halves that are outputs": (tokens(f"{LAYER} {TAKEN}", "float[R,T,2] h0", "float[R,T,2] h1"), 2, 3),
    "two of three thirds": (tokens(f"{WIDE} {THIRDS} {GATED}"), 2, 4),
    "halves joined again": (tokens(f"{LAYER} {TAKEN} y = Concat<axis=2>(h1, h0)"), 2, 3),
    "parts that are no halves": (
        tokens(f"{LAYER} {UNEVEN} y = Concat<axis=2>(h1, h0)", known="<int64[2] n = {3, 1}>"),
        1,
        2,
    ),
    "halves of the tokens": (
        tokens(f"{LAYER} h0, h1 = Split<axis=1>(p, n) y = Concat<axis=1>(h1, h0)", known="<int64[2] n = {2, 1}>"),
        1,
        2,
    ),
}
"""By what is in them: the graph, its convolutions, and what turns of pictures are left."""


def graph(text: str) -> onnx.ModelProto:
    """What is named w... or b... of its inputs has numbers."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    numbers = np.random.default_rng(0)
    for given in [one for one in model.graph.input if one.name[0] in "wb"]:
        shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
        model.graph.initializer.append(numpy_helper.from_array(numbers.normal(size=shape).astype("f4"), given.name))
        model.graph.input.remove(given)
    checker.check_model(model)
    return shape_inference.infer_shapes(model)


def convolved(given: onnx.ModelProto) -> onnx.ModelProto:
    """With convolutions of the weights as they are, for each product that there can be one for."""
    model, wide = ir.from_proto(given), dict[ir.Node, ir.Value]()
    convolutions = Convolutions(model.graph)

    def kernel(weight: ir.Value, numbers: np.ndarray | None = None, place: int = 0) -> ir.Value:
        assert weight.const_value is not None
        tensor = ir.tensor((weight.const_value.numpy() if numbers is None else numbers)[:, :, None, None])
        made = ir.Value(name=f"{weight.name}.{place}", type=ir.TensorType(tensor.dtype), const_value=tensor)
        made.shape = ir.Shape(tensor.shape.numpy())
        model.graph.register_initializer(made)
        return made

    for node in [node for node in model.graph if node.op_type in {"Gemm", "MatMul"}]:
        weight = node.inputs[1]
        before = weight.producer() if weight is not None else None
        weight = before.inputs[0] if before is not None else weight
        if weight is None or weight.const_value is None or not convolutions.can(node, weight):
            continue
        if weight.name in LEFT:
            wide[node] = weight
            continue
        parts = np.split(weight.const_value.numpy(), convolutions.parts(node, weight))
        convolutions.write(node, weight, [kernel(weight, part, place) for place, part in enumerate(parts)])
    convolutions.join(wide, kernel)
    made = ir.to_proto(model)
    checker.check_model(made)
    return made


@pytest.mark.parametrize("name", GRAPHS)
def test_numbers_stay_what_they_were(name: str) -> None:
    text, convolutions, turns = GRAPHS[name]
    given = graph(text)
    made = convolved(given)
    operators = [node.op_type for node in made.graph.node]
    turned = sum(any(len(one.ints) == 4 for one in node.attribute) for node in made.graph.node)
    assert (operators.count("Conv"), turned) == (convolutions, turns)
    numbers, feed = np.random.default_rng(1), {}
    for value in given.graph.input:
        shape = [SIZES.get(dim.dim_param, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        feed[value.name] = numbers.normal(size=shape).astype("f4")
    before, after = (ReferenceEvaluator(model).run(None, feed) for model in (given, made))
    for one, other in zip(before, after, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)

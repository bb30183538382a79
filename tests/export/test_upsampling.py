"""Enlarged pictures' convolutions as four of 2 x 2: what OpenVINO computes by them, and what is left as it is."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from backends.silent import openvino as ov
from export.engines import Work, upsampling
from export.engines.openvino import FILE, OpenVino
from families.interface import Tensor
from tests.export.simple import SIMPLE

Numbers = NDArray[np.float32]
NEAREST = 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"'
EXACT = 'mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"'
TWICE = f"u = Resize<{NEAREST}>(x, n, s)"
GIVEN = f"u = Resize<{NEAREST}>(x, n, n, z)"
CONVOLVED = "y = Conv<pads=[1, 1, 1, 1]>(u, w, b)"
WITHOUT = f"i = Constant<value_ints=[0, 0, 0, 0, 0, 0]>() k = CastLike(i, u) {CONVOLVED.replace(' b', ' k')}"
"""As torch writes a convolution without a bias."""
NARROW = "q = QuantizeLinear(u, e, o) d = DequantizeLinear(q, e, o) y = Conv<pads=[1, 1, 1, 1]>(d, v, b)"
NARROWED = f"v = DequantizeLinear<axis=0>(wn, ws) {{}} {NARROW}"
SCALES = "float[4] s = {1, 1, 2, 2}"
WEIGHTS = "float[6,4,3,3] w, float[6] b, int8[6,4,3,3] wn, float[6] ws"


def graph(nodes: str, scales: str = SCALES) -> onnx.ModelProto:
    """What is named w... or b... of its inputs has numbers; `z`, where it is taken, is an input."""
    asked = ", int64[4] z" if "z)" in nodes else ""
    known = f"<float n = {{}}, {scales}, float e = {{0.03}}, uint8 o = {{120}}>".replace(
        "float n = {}", "float[0] n = {}"
    )
    text = f"(float[R,4,H,W] x{asked}, {WEIGHTS}) => (float[R,6,P,Q] y) {known} {{ {nodes} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    numbers = np.random.default_rng(0)
    made: dict[str, NDArray[np.generic]] = {
        "w": numbers.normal(size=(6, 4, 3, 3)).astype("f4"),
        "b": numbers.normal(size=6).astype("f4"),
        "wn": numbers.integers(-63, 64, (6, 4, 3, 3)).astype("i1"),
        "ws": (numbers.random(6) / 50 + 0.01).astype("f4"),
    }
    for given in [one for one in model.graph.input if one.name in made]:
        model.graph.initializer.append(numpy_helper.from_array(made[given.name], given.name))
        model.graph.input.remove(given)
    checker.check_model(model)
    return model


def split(model: onnx.ModelProto) -> tuple[int, ov.Model]:
    made = ov.Core().read_model(model.SerializeToString())
    return upsampling.split(made, exact=True), made


def computed(model: ov.Model, feed: dict[str, NDArray[np.generic]]) -> Numbers:
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(ov.Core().compile_model(model, "CPU", hints)(feed)[0])


def picture(*sides: int) -> Numbers:
    return np.random.default_rng(1).normal(size=(2, 4, *sides)).astype("f4")


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize(
    "resized", [TWICE, f"u = Resize<{EXACT}>(x, n, s)", f"{TWICE.replace('u', 't', 1)} u = CastLike(t, x)"]
)
@pytest.mark.parametrize("convolved", [CONVOLVED, "y = Conv<pads=[1, 1, 1, 1]>(u, w)", WITHOUT])
def test_a_picture_twice_as_large_is_convolved_by_its_quarters(
    sides: tuple[int, int], resized: str, convolved: str
) -> None:
    given = graph(f"{resized} {convolved}")
    count, made = split(given)
    kernels = [
        tuple(node.input_value(1).get_shape()) for node in made.get_ops() if node.get_type_name() == "Convolution"
    ]
    assert (count, kernels) == (1, [(6, 4, 2, 2)] * 4)
    expected = ReferenceEvaluator(given).run(None, {"x": picture(*sides)})[0]
    assert np.allclose(computed(made, {"x": picture(*sides)}), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (7, 5), (4, 3), (9, 7), (16, 12)])
def test_where_the_size_is_said_it_is_kept_both_ways(size: tuple[int, int]) -> None:
    """A UNet's own sizes: those of a level above, which halve to odd ones too."""
    given = graph(f"{GIVEN} {CONVOLVED}")
    count, made = split(given)
    request = ov.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    assert count == 1
    for sides in ([2, 4, 8, 6], [2, 4, *size], [1, 4, *size]):
        feed: dict[str, NDArray[np.generic]] = {"x": picture(4, 3)[: sides[0]], "z": np.array(sides)}
        expected = ReferenceEvaluator(given).run(None, feed)[0]
        assert np.allclose(request.infer(feed)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resized", [TWICE, GIVEN])
def test_narrow_weights_stay_narrow(resized: str) -> None:
    """In as many steps as they had; what that changes is as little as rounding does."""
    given = graph(NARROWED.format(resized))
    count, made = split(given)
    feed: dict[str, NDArray[np.generic]] = {"x": picture(8, 8)}
    if "z)" in resized:
        feed["z"] = np.array([2, 4, 16, 16])
    weights = [
        node.data
        for node in made.get_ops()
        if node.get_type_name() == "Constant" and list(node.get_shape())[2:] == [2, 2]
    ]
    expected = ReferenceEvaluator(given).run(None, feed)[0]
    found = computed(made, feed)
    assert count == 1
    assert all(one.dtype == np.int8 and np.abs(one).max() == 63 for one in weights)
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-2


LEFT = {
    "three times as large": graph(f"{TWICE} {CONVOLVED}", "float[4] s = {1, 1, 3, 3}"),
    "in one direction alone": graph(f"{TWICE} {CONVOLVED}", "float[4] s = {1, 1, 1, 2}"),
    "between pixels": graph('u = Resize<mode="linear">(x, n, s) ' + CONVOLVED),
    "from other pixels": graph(f"u = Resize<{NEAREST.replace('floor', 'ceil')}>(x, n, s) {CONVOLVED}"),
    "without a border": graph(f"{TWICE} y = Conv(u, w, b)"),
    "every second": graph(f"{TWICE} y = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(u, w, b)"),
    "a picture that something else takes": graph(
        f"{TWICE} v = Conv<pads=[1, 1, 1, 1]>(u, w, b) m = ReduceMax(u) y = Add(v, m)"
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_others_are_left(name: str) -> None:
    count, made = split(LEFT[name])
    assert count == 0
    expected = ReferenceEvaluator(LEFT[name]).run(None, {"x": picture(4, 3)})[0]
    assert np.allclose(computed(made, {"x": picture(4, 3)}), expected, rtol=1e-5, atol=1e-5)


SHAPED = "t = Constant<value_ints={}>() r = Reshape(b, t) c = Conv<pads=[1, 1, 1, 1]>(u, w) y = Add(r, c)"
BIASES = {
    "by columns": "c = Conv<pads=[1, 1, 1, 1]>(u, w) y = Add(c, b)",
    "by rows": SHAPED.format([6, 1]),
    "by channels": SHAPED.format([6, 1, 1]),
}


@pytest.mark.parametrize("name", BIASES)
def test_what_is_added_to_other_axes_stays_there(name: str) -> None:
    """As many numbers as there are channels, each added to a column or row."""
    given = graph(f"{TWICE} {BIASES[name]}")
    count, made = split(given)
    expected = ReferenceEvaluator(given).run(None, {"x": picture(3, 3)})[0]
    assert count == 1
    assert np.allclose(computed(made, {"x": picture(3, 3)}), expected, rtol=1e-5, atol=1e-5)


def test_the_least_number_of_a_narrow_weight_has_no_opposite() -> None:
    """-128, of which 127 is the most that a sum may become."""
    given = graph(NARROWED.format(TWICE))
    weight = next(one for one in given.graph.initializer if one.name == "wn")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[0], numbers[1] = -128, 127
    weight.CopyFrom(numpy_helper.from_array(numbers, "wn"))
    expected = ReferenceEvaluator(given).run(None, {"x": picture(4, 3)})[0]
    found = computed(split(given)[1], {"x": picture(4, 3)})
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-2


def doubled(kind: str) -> ov.Model:
    """A picture twice as large, convolved in ways that no ONNX graph of an export has."""
    op, of = ov.opset15, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x, weight = op.parameter([-1, 4, -1, -1], np.float32, name="x"), np.random.default_rng(0).normal(size=(6, 4, 3, 3))
    x.output(0).tensor.set_names({"x"})
    narrow = op.convert(x, "f16") if kind == "all of it narrow" else x
    factors, size = op.constant(np.array([1, 1, 2, 2], "f4")), op.constant(np.array([2, 4, 8, 6], "i4"))
    larger = op.interpolate(narrow, factors, "nearest", "scales", **of)
    if kind == "sizes of 32 bits":
        larger = op.interpolate(x, size, "nearest", "sizes", **of)
    elif kind == "an older operator":
        sides = {"axes": [2, 3], "mode": "nearest", "align_corners": False, "pads_begin": [0], "pads_end": [0]}
        larger = ov.opset1.interpolate(x, op.constant([8, 6]), sides)
    elif kind in {"i32", "f16", "bf16"}:
        number = op.convert(op.constant(np.float32(2)), kind)
        larger = op.convert(op.multiply(op.convert(op.multiply(larger, np.float32(9)), kind), number), "f32")
    taken = op.constant(weight.astype("f2" if kind == "all of it narrow" else "f4"))
    made = op.convolution(larger, taken, [1, 1], [1, 1], [1, 1], [1, 1])
    return ov.Model([op.convert(made, "f32")], [x])


KINDS = {"all of it narrow": 0, "sizes of 32 bits": 0, "an older operator": 0, "i32": 1, "f16": 1, "bf16": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_types_stay_what_they_are(kind: str) -> None:
    made = doubled(kind)
    assert upsampling.split(made, exact=True) == KINDS[kind]
    found, expected = (computed(model, {"x": picture(4, 3)}) for model in (made, doubled(kind)))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_sums_too_large_for_narrow_floats_are_wide() -> None:
    given = graph(f"wide = Cast<to=1>(w) {TWICE} {CONVOLVED.replace(' w,', ' wide,')}")
    weight = next(one for one in given.graph.initializer if one.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.full((6, 4, 3, 3), 6e4, "f2"), "w"))
    made = ov.Core().read_model(given.SerializeToString())
    assert upsampling.split(made, exact=False) == 1
    expected = ReferenceEvaluator(given).run(None, {"x": picture(4, 3)})[0]
    assert np.allclose(computed(made, {"x": picture(4, 3)}), expected, rtol=1e-4, atol=1)


def test_a_conversion_that_is_an_output_keeps_its_name(tmp_path: Path) -> None:
    """And what it converts, which is one, too, keeps its own."""
    given = graph(f"{TWICE} v = CastLike(u, x) {CONVOLVED}")
    sizes = ["R", 4, "P", "Q"]
    given.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "uv")
    onnx.save(given, tmp_path / "model.onnx")
    x, y, *larger = (
        Tensor(name, "FP32", ("rows", channels, *sides))
        for name, channels, *sides in (("x", 4, "h", "w"), ("y", 6, "p", "q"), ("u", 4, "p", "q"), ("v", 4, "p", "q"))
    )
    component = replace(SIMPLE, inputs=(x,), outputs=(y, *larger))
    asked, engine = Work(tmp_path / "model.onnx", component, "fp32", tmp_path, tmp_path), OpenVino()
    engine.compile(asked)
    found = engine.open(asked)({"x": picture(4, 3)})
    expected = ReferenceEvaluator(given).run(None, {"x": picture(4, 3)})
    for one, other in zip(("y", "u", "v"), expected, strict=True):
        assert np.allclose(found[one], other, rtol=1e-5, atol=1e-5)


def test_narrow_floats_stay_narrow(tmp_path: Path) -> None:
    """And are marked: unmarked ones would be kept as wide as they are cast to."""
    given = graph(f"wide = Cast<to=1>(w) {GIVEN} {CONVOLVED.replace(' w,', ' wide,')}")
    weight = next(one for one in given.graph.initializer if one.name == "w")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype("f2"), "w"))
    onnx.save(given, tmp_path / "model.onnx")
    x, z, y = (
        Tensor("x", "FP32", ("rows", 4, "h", "w")),
        Tensor("z", "INT64", (4,)),
        Tensor("y", "FP32", ("rows", 6, "p", "q")),
    )
    component = replace(SIMPLE, inputs=(x, z), outputs=(y,))
    OpenVino().compile(Work(tmp_path / "model.onnx", component, "bf16", tmp_path, tmp_path))
    casts = ElementTree.parse(tmp_path / FILE).findall(".//layer[@type='Convert']")
    marked = [one for one in casts if one.find("rt_info/attribute[@name='decompression']") is not None]
    assert len(marked) == 5, "four quarters, and as it was"

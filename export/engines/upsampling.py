"""Convolutions of pictures twice as large, of each pixel four times, by less than half the products: for OpenVINO.

Of 3 x 3 pixels behind such a doubling only 2 x 2 differ: which ones depends on whether row and column are even. So four
convolutions of 2 x 2, whose weights are sums of the others, give the same, and are interleaved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.silent import openvino as ov

DOUBLINGS = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil")}
"""How `nearest` finds a pixel's source where all of them are repeated twice."""
FACTORS = (1, 1, 2, 2)
"""By axes of a picture."""
PLAIN = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "auto_pad": "explicit"}
"""Attributes of such a convolution."""
BETWEEN = ("FakeQuantize", "Convert", "Subtract", "Multiply")
"""What narrows and widens a picture's numbers, each by itself."""
SUMS = (((0,), (1, 2)), ((0, 1), (2,)))
"""Of the three weights of an axis, those that meet the first and the second of two pixels: in even places, and odd."""
PADS = ((1, 0), (0, 1))
"""Pixels missing before and behind, in even places and odd."""

LYING = {"f32", "f16", "bf16", "i8"}
"""Types of weights that are summed: narrower ones would be wider then."""
DEPTH = 4
"""Nodes between a constant that is looked at and what it is worked out of."""

Floats = NDArray[np.float32]
Node: TypeAlias = Any
Output: TypeAlias = Any
Model: TypeAlias = Any
"""OpenVINO's, which are not known to a checker of types."""


def split(model: Model, *, exact: bool) -> int:
    """Rewrites them in place -> how many. Where a size is known only when it runs, both ways are kept.

    `exact`: float weights that lie narrow are summed in float32; else they stay as narrow.
    """
    larger = [node for node in model.get_ordered_ops() if node.get_type_name() == "Interpolate"]
    for node in larger:
        _name_type(node)
    found = [_Doubled.of(node) for node in larger]
    for one in found:
        if one is not None:
            one.rewrite(exact=exact)
    model.validate_nodes_and_infer_types()
    return sum(one is not None for one in found)


@dataclass(frozen=True)
class _Doubled:
    """A doubling (`interpolate`), what narrows what it gives (`between`), the convolution, and its bias (out,) as what
    adds it (`last`), if any does. `always`: whether it doubles whatever the picture."""

    interpolate: Node
    between: Sequence[Node]
    convolution: Node
    last: Node
    bias: Floats | None
    always: bool

    @staticmethod
    def of(node: Node) -> "_Doubled | None":
        said, between = node.get_attributes(), list[Node]()
        nearest = said["mode"] == "nearest" and not any((*said["pads_begin"], *said["pads_end"]))
        if not nearest or (said.get("coordinate_transformation_mode"), said.get("nearest_mode")) not in DOUBLINGS:
            return None
        always, sizes = said["shape_calculation_mode"] == "scales", node.input_value(1)
        suits = _folded(sizes) == FACTORS if always else sizes.get_element_type() == ov.Type.i64
        if not suits or node.get_input_size() != 2:
            return None
        user = _only_user(node)
        while user is not None and user.get_type_name() in BETWEEN and _by_one_number(user):
            between.append(user)
            user = _only_user(user)
        if user is None or user.get_type_name() != "Convolution" or not _plain(user):
            return None
        last, bias = _biased(user)
        return _Doubled(node, between, user, last, bias, always)

    def rewrite(self, *, exact: bool) -> None:
        """Puts the four convolutions, or both ways, in the place of what is found."""
        picture, takers = self.interpolate.input_value(0), self.last.output(0).get_target_inputs()
        quarters = _Quarters(self, exact=exact)
        made = quarters.of(picture) if self.always else self._either(picture, quarters)
        for taker in {*takers, *self.convolution.output(0).get_target_inputs()}:
            if taker.get_node() is not self.last:
                taker.replace_source_output(made)

    def _either(self, picture: Output, quarters: "_Quarters") -> Output:
        """All rows by quarters where the sizes asked for are twice those of the picture, else all as it was; the other
        has no row then, and takes no time. A choice by `If` gives wrong numbers at first (OpenVINO 2026.4)."""
        op, sizes = ov.opset15, self.interpolate.input_value(1)
        twice = op.multiply(op.shape_of(picture), op.constant(np.array(FACTORS)))
        doubled = op.reduce_logical_and(op.equal(twice, sizes), op.constant([0]), keep_dims=True)
        count = op.multiply(_taken(sizes, 0), op.convert(doubled, "i64"))
        first, rest = (_rows(picture, *ends) for ends in ((op.constant([0]), count), (count, _taken(sizes, 0))))
        made = quarters.of(first)
        # Its sides are those asked for where it has rows: without any it may be said to have them, too.
        made = op.reshape(made, op.concat([count, _taken(op.shape_of(made), 1), _taken(sizes, 2, 3)], 0), False)
        asked = op.concat([_taken(op.shape_of(rest), 0, 1), _taken(sizes, 2, 3)], 0)
        output: Output = op.concat([made, self._as_it_was(rest, asked.output(0))], 0).output(0)
        return output

    def _as_it_was(self, picture: Output, sizes: Output) -> Output:
        said, op = self.interpolate.get_attributes(), ov.opset15
        modes = {key: said[key] for key in ("coordinate_transformation_mode", "nearest_mode")}
        larger = op.interpolate(picture, sizes, "nearest", "sizes", **modes)
        return self.convolved(self.narrowed(larger.output(0)), self.convolution.input_value(1), (1, 1), (1, 1))

    def narrowed(self, value: Output) -> Output:
        """What is between, of another picture."""
        op = ov.opset15
        for node in self.between:
            kind, others = node.get_type_name(), [_alike(one) for one in node.input_values()[1:]]
            if kind == "FakeQuantize":
                value = op.fake_quantize(value, *others, node.get_attributes()["levels"]).output(0)
            elif kind == "Convert":
                value = op.convert(value, node.get_attributes()["destination_type"]).output(0)
            else:
                value = (op.subtract if kind == "Subtract" else op.multiply)(value, *others).output(0)
        return value

    def convolved(self, picture: Output, weight: Output, begin: Sequence[int], end: Sequence[int]) -> Output:
        """The convolution by a weight, with the bias."""
        op = ov.opset15
        value = op.convolution(picture, weight, [1, 1], list(begin), list(end), [1, 1])
        return (value if self.bias is None else op.add(value, op.constant(self.bias.reshape(1, -1, 1, 1)))).output(0)


class _Quarters:
    """The four convolutions. Weights are worked out once."""

    def __init__(self, doubled: _Doubled, *, exact: bool) -> None:
        given = doubled.convolution.input_value(1)
        weight, (lying, most) = _numbers(given).astype(np.float32), _lying(given)
        self._doubled, self._most = doubled, min(most, np.iinfo(np.int8).max)
        self._kind = np.float16 if lying in {"f16", "bf16"} and not exact else np.float32
        self._weights = {place: _summed(weight, place) for place in product((0, 1), repeat=2)}

    def of(self, picture: Output) -> Output:
        """(rows, in, h, w) -> (rows, out, 2 h, 2 w)."""
        op, narrow, parts = ov.opset15, self._doubled.narrowed(picture), list[Output]()
        for place, weight in self._weights.items():
            begin, end = zip(*(PADS[axis] for axis in place), strict=True)
            parts.append(self._doubled.convolved(narrow, self._lies(weight), begin, end))
        made: Output = op.depth_to_space(op.concat(parts, 1), "blocks_first", 2).output(0)
        return made

    def _lies(self, weight: Floats) -> Output:
        """A weight, in as many bits as the one that it is summed of."""
        op = ov.opset15
        if not self._most:
            with np.errstate(over="ignore"):
                narrow = weight.astype(self._kind)
            return _wide(op.constant(narrow if np.isfinite(narrow).all() else weight))
        scale = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), 1e-12) / self._most
        numbers = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
        return op.multiply(numbers, op.constant(scale.astype(np.float32))).output(0)


def _taken(numbers: Output, *places: int) -> Node:
    """Those of a list at these places."""
    return ov.opset15.gather(numbers, ov.opset15.constant(list(places)), ov.opset15.constant(0))


def _rows(picture: Output, start: Output, end: Output) -> Output:
    """Those from one to before another."""
    op = ov.opset15
    return op.slice(picture, start, end, op.constant([1]), op.constant([0])).output(0)


def _wide(constant: Node) -> Output:
    narrow = constant.get_element_type() != ov.Type.f32
    return (ov.opset15.convert(constant, "f32") if narrow else constant).output(0)


def _summed(weight: Floats, place: Sequence[int]) -> Floats:
    """(out, in, 3, 3) -> (out, in, 2, 2): what meets each of 2 x 2 pixels where row and column are even (0) or odd."""
    rows, columns = (SUMS[axis] for axis in place)
    summed = np.stack([weight[:, :, list(taken)].sum(2) for taken in rows], 2)
    return np.stack([summed[..., list(taken)].sum(3) for taken in columns], 3)


def _lying(weight: Output) -> tuple[str, int]:
    """The type of a weight as it lies, and its largest number where that is of int8; else 0."""
    node = weight.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    name = node.get_element_type().get_type_name()
    return name, int(np.abs(node.data.astype(np.int16)).max()) if name == "i8" else 0


def _name_type(node: Node) -> None:
    """Takes a node's output itself where it is converted to the type that it has, and names the type of what is
    converted like it, which torch writes for a convolution without a bias: zeros of its picture's type.

    What the model gives stays converted: two outputs that were one value would have one name.
    """
    kind = node.get_element_type()
    for user, place in _converting(node):
        if place == 0 and user.get_element_type() == kind:
            for taker in user.output(0).get_target_inputs():
                if taker.get_node().get_type_name() != "Result":
                    taker.replace_source_output(node.output(0))
    for user, place in _converting(node):
        if place == 1:
            user.output(0).replace(ov.opset15.convert(user.input_value(0), kind.get_type_name()).output(0))


def _converting(node: Node) -> list[tuple[Node, int]]:
    """What converts a node's output (0), or something else like it (1)."""
    takers = [(taker.get_node(), taker.get_index()) for taker in node.output(0).get_target_inputs()]
    return [one for one in takers if one[0].get_type_name() == "ConvertLike"]


def _only_user(node: Node) -> Node | None:
    """What alone takes a node's output, as its first input."""
    takers = list(node.output(0).get_target_inputs())
    return takers[0].get_node() if len(takers) == 1 and takers[0].get_index() == 0 else None


def _biased(convolution: Node) -> tuple[Node, Floats | None]:
    """What adds a number to each output of a convolution, and those; itself where nothing does, or not alone."""
    (outputs, *_), takers = convolution.input_value(1).get_shape(), convolution.output(0).get_target_inputs()
    adding = [one for one in takers if one.get_node().get_type_name() == "Add"]
    others = [one for one in takers if one.get_node().get_type_name() not in {"Add", "ShapeOf"}]
    if len(adding) == 1 and not others:
        value = adding[0].get_node().input_value(1 - adding[0].get_index())
        # As many numbers of another shape are added to rows or columns.
        shaped = value.get_partial_shape() in [ov.PartialShape([*rows, outputs, 1, 1]) for rows in ((), (1,))]
        if value.get_node().get_type_name() == "Reshape":  # to (1, out, 1, 1), by a number of axes that is not folded
            value = value.get_node().input_value(0)
        if shaped and _constant(value) and _numbers(value).size == outputs:
            return adding[0].get_node(), _numbers(value).astype(np.float32).flatten()
    return convolution, None


def _by_one_number(node: Node) -> bool:
    """Whether all but the first of a node's inputs are constants of one number."""
    return all(_constant(one) and _numbers(one).size == 1 for one in node.input_values()[1:])


def _constant(value: Output, depth: int = DEPTH) -> bool:
    """Whether a value is worked out of constants alone, in few steps."""
    node = value.get_node()
    if node.get_type_name() == "Constant":
        return True
    inputs = node.input_values()
    return depth > 0 and bool(inputs) and all(_constant(one, depth - 1) for one in inputs)


def _numbers(value: Output) -> NDArray[Any]:
    """A constant's, however it is worked out."""
    node = value.get_node()
    if node.get_type_name() == "Constant" and node.get_element_type() != ov.Type.bf16:
        return np.array(node.data)
    wide = ov.opset15.convert(value, "f32")
    return np.array(ov.Core().compile_model(ov.Model([wide], []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0])


def _alike(value: Output) -> Node:
    """A constant of the same numbers and type."""
    return ov.opset15.constant(_numbers(value), value.get_element_type())


def _folded(value: Output) -> tuple[Any, ...]:
    return tuple(_numbers(value).tolist()) if _constant(value) else ()


def _plain(convolution: Node) -> bool:
    """Whether it is of 3 x 3 pixels and float32, gives as many as it takes, and has a constant weight of no fewer bits
    than 8."""
    said, weight = convolution.get_attributes(), convolution.input_value(1)
    kernel = tuple(weight.get_shape())[2:] if _constant(weight) and _lying(weight)[0] in LYING else ()
    wide = convolution.get_element_type() == ov.Type.f32
    return wide and kernel == (3, 3) and all(_listed(said[key]) == asked for key, asked in PLAIN.items())


def _listed(said: Any) -> Any:
    return said if isinstance(said, str) else list(said)

"""The tensors of a model as its ``config.pbtxt`` states them, held against the model's own and what is sent to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = npt.NDArray[Any]

MAX_DIMS = "MAX_DIMS"
"""Parameter of ``config.pbtxt``: the largest dims of inputs whose dims are open, as ``x:4,64,64;y:8``.

Triton knows no such bound, and whoever may call it could ask for more than there is memory for.
"""
TILES = "TILES"
"""The same, read by `backends.tiles`: what the engine holds of a picture, if less than the whole."""
WARM_UP = "WARM_UP"
"""The same, read by `backends.warm_up`: the calls to begin with, small ones first, each the whole shapes of all inputs,
as ``x:1,4,8,8;t:1,1|x:1,4,64,64;t:1,1``."""
ANY = -1
"""A dimension of any size."""

DTYPES: Mapping[str, npt.DTypeLike] = {
    "TYPE_FP32": np.float32,
    "TYPE_FP16": np.float16,
    "TYPE_INT64": np.int64,
    "TYPE_INT32": np.int32,
}


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of one tensor; the shape includes the batch axis, if there is one."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """As in ``sample float32 [-1, 4, -1, -1]``."""
        return f"{self.name} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """The tensors of a model, and whether requests may be merged along their first axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    most: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The largest shape of an input, without the batch axis, by its name; an input that is not there has no bounds."""

    def require_whole(self, arrays: Mapping[str, Array]) -> None:
        """Raises ValueError, naming the input, where one is missing or too large, or they differ in their rows."""
        missing = [spec.name for spec in self.inputs if spec.name not in arrays]
        if missing:
            raise ValueError(f"input {missing[0]} is missing")
        if self.batched and len({arrays[spec.name].shape[0] for spec in self.inputs}) > 1:
            raise ValueError("the inputs differ in their number of rows")
        self.require_within(arrays)

    def require_within(self, arrays: Mapping[str, Array]) -> None:
        """Raises ValueError, naming input and bound, where an array is larger than what the engine was made for."""
        for name, most in self.most.items():
            own = arrays[name].shape[len(arrays[name].shape) - len(most) :]
            if any(size > bound for size, bound in zip(own, most, strict=True)):
                raise ValueError(f"input {name} is {list(own)}, and may be at most {list(most)}")


def read_signature(config: Mapping[str, Any]) -> Signature:
    """The signature that a model's parsed ``config.pbtxt`` states.

    Raises:
        ValueError: a data type that these backends do not carry, or a ``MAX_DIMS`` that is not of these inputs.
    """
    rows = int(config["max_batch_size"])
    # A model made for batches of one is served as such.
    batch = () if rows == 0 else (1,) if rows == 1 else (ANY,)
    inputs, outputs = (tuple(_read_spec(entry, batch) for entry in config[side]) for side in ("input", "output"))
    axes = {entry["name"]: len(entry["dims"]) for entry in config["input"]}
    most = read_shapes(MAX_DIMS, parameters(config).get(MAX_DIMS, ""), axes)
    return Signature(inputs, outputs, rows > 1, most)


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """What the parameters of a parsed ``config.pbtxt`` say, by name."""
    return {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}


def own_parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Those that are not read here, and are a backend's own."""
    return {name: value for name, value in parameters(config).items() if name not in {MAX_DIMS, TILES, WARM_UP}}


def read_shapes(parameter: str, said: str, axes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes by input, of text as ``x:4,64,64;y:8``; ``axes``: how many each input has.

    Raises:
        ValueError: names the parameter, where the text has no such form or another input.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for part in filter(None, said.split(";")):
        name, _, sizes = part.partition(":")
        if not all(size.isdecimal() for size in sizes.split(",")) or axes.get(name) != len(sizes.split(",")):
            raise ValueError(
                f"the parameter {parameter} has {part!r}, and must have an input and its dims, as x:4,64,64"
            )
        shapes[name] = tuple(map(int, sizes.split(",")))
    return shapes


def _read_spec(entry: Mapping[str, Any], batch: tuple[int, ...]) -> TensorSpec:
    if entry["data_type"] not in DTYPES:
        raise ValueError(f"{entry['name']} is {entry['data_type']}; supported are {', '.join(DTYPES)}")
    dims = entry.get("reshape", entry).get("shape", entry["dims"])
    return TensorSpec(entry["name"], np.dtype(DTYPES[entry["data_type"]]), (*batch, *(int(dim) for dim in dims)))


def check_signature(stated: Signature, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Hold the config's signature against the model's own tensors.

    The model must accept whatever the config lets through: each of its inputs is stated, and where the config
    leaves a dimension open, so does the model. Of its outputs, the config may state some.

    Raises:
        ValueError: names every difference.
    """
    faults = _missing("input", stated.inputs, inputs) + _missing("output", stated.outputs, outputs)
    faults += [
        f"the model's input {spec} is not in config.pbtxt" for spec in inputs if spec.name not in _names(stated.inputs)
    ]
    for side, pairs, fits in (
        ("input", _pairs(stated.inputs, inputs), _accepts),
        ("output", _pairs(stated.outputs, outputs), _yields),
    ):
        faults += [
            f"{side} {ours} in config.pbtxt is {theirs} in the model"
            for ours, theirs in pairs
            if not fits(ours, theirs)
        ]
    if faults:
        raise ValueError("; ".join(faults))


def _names(specs: Sequence[TensorSpec]) -> set[str]:
    return {spec.name for spec in specs}


def _missing(side: str, stated: Sequence[TensorSpec], actual: Sequence[TensorSpec]) -> list[str]:
    names = _names(actual)
    return [f"{side} {spec} of config.pbtxt is not in the model" for spec in stated if spec.name not in names]


def _pairs(stated: Sequence[TensorSpec], actual: Sequence[TensorSpec]) -> list[tuple[TensorSpec, TensorSpec]]:
    by_name = {spec.name: spec for spec in actual}
    return [(spec, by_name[spec.name]) for spec in stated if spec.name in by_name]


def _accepts(stated: TensorSpec, actual: TensorSpec) -> bool:
    """Whether a model's input takes every size that the config lets through."""
    return _same_kind(stated, actual) and all(
        theirs in {ANY, ours} for ours, theirs in zip(stated.shape, actual.shape, strict=True)
    )


def _yields(stated: TensorSpec, actual: TensorSpec) -> bool:
    """Whether a model's output can have the size that the config promises."""
    return _same_kind(stated, actual) and all(
        ANY in {ours, theirs} or ours == theirs for ours, theirs in zip(stated.shape, actual.shape, strict=True)
    )


def _same_kind(one: TensorSpec, other: TensorSpec) -> bool:
    return one.dtype == other.dtype and len(one.shape) == len(other.shape)

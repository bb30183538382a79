"""torch's operators in ONNX where `torch.onnx.export` knows no form: with these it need not take a graph apart.

Else it would have the whole graph traced twice more for them, and more slowly, which took most of the time of a trace.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype, to_torch_dtype
from onnxscript import opset18 as op
from torch.export import ExportedProgram, default_decompositions
from torch.fx import Node

Apart = dict[Any, Callable[..., Any]]
"""What an operator is made of, by the operator."""

aten = torch.ops.aten
KNOWN = frozenset(
    {
        aten.chunk.default,
        aten.contiguous.default,
        aten.expand_as.default,
        aten.reshape.default,
        aten.upsample_nearest2d.vec,
        aten.view_as.default,
    }
)
"""Those that torch defines by others, and would take apart at any rate, though they have a form of torch's."""


def _converted(value: Any, kind: int) -> Any:
    return op.Identity(value) if value.dtype == kind else op.Cast(value, to=kind)


def _to(self: Any, dtype: int, *_: Any, **__: Any) -> Any:
    return _converted(self, dtype)


def _to_device(self: Any, _device: Any, dtype: int, *_: Any, **__: Any) -> Any:
    return _converted(self, dtype)


def _to_layout(self: Any, dtype: int = -1, **_: Any) -> Any:
    return op.Identity(self) if dtype == -1 else _converted(self, dtype)


def _and(self: Any, other: Any) -> Any:
    """Of values in the type that torch promotes both to, which depends on whether they have axes."""
    given = [torch.empty([1] * len(one.shape), dtype=to_torch_dtype(one.dtype)) for one in (self, other)]
    kind = from_torch_dtype(torch.result_type(*given))
    form = op.And if kind == ir.DataType.BOOL else op.BitwiseAnd
    return form(_converted(self, kind), _converted(other, kind))


def _dropout(input: Any, p: float, train: bool) -> Any:  # noqa: A002 - torch's name
    if train and p:
        raise ValueError(f"an exported graph drops nothing, and {p} of this is")
    return op.Identity(input)


def _flatten(self: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    rank = max(1, len(self.shape))
    first, last = start_dim % rank, end_dim % rank
    sizes = self.shape[first : last + 1]
    if all(isinstance(size, int) for size in sizes):
        return _reshaped(self, first, last, [math.prod(sizes)])
    return _reshaped(self, first, last, [op.ReduceProd(op.Shape(self, start=first, end=last + 1), keepdims=1)])


def _unflatten(self: Any, dim: int, sizes: Sequence[Any]) -> Any:
    place = dim % len(self.shape)
    size, given = self.shape[place], [one for one in sizes if not isinstance(one, int) or one != -1]
    if len(given) < len(sizes) and all(isinstance(one, int) for one in given):
        count = math.prod(given)
        rest = size // count if isinstance(size, int) else op.Div(op.Shape(self, start=place, end=place + 1), count)
        sizes = [rest if isinstance(one, int) and one == -1 else one for one in sizes]
    return _reshaped(self, place, place, sizes)


def _reshaped(value: Any, first: int, last: int, sizes: Sequence[Any]) -> Any:
    """With `sizes` in the place of the axes from `first` to `last`: numbers, or what is one at run time.

    A size of -1 would be none of a value that is empty, as that of no reference pictures is.
    """
    after = value.shape[last + 1 :]
    if all(isinstance(size, int) and size for size in (*sizes, *after)):
        return op.Reshape(value, op.Constant(value_ints=[*[0] * first, *sizes, *after]))
    parts = [
        op.Constant(value_ints=[size]) if isinstance(size, int) else op.Reshape(size, op.Constant(value_ints=[1]))
        for size in sizes
    ]
    if first:
        parts = [op.Shape(value, start=0, end=first), *parts]
    if after:
        parts = [*parts, op.Shape(value, start=last + 1)]
    return op.Reshape(value, op.Concat(*parts, axis=0), allowzero=1)


def _turned(self: Any) -> Any:
    axes = range(len(self.shape))
    return op.Transpose(self, perm=[*axes[:-2], axes[-1], axes[-2]])


def _rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:  # noqa: A002
    """In float32 at least, and only then in the type of the input, as torch does."""
    axes = op.Constant(value_ints=list(range(-len(normalized_shape), 0)))
    kind = ir.DataType.DOUBLE if input.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    wide = _converted(input, kind)
    squares = op.ReduceMean(op.Pow(wide, 2.0), axes, keepdims=1)
    least = ir.tensor(torch.finfo(to_torch_dtype(kind)).eps if eps is None else eps, dtype=kind)
    normed = op.Mul(wide, op.Reciprocal(op.Sqrt(op.Add(squares, op.Constant(value=least)))))
    if weight is not None:
        normed = op.Mul(normed, _converted(weight, kind))
    return _converted(normed, input.dtype)


TRANSLATED: dict[Any, Callable[..., Any]] = {
    aten.to.dtype: _to,
    aten.to.device: _to_device,
    aten.to.dtype_layout: _to_layout,
    aten.__and__.Tensor: _and,
    aten.dropout.default: _dropout,
    aten.flatten.using_ints: _flatten,
    aten.mT.default: _turned,
    aten.rms_norm.default: _rms_norm,
    aten.unflatten.int: _unflatten,
}
"""By the operator: its form of real numbers, as `custom_translation_table` takes it."""


def as_traced(program: ExportedProgram) -> ExportedProgram:
    """The program, which stays as it is when `torch.onnx.export` has it taken apart, where all of it has a form."""
    apart = program.run_decompositions
    program.run_decompositions = partial(decomposed, program, apart)
    return program


def decomposed(program: ExportedProgram, apart: Callable[[Apart], ExportedProgram], table: Apart) -> ExportedProgram:
    """The program without what nothing takes, which may have no form, or `apart` by `table` where ONNX has not a form
    for all of it."""
    program.graph.eliminate_dead_code()
    kept = {*default_decompositions(), *KNOWN, *TRANSLATED}
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    return program if all(_has_form(call, table, kept) for call in calls) else apart(table)


def _has_form(call: Node, table: Apart, kept: set[Any]) -> bool:
    """Whether ONNX has one for a call: it has none of complex numbers, and of what changes a value in place."""
    target, value = call.target, call.meta.get("val")
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)
    composite = target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    real = not (isinstance(value, torch.Tensor) and value.is_complex())
    known = target in kept or not composite
    suits = target is not aten.chunk.default or _in_equal_parts(call)
    return real and known and suits and not target._schema.is_mutable and target not in table


def _in_equal_parts(call: Node) -> bool:
    """Whether parts are as many as asked for, and more than one: torch's form takes one apart by its first axis.

    OpenVINO takes no parts of different sizes without being told these; of an axis of any size nobody knows.
    """
    given: Any = call.args
    value, asked, *axis = given
    size, parts = value.meta["val"].shape[axis[0] if axis else 0], len(call.meta["val"])
    return 1 < parts == asked and (not isinstance(size, int) or size % parts == 0)

"""Where the numbers of an ONNX file lie: large weights in the checkpoint's own files where they can, else beside it.

An ONNX file names files of its own folder, and engines follow no symbolic link out of it: so a checkpoint's file is
hard linked there. A weight that is to be of another type, or whose file is on another disk, is written by itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
import torch
from onnx_ir import tensor_adapters
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule

from export.component.weights import Large, Weights
from families.parts.weight_files import Stored

ALIGNMENT = 64
"""Bytes, of weights in the file that is written."""

Kept = Callable[[torch.dtype], torch.dtype]
"""The type of a float as it lies -> the type that it has in the ONNX file."""


class _Weight(ir.LazyTensor):
    """A large weight, which is read when someone looks at its numbers."""

    __slots__ = ("weight",)

    def __init__(self, weight: Large, name: str, dtype: torch.dtype) -> None:
        kind, shape = tensor_adapters.from_torch_dtype(dtype), ir.Shape(weight.source.shape)
        super().__init__(lambda: tensor_adapters.TorchTensor(weight.read(dtype)), kind, shape, name=name)
        self.weight = weight


def attach(model: ir.Model, weights: Weights) -> None:
    """Puts the weights in the place of the placeholders that `model` was traced with."""
    for name, value in model.graph.initializers.items():
        raw = getattr(value.const_value, "raw", None)
        weight = weights.at(raw.data_ptr()) if isinstance(raw, torch.Tensor) else None
        if isinstance(raw, torch.Tensor) and weight is not None:
            value.const_value = _Weight(weight, name, raw.dtype)


def weight_of(value: ir.Value) -> Large | None:
    """The large weight that `attach` put there."""
    return value.const_value.weight if isinstance(value.const_value, _Weight) else None


def kernel(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A new one of such a weight, (out, in), as that of a convolution: (out, in, 1, 1)."""
    weight = weight_of(value)
    assert weight is not None and value.dtype is not None  # noqa: S101, PT018 - `attach` put it there
    source, shape, name = weight.source, (*weight.source.shape, 1, 1), f"{value.name}.kernel"
    turned = replace(source, shape=shape) if isinstance(source, Stored) else source.reshape(shape)
    lying = _Weight(replace(weight, source=turned), name, tensor_adapters.to_torch_dtype(value.dtype))
    made = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(value.dtype), const_value=lying)
    graph.register_initializer(made)
    return made


def simplify(model: ir.Model) -> None:
    """Folds constants and rewrites sequences as tensors, but folds no large weight: that would read it into memory.

    onnxscript's whole optimizer also tries its patterns at each node, some of them by looking at all nodes, which took
    a text encoder of 27 layers longer than tracing it; engines know what these patterns are for, but for a picture's
    margin before a convolution: left apart, it makes a plan of an encoder of pictures a sixth larger.
    """

    def should_fold(node: ir.Node) -> bool | None:
        large = any(value is not None and isinstance(value.const_value, _Weight) for value in node.inputs)
        return False if large else None

    common.InlinePass()(model)
    fold_constants_ir(model, should_fold=should_fold)
    RewritePass([fuse_pad_into_conv_rule])(model)
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


def save(model: ir.Model, file: Path, kept: Kept) -> None:
    """Writes `file` and what lies beside it, all of it named as `file` is and more."""
    with file.with_name(f"{file.name}.data").open("wb") as data:
        beside = _Beside(file, data)
        for name, value in list(model.graph.initializers.items()):
            if isinstance(value.const_value, _Weight):
                _place(model.graph, name, value, beside.tensor(value.const_value.weight, kept))
            elif isinstance(value.const_value, ir.LazyTensor):
                _place(model.graph, name, value, beside.narrow(value.const_value))
    ir.save(model, file)


def _place(graph: ir.Graph, name: str, value: ir.Value, outside: ir.ExternalTensor) -> None:
    """Makes a value what lies outside, or where that is of another type a Cast of it."""
    outside.name = name
    if outside.dtype == value.dtype:
        value.const_value = outside
        return
    outside.name = f"{name}.stored"
    lying = ir.Value(name=outside.name, shape=outside.shape, type=ir.TensorType(outside.dtype), const_value=outside)
    del graph.initializers[name]
    value.const_value = None
    graph.register_initializer(lying)
    graph.insert_before(graph[0], ir.node("Cast", [lying], {"to": value.dtype}, outputs=[value]))


@dataclass
class _Beside:
    """The files beside an ONNX file. `data`: of weights that are written. `links`: by the file that they link to."""

    file: Path
    data: BinaryIO
    links: dict[Path, str | None] = field(default_factory=dict)

    def tensor(self, weight: Large, kept: Kept) -> ir.ExternalTensor:
        """Where a weight lies, as it is kept."""
        dtype = self._kept(weight, kept)
        source = weight.source
        link = self._link(source.file) if isinstance(source, Stored) and dtype == weight.dtype else None
        if isinstance(source, Stored) and link:
            kind = tensor_adapters.from_torch_dtype(dtype)
            return self._external(link, source.offset, source.bytes, kind, source.shape)
        return self._write(weight, dtype)

    def narrow(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        """Where numbers lie that are no checkpoint's own; they are in memory while they are written."""
        offset = self._aligned()
        self.data.write(tensor.tobytes())
        size = self.data.tell() - offset
        return self._external(Path(self.data.name).name, offset, size, tensor.dtype, tuple(tensor.shape.numpy()))

    def _write(self, weight: Large, dtype: torch.dtype) -> ir.ExternalTensor:
        offset = self._aligned()
        tensor = weight.read(dtype).contiguous()
        self.data.write(tensor.flatten().view(torch.uint8).numpy().data)  # `tofile` does not say that a disk is full
        kind, name = tensor_adapters.from_torch_dtype(dtype), Path(self.data.name).name
        return self._external(name, offset, tensor.nbytes, kind, tuple(tensor.shape))

    def _aligned(self) -> int:
        """The place of the next weight in the file that is written."""
        offset = -(-self.data.tell() // ALIGNMENT) * ALIGNMENT
        self.data.seek(offset)
        return offset

    def _external(
        self, name: str, offset: int, size: int, kind: ir.DataType, shape: tuple[int, ...]
    ) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            name, offset, size, kind, shape=ir.Shape(shape), name="", base_dir=str(self.file.parent)
        )

    def _link(self, source: Path) -> str | None:
        """The name of a hard link to `source`, or None where there can be none."""
        if source not in self.links:
            name = f"{self.file.name}.{len(self.links)}"
            try:
                os.link(source.resolve(), self.file.with_name(name))
                self.links[source] = name
            except OSError:  # on another disk, or another user's
                self.links[source] = None
        return self.links[source]

    @staticmethod
    def _kept(weight: Large, kept: Kept) -> torch.dtype:
        """As floats of its type are kept, unless the weight has numbers that are too large for it."""
        if not weight.dtype.is_floating_point:
            return weight.dtype
        dtype = kept(weight.dtype)
        if dtype == torch.float16 != weight.dtype and not bool(weight.read(dtype).isfinite().all()):
            return torch.float32
        return dtype

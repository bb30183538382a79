"""A torch module as an ONNX file with dynamic axes where the table has ranges. Knows the tensor table and no family."""

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from families.interface import Component

OPSET = 18
INLINE_BYTES = 1_500_000_000
"""Weights beyond this go beside the file: protobuf ends at 2 GB."""


def write(
    module: torch.nn.Module, component: Component, inputs: Sequence[torch.Tensor], file: Path, *, simplify: bool = False
) -> None:
    """Traces `module` at `inputs` and writes `file`; `simplify` folds constants and rewrites sequences as tensors.

    The inputs should be of a shape whose sides halve to odd numbers: then a UNet's up path is traced as it is for any
    size (it takes the size of each skip connection), and the graph holds for every size of the ranges.
    """
    dynamic = tuple(
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(tensor.axes) if is_dynamic(axis, component)}
        for tensor in component.inputs
    )
    with _quiet(), _uncollected(), torch.no_grad():
        program = torch.export.export(_Positional(module), tuple(inputs), dynamic_shapes=(dynamic,), strict=False)
        graph = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in component.inputs],
            output_names=[tensor.name for tensor in component.outputs],
            optimize=simplify,
            verbose=False,
        )
    if graph is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    graph.save(str(file), external_data=size > INLINE_BYTES)


class _Positional(torch.nn.Module):
    """The module with its inputs in the table's order, however its own `forward` names them."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


def is_dynamic(axis: int | str, component: Component) -> bool:
    """Whether an axis of the table has more than one size."""
    return isinstance(axis, str) and component.ranges[axis].min < component.ranges[axis].max


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: tracing makes millions of objects that stay, and looking through them again and again
    took a quarter of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
            gc.collect()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides torch's notes to its own developers (missing torchvision, deprecated pytree calls)."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

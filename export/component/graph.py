"""A torch module as an ONNX file with dynamic axes where the table has ranges. Knows the tensor table and no family."""

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from onnx_ir.passes.common import IdentityEliminationPass

from export.component import initializers, layers, narrow, operators
from export.component.layers import Narrowed
from export.component.weights import Weights
from export.engines import Engine, Work
from families.interface import Component

OPSET = 18
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""By the names of precisions."""


Choose = Callable[[Weights], Narrowed]
"""The layers to narrow. The module computes in float32 meanwhile."""


def write(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    work: Work,
    engine: Engine,
    choose: Choose | None = None,
) -> Weights:
    """Traces `module` at `inputs` and writes `work.onnx` for `engine`, with the large weights beside it.

    Returns the weights; the module is left with placeholders of the large ones. `choose` is asked
    where the precision narrows activations.

    The inputs should be of a shape whose sides halve to odd numbers: then a UNet's up path is traced as it is for any
    size (it takes the size of each skip connection), and the graph holds for every size of the ranges.
    """
    component, scheme = work.component, engine.scheme(work.precision)
    precision = engine.computes(work.precision)
    dynamic = tuple(
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(tensor.axes) if is_dynamic(axis, component)}
        for tensor in component.inputs
    )
    weights = Weights(module, traced := DTYPES[precision] if engine.traces_narrow else torch.float32)
    if scheme:
        weights.widen(torch.float32)
        narrowed = choose(weights) if choose else layers.of(weights, scheme, ())
        weights.widen(traced)
    with _quiet(), _uncollected(), torch.no_grad():
        program = torch.export.export(_Positional(module), tuple(inputs), dynamic_shapes=(dynamic,), strict=False)
        graph = torch.onnx.export(
            operators.as_traced(program),
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in component.inputs],
            output_names=[tensor.name for tensor in component.outputs],
            custom_translation_table=operators.TRANSLATED,
            optimize=False,
            verbose=False,
        )
        if graph is None:
            raise RuntimeError("torch.onnx.export returned nothing")
        IdentityEliminationPass()(graph.model)
        initializers.attach(graph.model, weights)
        if engine.traces_narrow:
            initializers.simplify(graph.model)
        if scheme:
            narrow.insert(graph.model, narrowed)
        initializers.save(graph.model, work.onnx, partial(_kept, engine, precision))
    return weights


def _kept(engine: Engine, precision: str, lying: torch.dtype) -> torch.dtype:
    known = next((name for name, dtype in DTYPES.items() if dtype == lying), None)
    return DTYPES[engine.keeps(precision, known)]


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

"""`config.pbtxt` of an engine model, written from the family's tensor table."""

from collections.abc import Iterator

from export.engines import Serving
from families.tensors import ROWS, Component, Tensor


def write(component: Component, serving: Serving) -> str:
    """The whole file. The rows axis is Triton's batch axis; named axes are of any size."""
    blocks = [
        f'name: "{component.name}"',
        f'backend: "{serving.backend}"',
        f"max_batch_size: {component.ranges[ROWS].max}",
        f"input [\n{_tensors(component.inputs)}\n]",
        f"output [\n{_tensors(component.outputs)}\n]",
        f"instance_group [ {{ kind: {serving.instance_kind} count: 1 }} ]",
        *(f'parameters {{ key: "{k}" value: {{ string_value: "{v}" }} }}' for k, v in serving.parameters.items()),
    ]
    if component.batches:
        blocks.append("dynamic_batching { }")
    if component.cached:
        blocks.append("response_cache { enable: true }")
    if serving.cuda_graphs:
        specs = ",\n".join(f"    {{ batch_size: {rows} {_shapes(component)} }}" for rows in short_calls(component))
        blocks.append(f"optimization {{ cuda {{\n  graphs: true\n  graph_spec [\n{specs}\n  ]\n}} }}")
    if serving.warm_up:
        blocks += [_warm_up(component, rows) for rows in sorted({*short_calls(component), component.ranges[ROWS].max})]
    return "# Written by export; do not edit.\n" + "\n".join(blocks) + "\n"


def short_calls(component: Component) -> range:
    """The row counts of calls that are short enough for launching to weigh: every one that up to two edits have.

    Triton replays a captured CUDA graph for these very counts alone, at the usual size alone; other calls run without.
    """
    rows = component.ranges[ROWS]
    return range(1, min(2 * rows.opt, rows.max) + 1)


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return ",\n".join(
        f'  {{ name: "{tensor.name}" data_type: TYPE_{tensor.dtype} dims: [ {dims(tensor)} ] }}' for tensor in tensors
    )


def dims(tensor: Tensor) -> str:
    """The axes that the table gives the tensor, named ones of any size."""
    return ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in tensor.axes)


def _usual(component: Component, tensor: Tensor) -> Iterator[int]:
    """The tensor's shape without rows, each dynamic axis at its usual size."""
    return (axis if isinstance(axis, int) else component.ranges[axis].opt for axis in tensor.axes)


def _shapes(component: Component) -> str:
    return " ".join(
        f'input {{ key: "{tensor.name}" value: {{ dim: [ {", ".join(map(str, _usual(component, tensor)))} ] }} }}'
        for tensor in component.inputs
    )


def _warm_up(component: Component, rows: int) -> str:
    inputs = "\n".join(
        f'  inputs {{ key: "{tensor.name}" value: {{ data_type: TYPE_{tensor.dtype} '
        f"dims: [ {', '.join(map(str, _usual(component, tensor)))} ] zero_data: true }} }}"
        for tensor in component.inputs
    )
    return f'model_warmup {{\n  name: "{rows} rows" batch_size: {rows}\n{inputs}\n}}'

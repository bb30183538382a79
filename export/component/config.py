"""`config.pbtxt` of an engine model, written from the family's tensor table."""

import json
from collections.abc import Iterable, Mapping, Sequence

from backends.signature import MAX_DIMS, TILES, WARM_UP
from backends.tiles import Tiling
from export.engines import Serving
from families.interface import ROWS, Component, Tensor

HEADER = "# Written by export; do not edit."


def write(component: Component, serving: Serving) -> str:
    """The whole file. The rows of a batched component are Triton's batch axis; named axes are of any size."""
    batched = component.batched
    blocks = [
        HEADER,
        f'name: "{component.name}"',
        f'backend: "{serving.backend}"',
        f"max_batch_size: {component.ranges[ROWS].max if batched else 0}",
        f"input [\n{ports(component.inputs, batched, optional=component.role == 'denoiser')}\n]",
        f"output [\n{ports(component.outputs, batched)}\n]",
        f"instance_group [ {{ kind: {serving.instance_kind} count: 1 }} ]",
        *parameters(serving.parameters),
        *parameters(_most(component) if serving.ours else {}),
        *parameters({TILES: f"{tiles.most},{tiles.side},{tiles.unit}"} if (tiles := tiling(component)) else {}),
        *parameters({WARM_UP: _first_calls(component)} if serving.warms_up else {}),
    ]
    if component.gathers:
        blocks.append("dynamic_batching { }")
    if component.cached:
        blocks.append("response_cache { enable: true }")
    if serving.cuda_graphs:
        specs = ",\n".join(_graph(component, rows) for rows in (short_calls(component) if batched else (0,)))
        blocks.append(f"optimization {{ cuda {{\n  graphs: true\n  graph_spec [\n{specs}\n  ]\n}} }}")
    if serving.warm_up:
        counts = sorted({*short_calls(component), component.ranges[ROWS].max}) if batched else [1]
        blocks += [_warm_up(component, rows) for rows in counts]
    return "\n".join(blocks) + "\n"


def short_calls(component: Component) -> range:
    """The row counts of calls that are short enough for launching to weigh: every one that up to two edits have.

    Triton replays a captured CUDA graph for these very counts alone, at the usual size alone; other calls run without.
    """
    rows = component.ranges[ROWS]
    return range(1, min(2 * rows.opt, rows.max) + 1)


def ports(tensors: Iterable[Tensor], batched: bool = False, *, optional: bool = False) -> str:
    """The entries of `input` or `output`."""
    more = " optional: true" if optional else ""
    return ",\n".join(
        f'  {{ name: "{t.name}" data_type: TYPE_{t.dtype} dims: [ {_dims(t, batched)} ]{more} }}' for t in tensors
    )


def parameters(values: Mapping[str, str]) -> Sequence[str]:
    """One line each."""
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return [f'parameters {{ key: "{key}" value: {{ string_value: {value} }} }}' for key, value in quoted.items()]


def _most(component: Component) -> Mapping[str, str]:
    """How large each input may be whose axes are open: Triton's own backend of TensorRT reads that of its plan."""
    sizes, batched = {**component.sizes("max"), **component.whole}, component.batched
    open_ones = [tensor for tensor in component.inputs if any(isinstance(axis, str) for axis in _own(tensor, batched))]
    said = [f"{tensor.name}:{','.join(map(str, _shape(component, tensor, sizes)))}" for tensor in open_ones]
    return {MAX_DIMS: ";".join(said)} if said else {}


def _shape(component: Component, tensor: Tensor, sizes: Mapping[str, int]) -> Sequence[int]:
    """The tensor's shape as Triton is told it, where the named axes have these sizes."""
    shape = tensor.shape(sizes)
    return shape[1:] if component.batched else shape


def _own(tensor: Tensor, batched: bool) -> Sequence[int | str]:
    """The axes that Triton is told of: it has that of a batch by itself."""
    return tensor.axes[1:] if batched else tensor.axes


def _dims(tensor: Tensor, batched: bool) -> str:
    return ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in _own(tensor, batched))


def _usual(component: Component, tensor: Tensor) -> str:
    """The same at their usual sizes."""
    return ", ".join(map(str, _shape(component, tensor, component.sizes("opt"))))


def _graph(component: Component, rows: int) -> str:
    shapes = " ".join(
        f'input {{ key: "{tensor.name}" value: {{ dim: [ {_usual(component, tensor)} ] }} }}'
        for tensor in component.inputs
    )
    return f"    {{ batch_size: {rows} {shapes} }}"


def tiling(component: Component) -> Tiling | None:
    """What the engine holds of its input, in that input's own places; None where that is all of it."""
    sides = [component.ranges[axis] for axis in component.whole]
    return Tiling(sides[0].opt ** 2, sides[0].max, sides[0].step) if sides else None


def _first_calls(component: Component) -> str:
    """As `backends.warm_up` reads them: a small picture, on which weights are packed for any; then one row, and as many
    as an edit usually has, of the usual size, which is the largest square."""
    usual, one = component.sizes("opt"), {ROWS: 1} if component.batched else {}
    calls = [{**component.shapes[1], **one}, {**usual, **one}, usual]
    said = [";".join(f"{t.name}:{','.join(map(str, t.shape(sizes)))}" for t in component.inputs) for sizes in calls]
    return "|".join(dict.fromkeys(said))


def _warm_up(component: Component, rows: int) -> str:
    inputs = "\n".join(
        f'  inputs {{ key: "{tensor.name}" value: {{ data_type: TYPE_{tensor.dtype} '
        f"dims: [ {_usual(component, tensor)} ] zero_data: true }} }}"
        for tensor in component.inputs
    )
    return f'model_warmup {{\n  name: "{rows} rows" batch_size: {rows}\n{inputs}\n}}'

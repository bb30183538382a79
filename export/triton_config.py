"""`config.pbtxt` of an engine model, written from the family's tensor table."""

from collections.abc import Mapping

from families.tensors import ROWS, Component, Tensor


def write(component: Component, backend: str, instance_kind: str, parameters: Mapping[str, str]) -> str:
    """The whole file. The rows axis is Triton's batch axis; named axes are of any size."""
    blocks = [
        f'name: "{component.name}"',
        f'backend: "{backend}"',
        f"max_batch_size: {component.ranges[ROWS].max}",
        f"input [\n{_tensors(component.inputs)}\n]",
        f"output [\n{_tensors(component.outputs)}\n]",
        f"instance_group [ {{ kind: {instance_kind} count: 1 }} ]",
        *(f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    if component.batches:
        blocks.append("dynamic_batching { }")
    return "# Written by export; do not edit.\n" + "\n".join(blocks) + "\n"


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return ",\n".join(
        f'  {{ name: "{tensor.name}" data_type: TYPE_{tensor.dtype} dims: [ {_dims(tensor)} ] }}' for tensor in tensors
    )


def _dims(tensor: Tensor) -> str:
    return ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in tensor.axes)

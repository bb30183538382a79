"""`config.pbtxt` of the ensemble `condition`: what an edit's denoising loop starts from.

Written by the export, because an engine with a bank of adapters has one input more. Its parameter `adapters` names the
routes, in the bank's order.
"""

from collections.abc import Iterable, Sequence

from export.triton_config import dims
from families.tensors import Component, Tensor

NAME = "condition"
REQUEST = (
    Tensor("image", "STRING", ("images",)),
    Tensor("prompt", "STRING", (1,)),
    Tensor("num_inference_steps", "INT32", (1,)),
    Tensor("guidance_scale", "FP32", (1,)),
    Tensor("image_guidance_scale", "FP32", (1,)),
    Tensor("model", "STRING", (1,)),
    Tensor("response_format", "STRING", (1,)),
)
"""What `preprocess` reads of a request; whole shapes, as it does not batch."""


def condition(encoders: Sequence[Component], conditioning: Sequence[Tensor], routes: Sequence[str]) -> str:
    """The whole file: `preprocess`, whose outputs are `conditioning`, then `encoders` side by side.

    It gives the encoders' outputs, and those of `preprocess` that are not theirs alone.
    """
    taken = {tensor.name for encoder in encoders for tensor in encoder.inputs}
    kept = [tensor for tensor in conditioning if tensor.name not in taken or tensor.name == "adapter"]
    outputs = [
        *(Tensor(tensor.name, tensor.dtype, ("rows", *tensor.axes)) for e in encoders for tensor in e.outputs),
        *kept,
    ]
    steps = [_step("preprocess", REQUEST, conditioning), *(_step(e.name, e.inputs, e.outputs) for e in encoders)]
    blocks = [
        "# Written by export; do not edit. Wiring only.",
        f'name: "{NAME}"',
        'platform: "ensemble"',
        "max_batch_size: 0",
        f"input [\n{_ports(REQUEST)}\n]",
        f"output [\n{_ports(outputs)}\n]",
        f'parameters {{ key: "adapters" value: {{ string_value: "{",".join(routes)}" }} }}',
        "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}",
    ]
    return "\n".join(blocks) + "\n"


def _ports(tensors: Iterable[Tensor]) -> str:
    return ",\n".join(f'  {{ name: "{t.name}" data_type: TYPE_{t.dtype} dims: [ {dims(t)} ] }}' for t in tensors)


def _step(model: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> str:
    """Every tensor is called in the ensemble what its model calls it."""
    maps = [f'      input_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in inputs]
    maps += [f'      output_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in outputs]
    return "\n".join(["    {", f'      model_name: "{model}"', "      model_version: -1", *maps, "    }"])

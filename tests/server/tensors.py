"""A request to `edit` as a service inside the network makes it, with tritonclient."""

from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
from numpy.typing import NDArray
from PIL import Image

from bench.callers import infer_input
from gateway.tensors import Edit, Watch, inputs
from tests.server.asking import Client, png

EVERY = Edit([b""], "x", 1, 1.0, 1.0, 1, "x", "raw", (1, 1), b"x", "x", 2, low_priority=True, cache="off")
DATATYPES = {tensor.name: tensor.datatype for tensor in inputs(EVERY, Watch(progress=True, partial_images=1))}
"""Of every input of `edit_stream`; the last two are not of `edit`."""


def grpc_inputs(
    picture: Image.Image, steps: int = 4, client: ModuleType = tritonclient.grpc, **changed: Any
) -> list[Any]:
    """Inputs of `edit`, and what is `changed` of DATATYPES; `client` is tritonclient.grpc or tritonclient.http."""
    values: dict[str, Any] = {
        "image": [png(picture)],
        "prompt": [b"make it red"],
        "num_inference_steps": [steps],
        "guidance_scale": [0.0],
        "image_guidance_scale": [1.5],
        "seed": [5],
        "model": [b""],
        "response_format": [b"raw"],
        "size": [0, 0],
        "mask": [b""],
        "negative_prompt": [b""],
    } | changed
    return [infer_input(name, DATATYPES[name], value, client) for name, value in values.items()]


def made(
    client: Client,
    picture: Image.Image,
    prompt: str = "make it red",
    *,
    guidance: tuple[float, float] = (0.0, 0.0),
    **asked: Any,
) -> NDArray[np.uint8]:
    """The raw picture of an edit by Triton alone, and no gateway: asked are `steps`, and inputs of `edit`."""
    scales = {"guidance_scale": [guidance[0]], "image_guidance_scale": [guidance[1]]}
    steps = asked.pop("steps", 4)
    values = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in asked.items()}
    given = grpc_inputs(picture, steps, prompt=[prompt.encode()], **scales, **values)
    with tritonclient.grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        answer = triton.infer("edit", given)
    width, height = answer.as_numpy("size").tolist()
    return np.frombuffer(answer.as_numpy("image")[0], np.uint8).reshape(height, width, 3)

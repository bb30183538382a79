"""A request to `edit` as a service inside the network makes it, with tritonclient."""

from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
from numpy.typing import NDArray
from PIL import Image

from tests.server.asking import Client, png

CONTRACT = {
    "image": ("BYTES", np.object_),
    "prompt": ("BYTES", np.object_),
    "num_inference_steps": ("INT32", np.int32),
    "guidance_scale": ("FP32", np.float32),
    "image_guidance_scale": ("FP32", np.float32),
    "seed": ("UINT64", np.uint64),
    "model": ("BYTES", np.object_),
    "response_format": ("BYTES", np.object_),
    "size": ("INT32", np.int32),
    "mask": ("BYTES", np.object_),
    "negative_prompt": ("BYTES", np.object_),
}
MORE = {
    "n": ("INT32", np.int32),
    "low_priority": ("BOOL", np.bool_),
    "progress": ("BOOL", np.bool_),
    "partial_images": ("INT32", np.int32),
}
"""Sent only where they are asked for; the last two of `edit_stream` alone."""


def grpc_inputs(
    picture: Image.Image, steps: int = 4, client: ModuleType = tritonclient.grpc, **changed: Any
) -> list[Any]:
    """All inputs of CONTRACT, and those of MORE that are given; `client` is tritonclient.grpc or tritonclient.http."""
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
    inputs = []
    for name, (kind, dtype) in (CONTRACT | {name: MORE[name] for name in changed if name in MORE}).items():
        array = np.array(values[name], dtype)
        tensor = client.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


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

"""A request to `edit` as a service inside the network makes it, with tritonclient."""

from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
from PIL import Image

from tests.server.asking import png

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
}


def grpc_inputs(
    picture: Image.Image, steps: int = 4, client: ModuleType = tritonclient.grpc, **changed: Any
) -> list[Any]:
    """All inputs; `client` is tritonclient.grpc or tritonclient.http."""
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
    } | changed
    inputs = []
    for name, (kind, dtype) in CONTRACT.items():
        array = np.array(values[name], dtype)
        tensor = client.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs

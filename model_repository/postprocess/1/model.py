"""`postprocess`: the edited picture's tensor to the bytes that the caller asked for, at the answer's size."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from families import finishing, safety_checker
from families.picture import from_tensor, to_jpeg
from families.safety_checker.picture import Preparation


class TritonPythonModel:
    """Stateless."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: `image` BYTES [1], `size` INT32 [2] = width, height in pixels.

        Where there is a `safety_rule` also `safety_pixels` (1, 3, S, S): the picture as the safety checker sees it.
        """
        return [respond(request) for request in requests]


def respond(request: Any) -> Any:
    """A picture with values that are not finite is an error of the model, never a black picture."""
    pixels = pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy()  # (1, 3, H, W)
    if not np.isfinite(pixels).all():
        return pb_utils.InferenceResponse([], error=pb_utils.TritonError("tritouch:not_finite the picture has NaN"))
    size = pb_utils.get_input_tensor_by_name(request, "answer_size").as_numpy()
    rgb = finishing.finished(from_tensor(pixels), size)  # (H, W, 3)
    raw = bytes(pb_utils.get_input_tensor_by_name(request, "response_format").as_numpy()[0]) == b"raw"
    image = np.array([rgb.tobytes() if raw else to_jpeg(rgb)], np.object_)
    made = {"image": image, "size": np.array([rgb.shape[1], rgb.shape[0]], np.int32)}
    rule = pb_utils.get_input_tensor_by_name(request, safety_checker.RULE)
    if rule is not None:
        made[safety_checker.PIXELS] = Preparation.of(bytes(rule.as_numpy()[0]))(rgb)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in made.items()])

"""`postprocess`: the edited picture's tensor to the bytes that the caller asked for, at the answer's size."""

import os
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from families import finishing, safety_checker
from families.errors import InvalidEditError
from families.interface import Tensors
from families.picture import DecodingLimits, from_tensor, to_jpeg
from families.safety_checker.picture import Preparation


class TritonPythonModel:
    """Holds the bounds of the pictures that masks keep."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises ValueError, naming the variable, when a setting is wrong."""
        self._limits = DecodingLimits.from_environment(os.environ)
        to_jpeg(from_tensor(np.zeros((1, 3, 64, 64), np.float32)))  # what it sets up only then, no edit waits for

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: `image` BYTES [1], `size` INT32 [2] = width, height in pixels.

        Where there is a `safety_rule` also `safety_pixels` (1, 3, S, S): the picture as the safety checker sees it.
        """
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            made = answer(given, self._limits)
        except InvalidEditError as error:
            fault = pb_utils.TritonError(f"tritouch:{error.code} {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error=fault)
        except FloatingPointError as error:
            return pb_utils.InferenceResponse([], error=pb_utils.TritonError(f"tritouch:not_finite {error}"))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in made.items()])


def answer(given: Tensors, limits: DecodingLimits) -> Tensors:
    """The outputs. Values that are not finite are an error of the model, never a black picture: FloatingPointError."""
    pixels = given["pixels"]  # (1, 3, H, W)
    if not np.isfinite(pixels).all():
        raise FloatingPointError("the picture has NaN")
    rgb = finishing.finished(from_tensor(pixels), given, limits)  # (H, W, 3)
    raw = bytes(given["response_format"][0]) == b"raw"
    image = np.array([rgb.tobytes() if raw else to_jpeg(rgb)], np.object_)
    made = {"image": image, "size": np.array([rgb.shape[1], rgb.shape[0]], np.int32)}
    if safety_checker.RULE in given:
        made[safety_checker.PIXELS] = Preparation.of(bytes(given[safety_checker.RULE][0]))(rgb)
    return made

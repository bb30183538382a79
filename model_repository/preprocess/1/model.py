"""`preprocess`: an encoded picture to a tensor at its working size. Knows one picture, a size rule, and no family."""

import os
from typing import Any

import triton_python_backend_utils as pb_utils

from families.errors import InvalidEditError
from families.interface import PIXELS
from families.picture import DecodingLimits, decode, to_tensor, warm
from families.sizes import size_rule


class TritonPythonModel:
    """Holds the bounds of one input picture."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises ValueError, naming the variable, when a setting is wrong."""
        self._limits = DecodingLimits.from_environment(os.environ)
        warm()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: `pixels` (1, 3, H, W) float32 in [-1, 1]. A bad picture fails alone."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        image, rule = (_bytes(request, name) for name in ("image", "size_rule"))
        try:
            picture = decode(image, self._limits, size_rule(rule))
        except InvalidEditError as error:
            fault = pb_utils.TritonError(f"tritouch:{error.code} {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error=fault)
        return pb_utils.InferenceResponse([pb_utils.Tensor(PIXELS, to_tensor(picture))])


def _bytes(request: Any, name: str) -> bytes:
    """The one element of a BYTES input."""
    return bytes(pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0])

"""`preprocess`: an encoded picture to a tensor at its working size. Knows one picture, a size rule, and no family."""

import os
from typing import Any

import triton_python_backend_utils as pb_utils

from families.errors import InvalidEditError
from families.interface import MASK, PIXELS
from families.masks import Grid, free
from families.picture import DecodingLimits, decode, to_tensor, warm
from families.sizes import size_rule


class TritonPythonModel:
    """Holds the bounds of one input picture."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises ValueError, naming the variable, when a setting is wrong."""
        self._limits = DecodingLimits.from_environment(os.environ)
        warm()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: `pixels` (1, 3, H, W) float32 in [-1, 1], or `mask` (1, 1, h, w), 1 where latents
        may change. A bad picture fails alone."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        image, rule = (_bytes(request, name) for name in ("image", "size_rule"))
        try:
            made = prepared(image, rule, self._limits)
        except InvalidEditError as error:
            fault = pb_utils.TritonError(f"tritouch:{error.code} {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error=fault)
        return pb_utils.InferenceResponse([made])


def prepared(image: bytes, rule: bytes, limits: DecodingLimits) -> Any:
    """The one output that the rule asks for. Raises InvalidEditError."""
    grid = Grid.read(rule)
    if grid:
        return pb_utils.Tensor(MASK, grid.of(free(image, limits)))
    return pb_utils.Tensor(PIXELS, to_tensor(decode(image, limits, size_rule(rule))))


def _bytes(request: Any, name: str) -> bytes:
    """The one element of a BYTES input."""
    return bytes(pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0])
